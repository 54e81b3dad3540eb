"""Over 400 lines because the table of broken rules has a row for each of them."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.vmm_inventories import (
    ALONE,
    CLUSTER,
    NODES,
    cloud,
    disk,
    fabric,
    host,
    inventory,
    machine,
    pool,
    store,
    with_records,
)
from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.vmm.estate_edits import (
    PARTS,
    checked,
    make_broker,
    put_cloud,
    put_host,
    put_part,
    remove_broker,
    remove_cloud,
    remove_host,
    remove_part,
)
from vmm_simulator.vmm.estate_records import (
    ClusterRecord,
    FileShareRecord,
    GrantRecord,
    LibraryShareRecord,
    LogicalNetworkRecord,
    NetworkRecord,
    NetworkSiteRecord,
    StoreKind,
    SubnetRecord,
    SubnetVlanRecord,
)
from vmm_simulator.vmm.inventory import Edit, Inventory, worth_telling
from vmm_simulator.vmm.machine_edits import create_machine, remove_machine
from vmm_simulator.vmm.records import HostGroupRecord, NicRecord
from vmm_simulator.vmm.rules import RULES, broken_rules, check

WHOLE = inventory(machine())
NETWORK = WHOLE.fabric.networks[0]


def part(kind: str, record: Any) -> Inventory:
    return WHOLE.after(put_part(WHOLE, kind, record))


def logical(**changes: Any) -> Inventory:
    values = {"logical_network_id": "second", "name": "second", **changes}
    return part("logical-networks", LogicalNetworkRecord.model_validate(values))


def network(**changes: Any) -> Inventory:
    values = {
        "network_id": "second",
        "name": "second",
        "network_type": "VLANNetwork",
        "logical_network": "logical",
        **changes,
    }
    return part("networks", NetworkRecord.model_validate(values))


def site(**changes: Any) -> Inventory:
    values = {"site_id": "site", "name": "site", **changes}
    return logical(sites=(NetworkSiteRecord.model_validate(values),))


def changed(**changes: Any) -> Inventory:
    return with_records(WHOLE, machine(**changes))


BROKEN: dict[str, tuple[Callable[[], Inventory], str]] = {
    "a host without a group": (
        lambda: with_records(WHOLE, host("x.example", host_group="gone")),
        "host x.example: there is no host group gone",
    ),
    "a cloud without host groups": (
        lambda: with_records(WHOLE, cloud(cloud_id="c", name="c", host_groups=())),
        "cloud c: a cloud is made of at least one host group",
    ),
    "a cloud of an unknown group": (
        lambda: with_records(WHOLE, cloud(cloud_id="c", name="c", host_groups=("gone",))),
        "cloud c: there is no host group gone",
    ),
    "two clouds of one name": (
        lambda: with_records(WHOLE, cloud(cloud_id="c", name="CLOUD")),
        "cloud cloud is there 2 times",
    ),
    "an unknown capability profile": (
        lambda: with_records(WHOLE, cloud(capability_profile="Abacus")),
        "no capability profile Abacus",
    ),
    "a cloud paired with itself": (
        lambda: with_records(WHOLE, cloud(partner_cloud_id="cloud")),
        "cloud cloud is paired with itself",
    ),
    "two host groups at one place": (
        lambda: part("host-groups", HostGroupRecord(group_id="g2", name="Group", path="All Hosts")),
        "host group all hosts\\group is there 2 times",
    ),
    "a host of an unknown cluster": (
        lambda: with_records(WHOLE, host("x.example", cluster="gone.example")),
        "host x.example: there is no cluster gone.example",
    ),
    "a cluster called like a host": (
        lambda: part("clusters", ClusterRecord(name=ALONE)),
        f"cluster, broker or host {ALONE} is there 2 times",
    ),
    "a cluster of two versions": (
        lambda: with_records(WHOLE, host("x.example", cluster=CLUSTER, version="2012")),
        f"cluster {CLUSTER}: its nodes run different versions",
    ),
    "two logical networks of one name": (
        lambda: logical(name="LOGICAL"),
        "logical network logical is there 2 times",
    ),
    "a logical network at an unknown cloud": (
        lambda: logical(cloud_ids=("gone",)),
        "logical network second: there is no cloud gone",
    ),
    "a network site at an unknown host group": (
        lambda: site(host_groups=("gone",)),
        "network site site of logical network second: there is no host group gone",
    ),
    "a network site with a subnet that is none": (
        lambda: site(subnets=(SubnetVlanRecord(subnet="10.1.0.1/24"),)),
        "network site site: 10.1.0.1/24 is no IPv4 subnet",
    ),
    "a host at an unknown logical network": (
        lambda: with_records(WHOLE, host("x.example", logical_networks=("gone",))),
        "host x.example: there is no logical network gone",
    ),
    "a second network without isolation": (
        lambda: network(network_type="NoIsolation"),
        "logical network logical has 2 VM networks without isolation; it can have one",
    ),
    "an unknown isolation": (
        lambda: network(network_type="Fence"),
        "VM network second: there is no isolation Fence",
    ),
    "network virtualization where it is not allowed": (
        lambda: network(network_type="WindowsNetworkVirtualization"),
        "VM network second: logical network logical does not allow network virtualization",
    ),
    "a network on an unknown logical network": (
        lambda: network(logical_network="gone"),
        "VM network second: there is no logical network gone",
    ),
    "two networks of one name": (
        lambda: network(name="production"),
        "VM network production is there 2 times",
    ),
    "a subnet that is none": (
        lambda: network(subnets=(SubnetRecord(name="s", address_list=("ten",)),)),
        "VM network second, subnet s: ten is no IPv4 subnet",
    ),
    "two subnets of one name": (
        lambda: network(subnets=(SubnetRecord(name="s"), SubnetRecord(name="S"))),
        "subnet of VM network second s is there 2 times",
    ),
    "a pool of an unknown network": (
        lambda: part("ip-pools", pool(pool_id="p2", name="p2", network_id="gone")),
        "IP pool p2: there is no VM network gone",
    ),
    "two pools with one address": (
        lambda: part(
            "ip-pools", pool(pool_id="p2", name="p2", first="10.1.0.12", last="10.1.0.13")
        ),
        "IP pools pool and p2 have addresses in common",
    ),
    "a gateway that is no address": (
        lambda: part("ip-pools", pool(gateways=("gate",))),
        "IP pool pool: gate is no IPv4 address",
    ),
    "a grant outside its pool": (
        lambda: with_records(
            WHOLE, GrantRecord(pool_id="pool", address="10.1.0.9", nic_id="m1-nic")
        ),
        "the grant of 10.1.0.9: it lies outside IP pool pool",
    ),
    "a grant to an unknown adapter": (
        lambda: with_records(
            WHOLE, GrantRecord(pool_id="pool", address="10.1.0.10", nic_id="gone")
        ),
        "the grant of 10.1.0.10: there is no adapter gone",
    ),
    "a CSV without a cluster": (
        lambda: part("stores", store("s")),
        "store s: a CSV belongs to a cluster",
    ),
    "a CSV of an unknown cluster": (
        lambda: part("stores", store("s", cluster="gone.example")),
        "store s: there is no cluster gone.example",
    ),
    "a store of an unknown classification": (
        lambda: part("stores", store("s", cluster=CLUSTER, classification_id="gone")),
        "store s: there is no storage classification gone",
    ),
    "a share seen by an unknown host": (
        lambda: part("stores", store("s", kind=StoreKind.SMB, hosts=("gone",))),
        "store s: there is no host gone",
    ),
    "a local folder seen by two hosts": (
        lambda: part("stores", store("s", kind=StoreKind.LOCAL, hosts=NODES)),
        "store s: a local folder is seen by one host",
    ),
    "a store in a relative folder": (
        lambda: part("stores", store("s", cluster=CLUSTER, folder="here")),
        "store s: here is no absolute folder",
    ),
    "two stores in one folder": (
        lambda: part("stores", store("s", cluster=CLUSTER, folder="/csv")),
        "store folder /csv is there 2 times",
    ),
    "a file share without a UNC name": (
        lambda: part("file-shares", FileShareRecord(unc="share", folder="/f", server="s.example")),
        "file share share: it is named",
    ),
    "a file share in a relative folder": (
        lambda: part(
            "file-shares", FileShareRecord(unc="\\\\s\\f", folder="f", server="s.example")
        ),
        "f is no absolute folder",
    ),
    "a machine in an unknown cloud": (
        lambda: changed(cloud_id="gone"),
        "machine m1: there is no cloud gone",
    ),
    "a machine on an unknown host": (
        lambda: changed(host="gone"),
        "machine m1: there is no host gone",
    ),
    "a machine on a host of another cloud": (
        lambda: with_records(
            part("host-groups", HostGroupRecord(group_id="g2", name="g2", path="All Hosts")),
            host(NODES[0], cluster=CLUSTER, host_group="g2"),
        ),
        f"machine m1: its host {NODES[0]} is in no host group of cloud cloud",
    ),
    "a machine without disks": (
        lambda: changed(disks=()),
        "machine m1 has 0 disks; it can have 1 to 16",
    ),
    "a machine with 17 disks": (
        lambda: changed(disks=tuple(disk(f"/csv/{each}.img") for each in range(17))),
        "machine m1 has 17 disks",
    ),
    "a machine with 13 adapters": (
        lambda: changed(nics=tuple(NicRecord(nic_id=f"n{each}") for each in range(13))),
        "machine m1 has 13 adapters; 12 are the most",
    ),
    "two machines on one file": (
        lambda: with_records(WHOLE, machine("m2", disks=(disk("/csv/m1/0.img"),), nics=())),
        "disk file /csv/m1/0.img is there 2 times",
    ),
    "two adapters of one id": (
        lambda: with_records(WHOLE, machine("m2", nics=(NicRecord(nic_id="m1-nic"),))),
        "adapter m1-nic is there 2 times",
    ),
    "an adapter with an unknown kind of address": (
        lambda: changed(nics=(NicRecord(nic_id="n", address_type="Magic"),)),
        "an address is Static or Dynamic, not Magic",
    ),
    "an adapter on an unknown network": (
        lambda: changed(nics=(NicRecord(nic_id="n", network_id="gone"),)),
        "adapter n of machine m1: there is no VM network gone",
    ),
    "an adapter on an unknown subnet": (
        lambda: changed(nics=(NicRecord(nic_id="n", network_id="production", subnet="gone"),)),
        "adapter n of machine m1: there is no subnet gone",
    ),
    "two library shares of one name": (
        lambda: with_records(
            WHOLE,
            fabric(library_shares=(LibraryShareRecord(unc="a"), LibraryShareRecord(unc="A"))),
        ),
        "library share a is there 2 times",
    ),
}


def test_a_whole_inventory_breaks_no_rule() -> None:
    assert not tuple(broken_rules(WHOLE))


@pytest.mark.parametrize("name", BROKEN)
def test_each_broken_rule_is_said_in_a_sentence(name: str) -> None:
    make, sentence = BROKEN[name]
    broken = make()
    assert any(sentence in each for each in broken_rules(broken)), tuple(broken_rules(broken))
    with pytest.raises(RefusedError) as refusal:
        check(WHOLE, broken)
    assert refusal.value.code == Code.RULE_BROKEN


def test_the_cases_cover_all_rules_but_the_limits() -> None:
    met = {rule.__name__ for make, _ in BROKEN.values() for rule in RULES if tuple(rule(make()))}
    assert met == {rule.__name__ for rule in RULES} - {"_limits"}


def test_too_much_of_anything_is_refused() -> None:
    groups = tuple(
        HostGroupRecord(group_id=f"g{each}", name=f"g{each}", path="p") for each in range(1000)
    )
    crowded = with_records(WHOLE, fabric(host_groups=(*WHOLE.fabric.host_groups, *groups)))
    assert "there are 1001 host groups; 1000 are the most" in tuple(broken_rules(crowded))


def test_a_rule_that_was_broken_before_does_not_stand_in_the_way() -> None:
    old = BROKEN["a second network without isolation"][0]()
    check(old, old.after(put_cloud(old, cloud(cloud_id="new", name="new"))))
    with pytest.raises(RefusedError, match="no capability profile"):
        check(old, with_records(old, cloud(capability_profile="Abacus")))


@pytest.mark.parametrize("kind", PARTS)
def test_parts_are_put_replaced_and_removed(kind: str) -> None:
    samples: dict[str, Any] = {
        "host-groups": HostGroupRecord(group_id="new", name="new", path="All Hosts"),
        "clusters": ClusterRecord(name="new.example"),
        "logical-networks": LogicalNetworkRecord(logical_network_id="new", name="new"),
        "networks": NETWORK.model_copy(
            update={"network_id": "new", "name": "new", "network_type": "VLANNetwork"}
        ),
        "ip-pools": pool(pool_id="new", name="new", first="10.1.0.20", last="10.1.0.21"),
        "classifications": WHOLE.fabric.classifications[0].model_copy(
            update={"classification_id": "new", "name": "new"}
        ),
        "stores": store("new", cluster=CLUSTER),
        "library-shares": LibraryShareRecord(unc="\\\\s\\new", folder="/new"),
        "file-shares": FileShareRecord(unc="\\\\s\\new", folder="/new", server="s.example"),
    }
    record, shape = samples[kind], PARTS[kind]
    key = getattr(record, shape.key)
    put = WHOLE.after(checked(lambda each: put_part(each, kind, record))(WHOLE))
    assert record in getattr(put.fabric, shape.field)
    assert put.after(put_part(put, kind, record)) == put
    assert put.after(checked(lambda each: remove_part(each, kind, key))(put)) == WHOLE
    with pytest.raises(RefusedError, match=re.escape(f"{shape.noun} {key}")) as refusal:
        remove_part(WHOLE, kind, key)
    assert refusal.value.code == Code.NOT_FOUND


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("host-groups", "group"),
        ("clusters", CLUSTER),
        ("logical-networks", "logical"),
        ("networks", "production"),
        ("classifications", "gold"),
    ],
)
def test_what_others_refer_to_cannot_go(kind: str, key: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        checked(lambda each: remove_part(each, kind, key))(WHOLE)
    assert refusal.value.code == Code.RULE_BROKEN


def test_a_host_with_machines_cannot_go_and_a_changed_one_stays_prepared() -> None:
    with pytest.raises(RefusedError, match=f"there is no host {NODES[0]}"):
        checked(lambda each: remove_host(each, NODES[0]))(WHOLE)
    assert ALONE not in WHOLE.after(remove_host(WHOLE, ALONE)).hosts
    with pytest.raises(RefusedError, match="host gone"):
        remove_host(WHOLE, "gone")
    bare = host(ALONE, replica_port=None, allowed_primaries={}, processors=4)
    kept = WHOLE.after(put_host(WHOLE, bare)).hosts[ALONE]
    assert (kept.replica_port, kept.processors, kept.certificate_thumbprint) == (8084, 4, "aa")
    added = WHOLE.after(put_host(WHOLE, host("new.example", replica_port=None)))
    assert added.hosts["new.example"].replica_port is None


def test_a_paired_cloud_keeps_its_partner_and_cannot_go() -> None:
    paired = with_records(inventory(), cloud(paired_role="Primary", partner_cloud_id="elsewhere"))
    renamed = paired.after(put_cloud(paired, cloud(name="renamed"))).clouds["cloud"]
    assert (renamed.name, renamed.partner_cloud_id) == ("renamed", "elsewhere")
    with pytest.raises(RefusedError, match="is paired with cloud elsewhere"):
        remove_cloud(paired, "cloud")
    with pytest.raises(RefusedError, match="cloud gone"):
        remove_cloud(paired, "gone")
    with pytest.raises(RefusedError, match="there is no cloud cloud"):
        checked(lambda each: remove_cloud(each, "cloud"))(WHOLE)


def test_a_broker_is_made_by_hand_and_stays_while_machines_replicate() -> None:
    bare = WHOLE.after(put_part(WHOLE, "clusters", ClusterRecord(name=CLUSTER)))
    made = bare.after(make_broker(bare, CLUSTER, None))
    cluster = made.fabric.cluster(CLUSTER)
    assert cluster is not None
    assert cluster.broker is not None
    assert (cluster.broker.name, cluster.broker.made_by_vmm) == ("cluster-broker.example", False)
    assert made.after(make_broker(made, CLUSTER, "other.example")) == made
    gone = made.after(remove_broker(made, CLUSTER)).fabric.cluster(CLUSTER)
    assert gone is not None
    assert gone.broker is None
    decisions: tuple[Callable[[Inventory], Edit], ...] = (
        lambda each: make_broker(each, "x", None),
        lambda each: remove_broker(each, "x"),
    )
    for decide in decisions:
        with pytest.raises(RefusedError, match="cluster x"):
            decide(WHOLE)


def test_a_machine_is_created_once_where_there_are_cloud_and_host() -> None:
    with pytest.raises(RefusedError, match="there is a machine m1 already"):
        create_machine(WHOLE, machine())
    with pytest.raises(RefusedError, match="cloud gone"):
        create_machine(WHOLE, machine("m2", cloud_id="gone"))
    with pytest.raises(RefusedError, match="host gone"):
        create_machine(WHOLE, machine("m2", on="gone"))
    assert "m2" in WHOLE.after(create_machine(WHOLE, machine("m2"))).machines


def test_a_protected_machine_is_not_removed() -> None:
    for changes in ({"protected_item": "item"}, {"test_machine_of": "m0"}):
        with pytest.raises(RefusedError, match="is protected, or is a test machine"):
            remove_machine(inventory(machine(**changes)), "m1")


def test_only_news_is_told() -> None:
    one = machine()
    assert worth_telling(None, one)
    assert worth_telling(one, machine(name="other"))
    assert not worth_telling(one, machine())
