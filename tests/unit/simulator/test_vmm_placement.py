from typing import Any

import pytest

from tests.support.vmm_inventories import (
    ALONE,
    CLUSTER,
    NODES,
    PARTNER,
    cloud,
    disk,
    fabric,
    host,
    inventory,
    machine,
    store,
    with_records,
)
from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.vmm.brokering import Peer, replica_for, replica_machine
from vmm_simulator.vmm.capacity import GIGABYTE, Needs
from vmm_simulator.vmm.clusters import broker_missing, with_broker_of_vmm
from vmm_simulator.vmm.estate_records import (
    Addressing,
    BrokerRecord,
    CapacityRecord,
    ClusterRecord,
)
from vmm_simulator.vmm.fitness import Status, status, unfit_for_protection
from vmm_simulator.vmm.inventory import Inventory
from vmm_simulator.vmm.migration import check_migration
from vmm_simulator.vmm.placement import (
    Place,
    Wish,
    check_cloud_capacity,
    place_replica,
)
from vmm_simulator.vmm.records import FabricRecord, HostRecord, MachineRecord, NicRecord
from wire_contract.cluster_names import broker_name
from wire_contract.vocabulary import RunState

STATIC = ClusterRecord(name=CLUSTER, addressing=Addressing.STATIC)
DHCP = ClusterRecord(name=CLUSTER)


def placed(
    *hosts: HostRecord,
    machines: list[MachineRecord] | None = None,
    on: FabricRecord | None = None,
    wish: Wish | None = None,
) -> Place:
    return place_replica(on or fabric(), hosts, machines or [], PARTNER, wish or Wish())


@pytest.mark.parametrize(
    ("changes", "on", "wish", "reason"),
    [
        ({"replica_port": None}, fabric(), Wish(), "it is not prepared for replication"),
        ({"allowed_primaries": {}}, fabric(), Wish(), f"it does not authorise {PARTNER}"),
        (
            {"cluster": CLUSTER},
            fabric(clusters=(STATIC,)),
            Wish(),
            "has static addresses, so create the broker by hand",
        ),
        ({"cluster": CLUSTER}, fabric(clusters=(DHCP,)), Wish(), "no Hyper-V Replica Broker yet"),
        (
            {"logical_networks": ()},
            fabric(),
            Wish(network_ids=("production",)),
            "the logical network of VM network production is not attached to it",
        ),
        ({}, fabric(), Wish(network_ids=("gone",)), "VM network gone is not attached"),
        (
            {"memory_megabytes": 1000},
            fabric(),
            Wish(Needs(memory_megabytes=1001)),
            "1001 MB of memory are needed, 1000 are free",
        ),
        ({"processors": 1}, fabric(), Wish(Needs(processors=2)), "2 processors are needed, 1 are"),
    ],
)
def test_a_host_that_something_speaks_against_is_named_with_it(
    changes: dict[str, Any], on: FabricRecord, wish: Wish, reason: str
) -> None:
    with pytest.raises(RefusedError, match=f"{ALONE}: .*{reason}") as refusal:
        placed(host(ALONE, **changes), on=on, wish=wish)
    assert refusal.value.code == Code.NO_SUITABLE_HOST
    good = host("good.example")
    assert placed(host(ALONE, **changes), good, on=fabric(), wish=Wish()) is not None


def test_a_replica_is_never_where_its_primary_is() -> None:
    """Two clouds of one server may have a host, or a cluster, in common."""
    with pytest.raises(RefusedError, match=f"{PARTNER}: the machine itself runs there"):
        placed(host(PARTNER))
    assert placed(host(PARTNER), host(ALONE)).host.fqdn == ALONE
    broker = BrokerRecord(name=broker_name(CLUSTER), made_by_vmm=True)
    whole = fabric(clusters=(DHCP.model_copy(update={"broker": broker}),))
    wish = Wish(primary_brokers=(broker.name,))
    with pytest.raises(RefusedError, match="or in its cluster"):
        placed(host(ALONE, cluster=CLUSTER), on=whole, wish=wish)
    assert placed(host(ALONE, cluster=CLUSTER), on=whole).host.fqdn == ALONE


def test_a_cloud_without_hosts_has_no_place() -> None:
    with pytest.raises(RefusedError, match=f"accepts replication from {PARTNER}"):
        placed()


def test_a_clustered_replica_lies_on_a_shared_volume() -> None:
    place = placed(host(NODES[0], cluster=CLUSTER), wish=Wish(Needs(disk_bytes=10)))
    assert place.store is not None
    assert place.store.store_id == "csv"
    mapped = Wish(Needs(disk_bytes=10), classification_id="silver")
    assert placed(host(NODES[0], cluster=CLUSTER), wish=mapped).store is None


def test_rooms_of_hosts_count_all_machines_on_them() -> None:
    small = host(ALONE, memory_megabytes=2048)
    others = [machine("m1", on=ALONE), machine("m2", on="elsewhere.example")]
    assert placed(small, machines=others).host == small
    with pytest.raises(RefusedError, match="1024 MB of memory are needed, 0 are free"):
        placed(small, machines=[*others, machine("m3", on=ALONE)])


@pytest.mark.parametrize(
    ("capacity", "needs", "words"),
    [
        ({"machines": 1}, Needs(), "1 machines are needed, 0 of 1 are free"),
        ({"quota_points": 1}, Needs(), "1 quota points are needed, 0 of 1 are free"),
        ({"processors": 3}, Needs(processors=3), "3 processors are needed, 2 of 3 are free"),
        ({"memory_megabytes": 2047}, Needs(), "1024 MB of memory are needed, 1023 of 2047"),
        ({"storage_gigabytes": 2}, Needs(disk_bytes=2 * GIGABYTE), "2 GB of storage are needed"),
    ],
)
def test_a_cloud_has_no_more_than_its_capacity(
    capacity: dict[str, int], needs: Needs, words: str
) -> None:
    full = cloud(capacity=CapacityRecord.model_validate(capacity))
    with pytest.raises(RefusedError, match=words):
        check_cloud_capacity(full, [machine()], needs)
    check_cloud_capacity(cloud(), [machine()], needs)


def test_vmm_makes_a_broker_only_where_addresses_are_by_dhcp() -> None:
    made = with_broker_of_vmm(DHCP)
    assert made.broker is not None
    assert (made.broker.name, made.broker.made_by_vmm) == (broker_name(CLUSTER), True)
    assert with_broker_of_vmm(made) == made
    assert with_broker_of_vmm(STATIC) == STATIC
    node = host(NODES[0], cluster=CLUSTER)
    assert broker_missing(fabric(clusters=(made,)), node) is None
    assert broker_missing(fabric(clusters=(STATIC,)), node) is not None
    assert broker_missing(fabric(clusters=(STATIC,)), host(ALONE)) is None
    assert broker_missing(fabric(clusters=()), node) is None


@pytest.mark.parametrize(
    ("changes", "run_state", "expected"),
    [
        ({}, RunState.RUNNING, Status.RUNNING),
        ({}, RunState.OFF, Status.POWER_OFF),
        ({"saved": True}, RunState.OFF, Status.SAVED),
        ({}, RunState.PAUSED, Status.PAUSED),
        ({"reserved": True}, RunState.OFF, Status.CREATING),
        ({"migrating_to": NODES[1]}, RunState.RUNNING, Status.UNDER_MIGRATION),
    ],
)
def test_the_status_of_a_machine(
    changes: dict[str, Any], run_state: RunState, expected: Status
) -> None:
    assert status(machine(**changes), run_state) is expected


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"saved": True}, "it is saved"),
        ({"migrating_to": NODES[1]}, f"it is being moved to {NODES[1]}"),
        ({"disks": ()}, "it has 0 disks"),
        ({"disks": tuple(disk(f"/csv/{each}") for each in range(17))}, "it has 17 disks"),
        ({}, None),
    ],
)
def test_what_a_machine_has_to_be_to_be_protected(
    changed: dict[str, Any], words: str | None
) -> None:
    found = unfit_for_protection(inventory(machine()), machine(**changed), RunState.RUNNING)
    assert found is words is None or (words is not None and words in (found or ""))


def test_a_paused_machine_cannot_be_protected_and_one_that_is_off_can() -> None:
    before = inventory(machine())
    paused = unfit_for_protection(before, machine(), RunState.PAUSED)
    assert paused == "it is paused; resume it or turn it off"
    assert unfit_for_protection(before, machine(), RunState.OFF) is None


def test_clouds_of_other_profiles_and_clusters_without_broker_protect_nothing() -> None:
    other = with_records(inventory(machine()), cloud(capability_profile="ESX Server"))
    assert "ESX Server" in (unfit_for_protection(other, machine(), RunState.OFF) or "")
    bare = with_records(inventory(machine()), fabric(clusters=(STATIC,)))
    assert "create the broker by hand" in (
        unfit_for_protection(bare, machine(), RunState.OFF) or ""
    )
    assert unfit_for_protection(bare, machine(on=ALONE), RunState.OFF) is None


def moving(before: Inventory, target: str = NODES[1]) -> None:
    check_migration(before, before.machines["m1"], before.hosts[target])


def test_a_machine_may_move_to_a_node_of_its_cluster() -> None:
    moving(inventory(machine()))
    moving(inventory(machine(migrating_to=NODES[1])))
    moving(inventory(machine(protected_item="item")))


@pytest.mark.parametrize(
    ("before", "target", "words"),
    [
        (inventory(machine()), ALONE, "are not nodes of one cluster"),
        (inventory(machine(reserved=True)), NODES[1], "is only placed"),
        (inventory(machine(migrating_to=ALONE)), NODES[1], f"is being moved to {ALONE}"),
        (
            inventory(machine(disks=(disk("/disks/own.img"),))),
            NODES[1],
            "own.img of machine m1 lies in no store that",
        ),
        (
            with_records(
                inventory(machine()), host(NODES[1], cluster=CLUSTER, logical_networks=())
            ),
            NODES[1],
            "does not reach VM network production",
        ),
        (
            with_records(inventory(machine()), host(NODES[1], cluster=CLUSTER, memory_megabytes=1)),
            NODES[1],
            "has no room: 1024 MB of memory",
        ),
    ],
)
def test_a_migration_that_cannot_be_is_refused(before: Inventory, target: str, words: str) -> None:
    with pytest.raises(RefusedError, match=words) as refusal:
        moving(before, target)
    assert refusal.value.code == Code.INVALID_STATE


@pytest.mark.parametrize(
    "changes",
    [
        {"replica_port": None},
        {"certificate_thumbprint": None},
        {"allowed_primaries": {"another": (PARTNER,)}},
        {"host_group": "elsewhere"},
    ],
)
def test_a_migration_that_would_end_the_protection_is_23848(changes: dict[str, Any]) -> None:
    target = host(NODES[1], cluster=CLUSTER, **changes)
    with pytest.raises(RefusedError, match="could break the recovery protection") as refusal:
        moving(with_records(inventory(machine(protected_item="item")), target))
    assert refusal.value.code == 23848
    moving(with_records(inventory(machine()), target))


KERBEROS = {"port": 8083, "authentication": "kerberos"}


@pytest.mark.parametrize(
    ("changes", "moves"),
    [
        ({"replica_ports": {"cloud": {"port": 8084}}}, True),
        ({"replica_ports": {"another": {"port": 8084}}}, False),
        ({"replica_ports": {"cloud": KERBEROS}, "keytab": "/k"}, True),
        ({"replica_ports": {"cloud": KERBEROS}}, False),
    ],
)
def test_a_protected_machine_moves_where_its_own_pairing_is_set_up(
    changes: dict[str, Any], *, moves: bool
) -> None:
    kerberos = KERBEROS in changes["replica_ports"].values()
    thumbprint = {"certificate_thumbprint": None} if kerberos else {}
    target = host(NODES[1], cluster=CLUSTER, **changes, **thumbprint)
    before = with_records(inventory(machine(protected_item="item")), target)
    if moves:
        moving(before)
        return
    with pytest.raises(RefusedError, match="could break the recovery protection"):
        moving(before)


def test_a_host_of_two_clouds_takes_replicas_of_the_prepared_one_alone() -> None:
    ports = {"cloud": {"port": 8084}, "another": {"port": 8085}}
    node = host(ALONE, replica_ports=ports, replica_port=8085)
    assert [node.port_of(each) for each in ("cloud", "another", "third")] == [8084, 8085, None]
    for cloud_id in ("cloud", "another"):
        place_replica(fabric(), [node], [], PARTNER, Wish(cloud_id=cloud_id))
    with pytest.raises(RefusedError, match="not prepared for replication"):
        place_replica(fabric(), [node], [], PARTNER, Wish(cloud_id="third"))


def test_unconnected_adapters_go_everywhere() -> None:
    bare = host(NODES[1], cluster=CLUSTER, logical_networks=())
    moving(with_records(inventory(machine(nics=(NicRecord(nic_id="n"),))), bare))


def replicating(machine_id: str, on: str, mode: str = "Replica") -> MachineRecord:
    relationship = {
        "relationship_id": "r",
        "mode": mode,
        "state": 3,
        "peer_host": PARTNER,
        "peer_port": 8084,
        "peer_machine_id": "p",
        "interval_seconds": 30,
        "established_at": "2026-01-01T00:00:00Z",
    }
    return machine(machine_id, on=on, relationship=relationship)


def test_a_replica_is_found_on_its_node_and_told_of_from_the_other() -> None:
    before = inventory(replicating("m1", NODES[1]))
    assert replica_for(before, NODES[1], "r", Peer(PARTNER.upper())).machine_id == "m1"
    with pytest.raises(RefusedError, match=f"was moved from {NODES[0]} to {NODES[1]}") as refusal:
        replica_for(before, NODES[0], "r", Peer(PARTNER))
    assert refusal.value.code == Code.MACHINE_MOVED
    for asked in NODES:
        assert replica_machine(before, asked, "r", Peer(PARTNER)).host == NODES[1]


def test_a_copy_on_its_way_takes_nothing_for_now() -> None:
    before = inventory(replicating("m1", NODES[0]).model_copy(update={"migrating_to": NODES[1]}))
    for asked in (PARTNER, PARTNER.upper()):
        with pytest.raises(RefusedError, match=f"is being moved to {NODES[1]}") as refusal:
            replica_for(before, NODES[0], "r", Peer(asked))
        assert refusal.value.code == Code.NOT_AVAILABLE


def test_a_stranger_is_told_nothing() -> None:
    before = inventory(replicating("m1", NODES[1]))
    for asked in (*NODES, ALONE):
        with pytest.raises(RefusedError) as refusal:
            replica_for(before, asked, "r", Peer("stranger.example"))
        assert refusal.value.code == Code.NOT_FOUND
        with pytest.raises(RefusedError):
            replica_machine(before, asked, "r", Peer("stranger.example"))
    with pytest.raises(RefusedError, match="relationship other"):
        replica_for(before, NODES[1], "other", Peer(PARTNER))
    with pytest.raises(RefusedError, match="relationship r"):
        replica_for(before, ALONE, "r", Peer(PARTNER))


def test_the_other_end_may_have_moved_within_its_trust_group() -> None:
    both = {"cloud": (PARTNER, "partner2.example")}
    node = host(NODES[1], cluster=CLUSTER, allowed_primaries=both)
    before = with_records(inventory(replicating("m1", NODES[1])), node)
    assert replica_for(before, NODES[1], "r", Peer("partner2.example")).machine_id == "m1"
    # A replica that moved asks its primary, which may be somewhere else by now too.
    primary = with_records(inventory(replicating("m1", NODES[1], "Primary")), node)
    assert replica_for(primary, NODES[1], "r", Peer("partner2.example")).machine_id == "m1"
    with pytest.raises(RefusedError, match="was moved") as refusal:
        replica_for(primary, NODES[0], "r", Peer("partner2.example"))
    assert refusal.value.code == Code.MACHINE_MOVED
    assert replica_machine(primary, NODES[0], "r", Peer("partner2.example")).host == NODES[1]
    with pytest.raises(RefusedError, match="relationship r"):
        replica_for(primary, NODES[1], "r", Peer("partner3.example"))


def test_without_a_broker_nobody_says_where_a_replica_went() -> None:
    bare = with_records(
        inventory(replicating("m1", NODES[1])), fabric(clusters=(DHCP,), stores=(store("csv"),))
    )
    with pytest.raises(RefusedError, match="has no Hyper-V Replica Broker"):
        replica_machine(bare, NODES[0], "r", Peer(PARTNER))
    assert replica_machine(bare, NODES[1], "r", Peer(PARTNER)).host == NODES[1]
