import pytest

from tests.support.vmm_inventories import (
    ALONE,
    CLUSTER,
    CSV_BYTES,
    NODES,
    disk,
    host,
    inventory,
    machine,
    store,
)
from vmm_simulator.problems import RefusedError
from vmm_simulator.vmm.estate_edits import set_free_bytes
from vmm_simulator.vmm.estate_records import StoreKind, StoreRecord
from vmm_simulator.vmm.machine_edits import create_machine, put_disk
from vmm_simulator.vmm.records import disk_folder
from vmm_simulator.vmm.storage import (
    best_store,
    free_bytes,
    highly_available,
    lies_in,
    store_facts,
    visible_to,
)

NODE = host(NODES[0], cluster=CLUSTER)
SINGLE = host(ALONE)
SHARE = store("smb", kind=StoreKind.SMB, hosts=(NODES[0], ALONE), classification_id="silver")


def test_a_csv_is_seen_by_nodes_and_a_share_by_the_hosts_named() -> None:
    csv = store("csv", cluster=CLUSTER)
    assert [visible_to(csv, each) for each in (NODE, SINGLE)] == [True, False]
    assert [visible_to(SHARE, each) for each in (NODE, SINGLE)] == [True, True]
    assert not visible_to(SHARE, host(NODES[1], cluster=CLUSTER))
    assert not visible_to(store("csv"), SINGLE)


def test_what_is_free_is_the_capacity_without_disks_and_others() -> None:
    csv = store("csv", cluster=CLUSTER, foreign_bytes=50)
    disks = (disk("/csv/a.img", 300), disk("/csv2/b.img", 400))
    assert free_bytes(csv, [machine(disks=disks)]) == CSV_BYTES - 350
    assert free_bytes(csv, [machine(disks=(disk("/csv/a.img", 2000),))]) == 0
    assert lies_in(csv, "/csv/a/b")
    assert not lies_in(csv, "/csvx/a")


@pytest.mark.parametrize(
    ("stores", "classification", "needed", "chosen"),
    [
        # The most free of the classification that holds all.
        (
            [store("a", cluster=CLUSTER), store("b", cluster=CLUSTER, capacity_bytes=1001)],
            "gold",
            1,
            "b",
        ),
        # Among equals the first by id.
        ([store("b", cluster=CLUSTER), store("a", cluster=CLUSTER)], "gold", 1, "a"),
        # The kind may differ: a share for a silver one.
        ([store("a", cluster=CLUSTER), SHARE], "silver", 1, "smb"),
        # No store of the classification, or none that holds all: the host's default folder.
        ([store("a", cluster=CLUSTER)], "silver", 1, None),
        ([store("a", cluster=CLUSTER)], "gold", 1001, None),
        ([store("a", cluster="another.example")], "gold", 1, None),
        # Without a map a clustered host takes a CSV, never a share.
        ([SHARE, store("a", cluster=CLUSTER)], None, 1, "a"),
        ([SHARE], None, 1, None),
    ],
)
def test_the_best_store(
    stores: list[StoreRecord], classification: str | None, needed: int, chosen: str | None
) -> None:
    found = best_store(stores, NODE, [], classification_id=classification, needed_bytes=needed)
    assert (None if found is None else found.store_id) == chosen


def test_a_host_of_its_own_takes_its_default_folder_without_a_map() -> None:
    found = best_store([SHARE], SINGLE, [], classification_id=None, needed_bytes=1)
    assert found is None
    assert str(disk_folder(SINGLE, "m")) == f"/disks/{ALONE}/Hyper-V Replica/m"
    assert str(disk_folder(SINGLE, "m", SHARE)) == "/smb/Hyper-V Replica/m"


def test_the_facts_say_what_speaks_against_a_store() -> None:
    full = store("full", cluster=CLUSTER, capacity_bytes=5)
    foreign = store("foreign", cluster="another.example")
    facts = store_facts(
        [foreign, full, SHARE, store("good", cluster=CLUSTER)],
        NODE,
        [],
        classification_id="gold",
        needed_bytes=10,
    )
    assert facts[0].store.store_id == "good"
    assert {each.store.store_id: each.against for each in facts} == {
        "good": "",
        "full": "10 bytes are needed, 5 are free",
        "foreign": "the host does not see it",
        "smb": "it has another classification",
    }


def test_a_machine_is_highly_available_when_all_its_disks_are_shared() -> None:
    stores = [store("csv", cluster=CLUSTER), SHARE]
    assert highly_available(machine(), NODE, stores)
    mixed = machine(disks=(disk("/csv/a.img"), disk("/smb/b.img")))
    assert not highly_available(mixed, NODE, stores)
    assert not highly_available(machine(), SINGLE, stores)


def test_free_room_is_set_by_what_others_take() -> None:
    before = inventory(machine())
    after = before.after(set_free_bytes(before, "csv", 7))
    assert free_bytes(after.fabric.stores[0], after.machines.values()) == 7
    with pytest.raises(RefusedError, match="cannot have 901 bytes free"):
        set_free_bytes(before, "csv", 901)
    with pytest.raises(RefusedError, match="store elsewhere"):
        set_free_bytes(before, "elsewhere", 1)


def test_disks_need_room_in_their_store() -> None:
    before = inventory(machine())
    with pytest.raises(RefusedError, match="store csv has 900 bytes free, 901 are needed"):
        put_disk(before, "m1", disk("/csv/m1/0.img", 1001).model_copy(update={"disk_id": "0.img"}))
    with pytest.raises(RefusedError, match="store csv has 900 bytes free"):
        create_machine(before, machine("m2", disks=(disk("/csv/m2.img", 901),)))
    grown = before.after(put_disk(before, "m1", disk("/csv/m1/0.img", 1000)))
    assert [each.size_bytes for each in grown.machines["m1"].disks] == [1000]
    added = grown.after(put_disk(grown, "m1", disk("/elsewhere/1.img", 5)))
    assert [each.size_bytes for each in added.machines["m1"].disks] == [1000, 5]


def test_a_disk_never_becomes_smaller() -> None:
    with pytest.raises(RefusedError, match="it only grows"):
        put_disk(inventory(machine()), "m1", disk("/csv/m1/0.img", 99))
