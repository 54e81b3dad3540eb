"""A machine that moves among the servers of a trust group goes on replicating to a host."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.support.vmm_inventories import ALONE, fabric, host, machine
from vmm_simulator.hyperv.authorisation import AuthorisationEntry, Authorisations
from vmm_simulator.problems import RefusedError
from vmm_simulator.vmm.brokering import Peer, replica_for
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
        assert replica_for(before, ALONE, "r", Peer(peer)).machine_id == "m1"


def test_a_server_of_another_group_may_not_speak_for_it() -> None:
    with pytest.raises(RefusedError, match="relationship r"):
        replica_for(inventory(TOKYO, NAGOYA), ALONE, "r", Peer(ELSEWHERE))
    alone = AuthorisationEntry(primary=TO, trust_group="of its own")
    with pytest.raises(RefusedError, match="relationship r"):
        replica_for(inventory(TOKYO, alone), ALONE, "r", Peer(TO))


def test_nodes_of_a_cluster_are_let_in_by_their_brokers_entry() -> None:
    by_broker = AuthorisationEntry(
        primary="broker.tokyo.example", trust_group="tokyo", storage_location="/volumes/cluster"
    )
    before = inventory(by_broker)
    receiving, broker = before.hosts[ALONE], ("broker.tokyo.example",)
    relationship = before.machines["m1"].relationship
    assert relationship is not None
    known = relationship.model_copy(update={"peer_broker": broker[0]})
    replica = before.machines["m1"].model_copy(update={"relationship": known})
    before = replace(before, machines={"m1": replica})
    for node in (FROM, TO):
        assert receiving.authorises(node, broker)
        assert not receiving.authorises(node)
        assert replica_for(before, ALONE, "r", Peer(node, broker)).machine_id == "m1"
    for stranger in (Peer(TO), Peer(ELSEWHERE), Peer(ELSEWHERE, ("broker.nagoya.example",))):
        with pytest.raises(RefusedError, match="relationship r"):
            replica_for(before, ALONE, "r", stranger)
    folder = disk_folder(receiving, "m1", None, TO, broker)
    assert str(folder) == "/volumes/cluster/Hyper-V Replica/m1"
    # The server's own entry counts before its broker's.
    own = AuthorisationEntry(primary=TO, trust_group="own", storage_location="/volumes/own")
    both = inventory(by_broker, own).hosts[ALONE]
    assert str(disk_folder(both, "m1", None, TO, broker)) == "/volumes/own/Hyper-V Replica/m1"


def test_replicas_are_stored_where_the_entry_says() -> None:
    receiving = inventory(TOKYO, NAGOYA).hosts[ALONE]
    assert str(disk_folder(receiving, "m1", None, TO)) == "/volumes/tokyo/Hyper-V Replica/m1"
    own = f"{receiving.disks_directory}/Hyper-V Replica/m1"
    assert str(disk_folder(receiving, "m1", None, ELSEWHERE)) == own
    assert str(disk_folder(receiving, "m1")) == own
