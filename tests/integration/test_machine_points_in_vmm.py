"""Recovery points set at a machine at VMM's console: more than its cloud's are kept."""

from pathlib import Path

from tests.support.simulator_estate import CLOUD, MACHINE, PORT, REPLICA, make_estate
from tests.support.simulator_steps import protect
from vmm_simulator.vmm.relationship_records import RelationshipRecord
from wire_contract.vocabulary import Verb


async def test_what_is_set_at_the_machine_counts_where_it_is_more(tmp_path: Path) -> None:
    estate = make_estate(tmp_path)
    async with estate.both() as (tokyo, osaka):

        def kept() -> tuple[int, int]:
            records = [
                site.site.fabric.store.machine(machine).relationship
                for site, machine in ((tokyo, MACHINE), (osaka, REPLICA))
            ]
            assert all(isinstance(each, RelationshipRecord) for each in records)
            primary, replica = (each.recovery_points for each in records if each is not None)
            return primary, replica

        path = f"/machines/{MACHINE}/recovery-points"
        assert (await tokyo.machine(MACHINE))["recovery_points"] is None
        for wrong in (25, -1, "many"):
            status, _ = await tokyo.manage("PUT", path, {"recovery_points": wrong})
            assert status == 400
        status, view = await tokyo.manage("PUT", path, {"recovery_points": 8})
        assert (status, view["recovery_points"]) == (200, 8)
        await protect(estate, tokyo, osaka)
        assert kept() == (8, 8)
        for points, expected in ((12, 12), (3, 8)):
            settings = {
                "interval_seconds": 30,
                "recovery_points": points,
                "application_consistent_hours": 0,
                "compression": False,
                "authentication": "certificate",
                "replica_port": PORT,
            }
            await tokyo.done(Verb.UPDATE_REPLICATION, CLOUD["tokyo"], settings)
            assert kept()[0] == expected
