import ipaddress
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.vmm_inventories import (
    ALONE,
    fabric,
    host,
    inventory,
    machine,
    pool,
    with_records,
)
from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.vmm.estate_records import GrantRecord, NetworkRecord
from vmm_simulator.vmm.inventory import Inventory
from vmm_simulator.vmm.machine_edits import (
    put_nic,
    release_address,
    remove_machine,
    remove_nic,
    reserve_address,
    with_addresses,
)
from vmm_simulator.vmm.networks import (
    free_count,
    grant,
    overlap,
    pool_of,
    pool_problems,
    subnet_range,
    target_subnet,
    vlan_of,
)
from vmm_simulator.vmm.records import NicRecord
from vmm_simulator.vmm.rules import broken_rules

NETWORK = fabric().networks[0]


def taken(*addresses: str) -> list[GrantRecord]:
    return [GrantRecord(pool_id="pool", address=each, nic_id=f"of-{each}") for each in addresses]


def static(nic_id: str = "m1-nic", address: str | None = None, **changes: object) -> NicRecord:
    values = {"network_id": "production", "subnet": "front", **changes}
    return NicRecord.model_validate(
        {"nic_id": nic_id, "address_type": "Static", "address": address, **values}
    )


def test_the_wanted_address_is_given_when_it_is_free() -> None:
    assert grant(pool(), taken("10.1.0.10"), "nic", "10.1.0.12").address == "10.1.0.12"


@pytest.mark.parametrize("wanted", ["10.1.0.10", "10.1.0.99", "10.9.9.9", None])
def test_otherwise_the_first_free_one_is_given(wanted: str | None) -> None:
    assert grant(pool(), taken("10.1.0.10"), "nic", wanted).address == "10.1.0.11"


def test_an_address_that_is_reserved_is_never_given() -> None:
    kept = pool(reserved=("10.1.0.10", "10.1.0.11"))
    assert grant(kept, [], "nic", "10.1.0.11").address == "10.1.0.12"
    with pytest.raises(RefusedError, match="taken or reserved") as refusal:
        grant(kept, taken("10.1.0.12"), "nic")
    assert refusal.value.code == Code.NO_FREE_ADDRESS


def test_who_asks_again_gets_the_same_and_can_change_to_a_free_one() -> None:
    own = [GrantRecord(pool_id="pool", address="10.1.0.11", nic_id="nic")]
    assert grant(pool(), own, "nic").address == "10.1.0.11"
    assert grant(pool(), own, "nic", "10.1.0.12").address == "10.1.0.12"
    both = own + taken("10.1.0.12")
    assert grant(pool(), both, "nic", "10.1.0.12").address == "10.1.0.11"


def test_other_pools_grants_do_not_count() -> None:
    elsewhere = [GrantRecord(pool_id="other", address="10.1.0.10", nic_id="nic")]
    assert grant(pool(), elsewhere, "nic").address == "10.1.0.10"
    assert free_count(pool(reserved=("10.1.0.12", "10.8.8.8")), elsewhere) == 2


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 12)), max_size=30))
def test_no_address_is_ever_given_twice(asks: Sequence[tuple[str, int]]) -> None:
    five = pool(last="10.1.0.14", reserved=("10.1.0.13",))
    held: dict[str, GrantRecord] = {}
    for nic_id, wanted in asks:
        try:
            held[nic_id] = grant(five, held.values(), nic_id, f"10.1.0.{wanted}")
        except RefusedError:
            assert len(held) == 4
            assert nic_id not in held
    addresses = [each.address for each in held.values()]
    assert len(addresses) == len(set(addresses))
    inside = ipaddress.summarize_address_range(
        ipaddress.IPv4Address("10.1.0.10"), ipaddress.IPv4Address("10.1.0.14")
    )
    ranges = list(inside)
    assert all(any(ipaddress.IPv4Address(each) in one for one in ranges) for each in addresses)
    assert "10.1.0.13" not in addresses


@pytest.mark.parametrize(
    ("text", "range_", "vlan"),
    [
        ("10.1.0.0/24", "10.1.0.0/24", None),
        ("10.1.9.0/24-9 0", "10.1.9.0/24", 9),
        ("10.1.9.0/24-x 0", "10.1.9.0/24", None),
        ("10.1.9.1/24", None, None),
        ("fe80::/64", None, None),
        ("", None, None),
    ],
)
def test_an_entry_of_a_subnet(text: str, range_: str | None, vlan: int | None) -> None:
    found = subnet_range(text)
    assert (None if found is None else str(found)) == range_
    assert vlan_of(text) == vlan


@given(st.text(max_size=40))
def test_any_entry_of_a_subnet_is_read_or_none(text: str) -> None:
    found = subnet_range(text)
    assert found is None or isinstance(found, ipaddress.IPv4Network)
    assert vlan_of(text) is None or vlan_of(text) is not None


def test_the_target_subnet_has_the_same_name_or_is_the_first() -> None:
    assert target_subnet(NETWORK, "back") == NETWORK.subnets[1]
    assert target_subnet(NETWORK, "elsewhere") == NETWORK.subnets[0]
    assert target_subnet(NETWORK, None) == NETWORK.subnets[0]
    bare = NetworkRecord(network_id="n", name="n", network_type="NoIsolation", logical_network="l")
    assert target_subnet(bare, "front") is None


def test_the_pool_of_the_subnet_comes_before_one_of_the_whole_network() -> None:
    whole, front = pool(pool_id="a", subnet=None), pool(pool_id="b")
    assert pool_of([whole, front], "production", "front") == front
    assert pool_of([whole, front], "production", "back") == whole
    assert pool_of([front], "production", "back") is None
    assert pool_of([front], "another", "front") is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"first": "10.1.0.9x"}, "are no IPv4 addresses"),
        ({"first": "fe80::1"}, "are no IPv4 addresses"),
        ({"first": "10.1.0.13"}, "is no range of 1 to"),
        ({"last": "10.3.0.0"}, "is no range of 1 to"),
        ({"subnet": "nowhere"}, "has no subnet nowhere"),
        ({"subnet": "back"}, "lies in no subnet"),
        ({"last": "10.1.1.4"}, "lies in no subnet"),
        ({"subnet": None, "first": "10.7.0.1", "last": "10.7.0.2"}, "lies in no subnet"),
    ],
)
def test_a_pool_that_cannot_be_is_named(changes: dict[str, str], sentence: str) -> None:
    (problem,) = pool_problems(pool(**changes), NETWORK)
    assert sentence in problem


def test_pools_of_one_network_overlap_or_not() -> None:
    assert overlap(pool(), pool(first="10.1.0.12", last="10.1.0.20"))
    assert not overlap(pool(), pool(first="10.1.0.13", last="10.1.0.20"))
    assert not overlap(pool(), pool(network_id="another"))


def addressed(before: Inventory, machine_id: str = "m1") -> Inventory:
    return before.after(with_addresses(before, before.machines[machine_id]))


def test_a_static_adapter_gets_an_address_and_gives_it_back() -> None:
    before = inventory(machine(nics=(static(),)))
    after = addressed(before)
    assert after.machines["m1"].nics[0].address == "10.1.0.10"
    assert [each.nic_id for each in after.grants.values()] == ["m1-nic"]
    assert not tuple(broken_rules(after))
    again = addressed(after)
    assert (again.machines, again.grants) == (after.machines, after.grants)
    dynamic = NicRecord(nic_id="m1-nic", network_id="production")
    assert not after.after(put_nic(after, "m1", dynamic)).grants
    assert not after.after(remove_nic(after, "m1", "m1-nic")).grants
    gone = after.after(remove_machine(after, "m1"))
    assert (gone.machines, gone.grants) == ({}, {})


def test_an_adapter_that_is_put_again_keeps_or_changes_its_address() -> None:
    before = addressed(inventory(machine(nics=(static(),))))
    same = before.after(put_nic(before, "m1", static(address="10.1.0.10")))
    assert same.grants == before.grants
    other = before.after(put_nic(before, "m1", static(address="10.1.0.12")))
    assert [each.address for each in other.grants.values()] == ["10.1.0.12"]
    assert other.machines["m1"].nics[0].address == "10.1.0.12"


def test_a_static_address_that_is_taken_or_has_no_pool_is_refused() -> None:
    before = addressed(inventory(machine(nics=(static(),))))
    second = with_records(before, machine("m2", nics=()))
    with pytest.raises(RefusedError, match=r"10\.1\.0\.10 is not free") as refusal:
        put_nic(second, "m2", static("m2-nic", "10.1.0.10"))
    assert refusal.value.code == Code.NO_FREE_ADDRESS
    with pytest.raises(RefusedError, match="has no IP pool"):
        put_nic(second, "m2", static("m2-nic", subnet="back"))


def test_an_adapter_joins_only_a_network_that_its_host_reaches() -> None:
    far = host(ALONE, logical_networks=())
    before = with_records(inventory(machine(on=ALONE, nics=())), far)
    with pytest.raises(RefusedError, match="does not reach VM network production"):
        put_nic(before, "m1", static())


def test_an_address_is_reserved_and_released_by_pool_and_adapter() -> None:
    before = inventory(machine())
    edit, given = reserve_address(before, "pool", "m1-nic", "10.1.0.11")
    after = before.after(edit)
    assert given.address == "10.1.0.11"
    moved, given = reserve_address(after, "pool", "m1-nic", "10.1.0.12")
    assert [each.address for each in after.after(moved).grants.values()] == ["10.1.0.12"]
    assert not after.after(release_address(after, "pool", "m1-nic")).grants
    assert after.after(release_address(after, "pool", "stranger")) == after
    with pytest.raises(RefusedError, match="IP pool elsewhere"):
        reserve_address(before, "elsewhere", "m1-nic", None)
    with pytest.raises(RefusedError, match="no IPv4 address"):
        reserve_address(before, "pool", "m1-nic", "ten")
