from typing import Any

import pytest

from vmm_simulator.problems import RefusedError
from vmm_simulator.vmm.drill_adapters import connecting
from vmm_simulator.vmm.drill_networks import (
    TestedFor,
    WantedNetwork,
    making,
    removing,
)
from vmm_simulator.vmm.estate_records import (
    AddressPoolRecord,
    AddressType,
    GrantRecord,
    LogicalNetworkRecord,
    NetworkRecord,
    NetworkSiteRecord,
    SubnetRecord,
    SubnetVlanRecord,
)
from vmm_simulator.vmm.inventory import Edit, Inventory
from vmm_simulator.vmm.records import (
    CloudRecord,
    FabricRecord,
    HostRecord,
    MachineRecord,
    NicRecord,
)
from vmm_simulator.vmm.rules import broken_rules

CLOUD = CloudRecord(
    cloud_id="cloud", name="cloud", capability_profile="Hyper-V", host_groups=("group",)
)
VIRTUAL, PLAIN = "WindowsNetworkVirtualization", "NoIsolation"


def logical(**changes: Any) -> LogicalNetworkRecord:
    given = {"logical_network_id": "logical", "name": "logical", "cloud_ids": ("cloud",), **changes}
    return LogicalNetworkRecord(**given)


def on_vlans(**changes: Any) -> LogicalNetworkRecord:
    rows = tuple(SubnetVlanRecord(subnet=f"10.8.{n}.0/24", vlan=n) for n in (1, 2))
    site = NetworkSiteRecord(site_id="site", name="site", subnets=rows)
    return logical(**{"sites": (site,), "isolated_sites": True, **changes})


def estate(
    network: LogicalNetworkRecord,
    networks: tuple[NetworkRecord, ...] = (),
    machines: tuple[MachineRecord, ...] = (),
    reached: tuple[str, ...] | None = None,
) -> Inventory:
    fabric = FabricRecord(
        vmm_id="vmm",
        fqdn="vmm.example",
        version="3",
        logical_networks=(network,),
        networks=networks,
    )
    host = HostRecord(
        fqdn="host.example",
        version="2012R2",
        host_group="group",
        disks_directory="/d",
        logical_networks=reached,
    )
    return Inventory(
        fabric, {"cloud": CLOUD}, {host.fqdn: host}, {each.machine_id: each for each in machines}
    )


def wanted(number: int = 1, **changes: Any) -> WantedNetwork:
    given: dict[str, Any] = {
        "network_id": f"test-network-{number}",
        "name": f"web {number} - Test",
        "like": VIRTUAL,
        "dynamic_addresses": False,
        "subnets": (SubnetRecord(name="web", address_list=("10.9.0.0/24",)),),
    }
    return WantedNetwork(**{**given, **changes})


def connected(network_id: str, machine_id: str = "vm") -> MachineRecord:
    return MachineRecord(
        machine_id=machine_id,
        hyperv_id=machine_id,
        name=machine_id,
        cloud_id="cloud",
        host="host.example",
        generation=2,
        disks=(),
        nics=(NicRecord(nic_id=f"{machine_id}-nic", network_id=network_id),),
    )


def refusal(inventory: Inventory, *networks: WantedNetwork) -> tuple[int, str]:
    with pytest.raises(RefusedError) as refused:
        making(inventory, (CLOUD,), "logical", TestedFor("test"), networks)
    return int(refused.value.code), str(refused.value)


def test_virtual_networks_get_the_subnets_and_pools_and_go_without_a_trace() -> None:
    before = estate(logical(network_virtualization=True))
    after = before.after(
        making(before, (CLOUD,), "logical", TestedFor("test"), (wanted(1), wanted(2)))
    )
    assert [each.network_type for each in after.fabric.networks] == [VIRTUAL, VIRTUAL]
    assert [each.subnets[0].name for each in after.fabric.networks] == ["web", "web"]
    pools = {(each.first, each.last, each.gateways) for each in after.fabric.address_pools}
    assert pools == {("10.9.0.2", "10.9.0.254", ("10.9.0.1",))}
    assert not set(broken_rules(after)) - set(broken_rules(before))
    again = making(after, (CLOUD,), "logical", TestedFor("test"), (wanted(1), wanted(2)))
    assert after.after(again) == after
    assert after.after(removing(after, "test")) == before
    assert after.after(removing(after, "another test")) == after


def test_vlan_networks_take_vlans_that_nobody_uses() -> None:
    before = estate(on_vlans())
    like = {"like": "VLANNetwork", "dynamic_addresses": True}
    after = before.after(making(before, (CLOUD,), "logical", TestedFor("t1"), (wanted(1, **like),)))
    further = after.after(making(after, (CLOUD,), "logical", TestedFor("t2"), (wanted(2, **like),)))
    texts = [each.subnets[0].address_list[0] for each in further.fabric.networks]
    assert texts == ["10.8.1.0/24-1 0", "10.8.2.0/24-2 0"]
    assert further.fabric.address_pools == ()
    assert refusal(further, wanted(3, **like))[0] == 7004


@pytest.mark.parametrize(
    ("inventory", "network", "code", "words"),
    [
        (estate(logical()), wanted(), 25080, "neither network virtualization nor VLANs"),
        (
            estate(logical(network_virtualization=True)),
            wanted(like=PLAIN),
            25080,
            "one without isolation",
        ),
        (
            estate(logical(network_virtualization=True)),
            wanted(like="VLANNetwork", dynamic_addresses=True),
            25080,
            "DHCP",
        ),
        (estate(logical(network_virtualization=True)), wanted(subnets=()), 25080, "pool"),
        (estate(on_vlans(isolated_sites=False)), wanted(), 25080, "not isolated"),
        (estate(on_vlans(), reached=("other",)), wanted(), 7004, "host.example"),
        (estate(on_vlans(cloud_ids=())), wanted(), 7004, "not attached to cloud"),
        (
            estate(
                on_vlans(),
                (
                    NetworkRecord(
                        network_id="n",
                        name="n",
                        network_type="VLANNetwork",
                        logical_network="logical",
                    ),
                ),
                (connected("n"),),
            ),
            wanted(),
            25080,
            "used in production",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_words(
    inventory: Inventory, network: WantedNetwork, code: int, words: str
) -> None:
    found, message = refusal(inventory, network)
    assert found == code
    assert words in message


def test_a_network_with_a_machine_on_it_stays() -> None:
    before = estate(logical(network_virtualization=True))
    made = before.after(making(before, (CLOUD,), "logical", TestedFor("test"), (wanted(),)))
    machine = connected("test-network-1")
    busy = Inventory(made.fabric, made.clouds, made.hosts, {machine.machine_id: machine})
    with pytest.raises(RefusedError, match="is connected to"):
        removing(busy, "test")


def test_machines_of_one_environment_share_a_network_that_goes_with_the_last() -> None:
    before = estate(logical(network_virtualization=True))
    made, users = before, ("vm-1", "vm-2")
    for user in users:
        shared = TestedFor(user, environment="plan")
        made = made.after(making(made, (CLOUD,), "logical", shared, (wanted(),)))
        assert making(made, (CLOUD,), "logical", shared, (wanted(),)).put == ()
    (network,) = made.fabric.networks
    assert (network.test_of, network.test_users) == ("plan", users)
    assert removing(made, "plan").put == (), "no machine has the name of the environment"
    left = made.after(removing(made, "vm-1"))
    assert left.fabric.networks[0].test_users == ("vm-2",)
    assert removing(left, "vm-1").put == ()
    busy = estate(
        left.fabric.logical_networks[0], left.fabric.networks, (connected("test-network-1"),)
    )
    with pytest.raises(RefusedError, match="connected"):
        removing(busy, "vm-2")
    assert left.after(removing(left, "vm-2")) == before


def test_a_plans_run_makes_networks_that_are_kept_for_who_is_connected() -> None:
    before = estate(logical(network_virtualization=True))
    run = TestedFor("run")
    made = before.after(making(before, (CLOUD,), "logical", run, (wanted(1), wanted(2))))
    assert [each.test_users for each in made.fabric.networks] == [("run",), ("run",)]
    assert made.after(removing(made, "run")) == before
    tested = estate(
        made.fabric.logical_networks[0], made.fabric.networks, (connected("test-network-1"),)
    )
    (tester,) = tested.machines.values()
    shared = tested.after(connecting(tested, tester, ["test-network-1"], "run"))
    assert shared.fabric.networks[0].test_users == ("run", tester.machine_id)
    assert shared.fabric.networks[1].test_users == ("run",)
    for_another = connecting(shared, tester, ["test-network-1"], "other")
    assert [type(each) for each in for_another.put] == [MachineRecord]
    # The run gives up what nobody is connected to, and makes it again when it goes on.
    left = shared.after(removing(shared, "run"))
    assert [each.test_users for each in left.fabric.networks] == [(tester.machine_id,)]
    again = left.after(making(left, (CLOUD,), "logical", run, (wanted(1), wanted(2))))
    assert {each.network_id: each.test_users for each in again.fabric.networks} == {
        "test-network-1": (tester.machine_id, "run"),
        "test-network-2": ("run",),
    }
    # A machine whose test failed is gone, and its share with it.
    gone = estate(shared.fabric.logical_networks[0], shared.fabric.networks)
    assert gone.after(removing(gone, "run")).fabric.networks == ()
    # With the last machine goes what the run that ended well held.
    (first, _) = shared.fabric.networks
    apart = tester.model_copy(update={"nics": ()})
    last = estate(shared.fabric.logical_networks[0], (first,), (apart,))
    assert last.after(removing(last, tester.machine_id)).fabric.networks == ()


def test_networks_of_a_plan_are_of_use_in_all_its_clouds() -> None:
    other = CLOUD.model_copy(
        update={"cloud_id": "other", "name": "other", "host_groups": ("else",)}
    )
    both = ("cloud", "other")
    rows = tuple(SubnetVlanRecord(subnet=f"10.8.{n}.0/24", vlan=n) for n in (1, 2))
    near = NetworkSiteRecord(site_id="near", name="near", subnets=rows[:1], host_groups=("group",))
    far = NetworkSiteRecord(site_id="far", name="far", subnets=rows[1:])
    before = estate(on_vlans(sites=(near, far), cloud_ids=both))
    made = before.after(making(before, (CLOUD, other), "logical", TestedFor("run"), (wanted(),)))
    assert made.fabric.networks[0].subnets[0].address_list == ("10.8.2.0/24-2 0",)
    with pytest.raises(RefusedError, match=r"1 VLANs .* of cloud cloud and other; 2 are needed"):
        making(before, (CLOUD, other), "logical", TestedFor("run"), (wanted(1), wanted(2)))
    with pytest.raises(RefusedError, match="not attached to cloud other"):
        making(estate(on_vlans()), (CLOUD, other), "logical", TestedFor("run"), (wanted(),))


def test_a_network_that_is_shared_must_be_there_for_the_cloud_of_each() -> None:
    before = estate(on_vlans(), reached=("logical",))
    made = before.after(making(before, (CLOUD,), "logical", TestedFor("a", "plan"), (wanted(),)))
    other = CLOUD.model_copy(update={"cloud_id": "other"})
    with pytest.raises(RefusedError, match="not attached to cloud"):
        making(made, (other,), "logical", TestedFor("b", "plan"), (wanted(),))
    shared = made.after(making(made, (CLOUD,), "logical", TestedFor("b", "plan"), (wanted(),)))
    assert shared.fabric.networks[0].test_users == ("a", "b")


OWN, OTHER = "10.2.0.20", "10.2.0.10"


def replicated(*others: MachineRecord, pools: tuple[AddressPoolRecord, ...] = ()) -> Inventory:
    """Return a site with a replica that has an address, and its test machine, not connected."""
    replica = connected("live", "replica")
    nic = replica.nics[0].model_copy(
        update={"subnet": "web", "address_type": AddressType.STATIC, "address": OWN}
    )
    replica = replica.model_copy(update={"nics": (nic,)})
    test = connected("none", "test").model_copy(update={"test_machine_of": "replica"})
    test = test.model_copy(update={"nics": (NicRecord(nic_id="nic-test"),)})
    networks = tuple(
        NetworkRecord(
            network_id=each,
            name=each,
            network_type=PLAIN,
            logical_network="logical",
            subnets=(SubnetRecord(name="web", address_list=("10.2.0.0/24",)),),
        )
        for each in ("live", "drill")
    )
    before = estate(logical(), networks, (replica, test, *others))
    fabric = before.fabric.model_copy(update={"address_pools": pools})
    reserved = {"p": GrantRecord(pool_id="pool-live", address=OWN, nic_id=nic.nic_id)}
    return Inventory(fabric, before.clouds, before.hosts, before.machines, reserved)


def pool(network_id: str) -> AddressPoolRecord:
    return AddressPoolRecord(
        pool_id=f"pool-{network_id}",
        name=network_id,
        network_id=network_id,
        first=OTHER,
        last="10.2.0.30",
    )


def address_in(inventory: Inventory, network: str | None) -> tuple[str | None, Inventory]:
    """Connect the test machine; what address it has then, and the site."""
    after = inventory.after(connecting(inventory, inventory.machines["test"], [network]))
    again = connecting(after, after.machines["test"], [network])
    assert after.after(again) == after, "asking again changes nothing"
    return after.machines["test"].nics[0].address, after


def test_a_test_machine_gets_the_address_that_its_replica_would_get_if_it_is_free() -> None:
    pools = (pool("live"), pool("drill"))
    before = replicated(pools=pools)
    found, there = address_in(before, "live")
    assert (found, there.grants) == (OWN, before.grants)
    found, drilled = address_in(before, "drill")
    assert (found, "pool-drill/" + OWN in drilled.grants) == (OWN, True)
    found, apart = address_in(drilled, None)
    assert (found, "pool-drill/" + OWN in apart.grants) == (None, False)
    taken = GrantRecord(pool_id="pool-drill", address=OWN, nic_id="replica-nic")
    busy = before.after(Edit(put=(taken,)))
    assert address_in(busy, "drill")[0] == OTHER
    assert address_in(replicated(), "drill")[0] == OWN, "no pool: nobody else has it"
    rival = connected("drill", "rival")
    has_it = rival.nics[0].model_copy(update={"address": OWN})
    assert address_in(replicated(rival.model_copy(update={"nics": (has_it,)})), "drill")[0] is None
