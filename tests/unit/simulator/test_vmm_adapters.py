import pytest

from tests.support.vmm_inventories import NODES, fabric, host, inventory, machine, pool
from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.vmm.adapters import Wish, with_adapters
from vmm_simulator.vmm.estate_records import (
    AddressType,
    GrantRecord,
    LogicalNetworkRecord,
    NetworkRecord,
    NetworkSiteRecord,
    SubnetVlanRecord,
)
from vmm_simulator.vmm.inventory import Inventory
from vmm_simulator.vmm.records import FabricRecord, NicRecord
from vmm_simulator.vmm.rules import broken_rules

LOOSE = machine(nics=(NicRecord(nic_id="m1-nic"),))
STATIC = Wish("m1-nic", "production", "front", AddressType.STATIC)
OFF = Wish("m1-nic", None)


def after(before: Inventory, *wishes: Wish) -> Inventory:
    made = before.after(with_adapters(before, before.machines["m1"], wishes))
    assert list(broken_rules(made)) == list(broken_rules(before))
    return made


def taken(*addresses: str) -> dict[str, GrantRecord]:
    """Addresses that another machine's adapter holds."""
    grants = [GrantRecord(pool_id="pool", address=each, nic_id="m2-nic") for each in addresses]
    return {each.grant_id: each for each in grants}


def beside(*addresses: str, at: FabricRecord | None = None) -> Inventory:
    return inventory(LOOSE, machine("m2"), fabric=at or fabric(), grants=taken(*addresses))


@pytest.mark.parametrize(
    ("wanted", "held", "given"),
    [
        ("10.1.0.12", (), "10.1.0.12"),  # the same one, where it is free
        ("10.1.0.12", ("10.1.0.12",), "10.1.0.10"),  # another, where it is not
        ("10.9.0.12", ("10.1.0.10",), "10.1.0.11"),  # or where the pool is of another range
        (None, (), "10.1.0.10"),
    ],
)
def test_a_static_adapter_keeps_its_address_where_it_is_free(
    wanted: str | None, held: tuple[str, ...], given: str
) -> None:
    wish = Wish("m1-nic", "production", "front", AddressType.STATIC, wanted)
    made = after(beside(*held), wish)
    (nic,) = made.machines["m1"].nics
    assert (nic.network_id, nic.subnet, nic.address) == ("production", "front", given)
    assert {each.address for each in made.grants.values() if each.nic_id == "m1-nic"} == {given}
    assert after(made, wish) == made  # asking again changes nothing


def test_an_adapter_that_leaves_a_network_gives_its_address_back() -> None:
    made = after(after(beside(), STATIC), OFF)
    (nic,) = made.machines["m1"].nics
    assert (nic.network_id, nic.subnet, nic.address, nic.vlan) == (None, None, None, None)
    assert not made.grants


def test_adapters_that_are_not_named_stay_and_missing_ones_are_made() -> None:
    made = after(beside(), Wish("new", "production", "back", synthetic=False))
    assert [each.nic_id for each in made.machines["m1"].nics] == ["m1-nic", "new"]
    loose, new = made.machines["m1"].nics
    assert loose == LOOSE.nics[0]
    assert (new.network_id, new.vlan, new.address, new.synthetic) == ("production", 9, None, False)


def test_an_emulated_adapter_reserves_what_nobody_can_write_into_its_guest() -> None:
    wish = Wish("new", "production", "front", AddressType.STATIC, synthetic=False)
    made = after(beside(), wish)
    assert made.machines["m1"].nics[1].address is None
    assert [each.address for each in made.grants.values()] == ["10.1.0.10"]


def test_a_pool_that_is_used_up_or_is_not_there_is_a_refusal() -> None:
    full = beside("10.1.0.10", "10.1.0.11", "10.1.0.12")
    with pytest.raises(RefusedError, match="all addresses") as caught:
        after(full, STATIC)
    assert caught.value.code == Code.NO_FREE_ADDRESS
    without = beside(at=fabric(address_pools=()))
    with pytest.raises(RefusedError, match="no IP pool"):
        after(without, STATIC)
    # DHCP needs none.
    dynamic = Wish("m1-nic", "production", "front")
    assert after(without, dynamic).machines["m1"].nics[0].network_id == "production"


def virtual(*pools: object) -> FabricRecord:
    logical = LogicalNetworkRecord(
        logical_network_id="logical", name="logical", network_virtualization=True
    )
    network = NetworkRecord(
        network_id="virtual",
        name="virtual",
        network_type="WindowsNetworkVirtualization",
        logical_network="logical",
    )
    networks = (*fabric().networks, network)
    return fabric(logical_networks=(logical,), networks=networks, address_pools=pools)


def test_a_virtualised_network_has_addresses_out_of_its_pool_alone() -> None:
    """VMM itself answers DHCP there (behaviour 2.5, isolation)."""
    own = pool(pool_id="own", name="own", network_id="virtual", subnet=None)
    made = after(beside(at=virtual(own)), Wish("m1-nic", "virtual"))
    assert made.machines["m1"].nics[0].address == "10.1.0.10"
    with pytest.raises(RefusedError, match="virtualised"):
        after(beside(at=virtual()), Wish("m1-nic", "virtual"))


def test_without_a_vlan_of_its_own_a_network_has_that_of_the_site_around_the_host() -> None:
    site = NetworkSiteRecord(
        site_id="s",
        name="s",
        host_groups=("group",),
        subnets=(SubnetVlanRecord(subnet="10.1.0.0/24", vlan=7),),
    )
    logical = LogicalNetworkRecord(logical_network_id="logical", name="logical", sites=(site,))
    made = after(beside(at=fabric(logical_networks=(logical,))), STATIC)
    assert made.machines["m1"].nics[0].vlan == 7
    far = site.model_copy(update={"host_groups": ("elsewhere",)})
    other = logical.model_copy(update={"sites": (far,)})
    apart = beside(at=fabric(logical_networks=(other,)))
    edit = with_adapters(apart, apart.machines["m1"], (STATIC,))
    assert apart.after(edit).machines["m1"].nics[0].vlan is None


@pytest.mark.parametrize("wish", [Wish("m1-nic", "gone"), Wish("m1-nic", "production", "gone")])
def test_what_does_not_exist_is_named(wish: Wish) -> None:
    with pytest.raises(RefusedError, match="gone") as caught:
        after(beside(), wish)
    assert caught.value.code == Code.NOT_FOUND


def test_a_host_that_does_not_reach_the_network_is_a_refusal() -> None:
    blind = host(NODES[0], logical_networks=())
    with pytest.raises(RefusedError, match="does not reach"):
        after(inventory(LOOSE, hosts={blind.fqdn: blind}), STATIC)
