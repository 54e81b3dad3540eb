"""A machine that moves among the servers of a trust group goes on replicating to a host."""

from datetime import UTC, datetime

import pytest

from tests.support.vmm_inventories import ALONE, fabric, host, machine
from vmm_simulator.hyperv.authorisation import AuthorisationEntry, Authorisations
from vmm_simulator.problems import RefusedError
from vmm_simulator.vmm.brokering import replica_for
from vmm_simulator.vmm.inventory import Inventory
from vmm_simulator.vmm.records import disk_folder

FROM, TO, ELSEWHERE = "host1.tokyo.example", "host2.tokyo.example", "host1.nagoya.example"
TOKYO = AuthorisationEntry(
    primary="*.tokyo.example", trust_group="tokyo", storage_location="/volumes/tokyo"
)
NAGOYA = AuthorisationEntry(primary=ELSEWHERE, trust_group="nagoya")


def inventory(*entries: AuthorisationEntry) -> Inventory:
    """Return a host with a replica of a machine at FROM, and these entries alone."""
    relationship = {
        "relationship_id": "r",
        "mode": "Replica",
        "state": 3,
        "peer_host": FROM,
        "peer_port": 8084,
        "peer_machine_id": "p1",
        "interval_seconds": 300,
        "established_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    replica = machine("m1", on=ALONE, relationship=relationship)
    receiving = host(ALONE, allowed_primaries={}, authorisations=Authorisations(entries=entries))
    return Inventory(fabric=fabric(), clouds={}, hosts={ALONE: receiving}, machines={"m1": replica})


def test_within_its_group_a_machine_may_come_from_another_server() -> None:
    before = inventory(TOKYO, NAGOYA)
    for peer in (FROM, TO, TO.upper()):
        assert replica_for(before, ALONE, "r", peer).machine_id == "m1"


def test_a_server_of_another_group_may_not_speak_for_it() -> None:
    with pytest.raises(RefusedError, match="relationship r"):
        replica_for(inventory(TOKYO, NAGOYA), ALONE, "r", ELSEWHERE)
    alone = AuthorisationEntry(primary=TO, trust_group="of its own")
    with pytest.raises(RefusedError, match="relationship r"):
        replica_for(inventory(TOKYO, alone), ALONE, "r", TO)


def test_replicas_are_stored_where_the_entry_says() -> None:
    receiving = inventory(TOKYO, NAGOYA).hosts[ALONE]
    assert str(disk_folder(receiving, "m1", None, TO)) == "/volumes/tokyo/Hyper-V Replica/m1"
    own = f"{receiving.disks_directory}/Hyper-V Replica/m1"
    assert str(disk_folder(receiving, "m1", None, ELSEWHERE)) == own
    assert str(disk_folder(receiving, "m1")) == own
