"""A relationship that is there is asked for again: no byte of the first copy moves twice."""

from pathlib import Path

import pytest

from tests.support.simulator_estate import MACHINE, REPLICA, Estate, make_estate
from tests.support.simulator_steps import POLICY, protect
from wire_contract.vocabulary import Verb

CHANGES_BYTES_MAX = 4 * 65_536
"""More than one changed block, far less than a copy."""


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    return make_estate(tmp_path)


async def test_a_relationship_that_is_taken_over_moves_no_byte_again(estate: Estate) -> None:
    """Asked for again with other settings, as when a hub takes it over (behaviour 2.3)."""
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        for site, machine in ((tokyo, MACHINE), (osaka, REPLICA)):
            await site.done(Verb.UPDATE_PROTECTION, machine, {"item": None})
        before = (await tokyo.machine(MACHINE))["replication"]
        assert before["transferred_bytes"] > 4 * CHANGES_BYTES_MAX, "the first copy is in it"
        arguments = {
            **POLICY,
            "recovery_points": 4,
            "relationship_id": before["relationship_id"],
            "replica_machine_id": REPLICA,
            "replica_host": before["peer_host"],
            "replica_port": before["peer_port"],
            "item": MACHINE,
        }
        await tokyo.done(Verb.ENABLE_REPLICATION, MACHINE, arguments)
        await tokyo.done(Verb.START_INITIAL_REPLICATION, MACHINE, {"resynchronize": False})
        await tokyo.guests[MACHINE].write(0, 0, b"goes on", 77)
        await tokyo.until(MACHINE, lambda view: view["replication"]["last_cut_record"] == 77)
        after = (await tokyo.machine(MACHINE))["replication"]
        assert after["state"] == 3
        moved = after["transferred_bytes"] - before["transferred_bytes"]
        assert 0 < moved < CHANGES_BYTES_MAX, "changes alone, no other copy"
        for site, machine in ((tokyo, MACHINE), (osaka, REPLICA)):
            record = site.site.fabric.store.machine(machine)
            assert record.relationship is not None
            assert record.relationship.recovery_points == 4
