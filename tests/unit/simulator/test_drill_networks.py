from typing import Any

import pytest

from vmm_simulator.problems import RefusedError
from vmm_simulator.vmm.drill_networks import WantedNetwork, making, removing
from vmm_simulator.vmm.estate_records import (
    LogicalNetworkRecord,
    NetworkRecord,
    NetworkSiteRecord,
    SubnetRecord,
    SubnetVlanRecord,
)
from vmm_simulator.vmm.inventory import Inventory
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
        making(inventory, CLOUD, "logical", "test", networks)
    return int(refused.value.code), str(refused.value)


def test_virtual_networks_get_the_subnets_and_pools_and_go_without_a_trace() -> None:
    before = estate(logical(network_virtualization=True))
    after = before.after(making(before, CLOUD, "logical", "test", (wanted(1), wanted(2))))
    assert [each.network_type for each in after.fabric.networks] == [VIRTUAL, VIRTUAL]
    assert [each.subnets[0].name for each in after.fabric.networks] == ["web", "web"]
    pools = {(each.first, each.last, each.gateways) for each in after.fabric.address_pools}
    assert pools == {("10.9.0.2", "10.9.0.254", ("10.9.0.1",))}
    assert not set(broken_rules(after)) - set(broken_rules(before))
    again = making(after, CLOUD, "logical", "test", (wanted(1), wanted(2)))
    assert after.after(again) == after
    assert after.after(removing(after, "test")) == before
    assert after.after(removing(after, "another test")) == after


def test_vlan_networks_take_vlans_that_nobody_uses() -> None:
    before = estate(on_vlans())
    like = {"like": "VLANNetwork", "dynamic_addresses": True}
    after = before.after(making(before, CLOUD, "logical", "t1", (wanted(1, **like),)))
    further = after.after(making(after, CLOUD, "logical", "t2", (wanted(2, **like),)))
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
    made = before.after(making(before, CLOUD, "logical", "test", (wanted(),)))
    machine = connected("test-network-1")
    busy = Inventory(made.fabric, made.clouds, made.hosts, {machine.machine_id: machine})
    with pytest.raises(RefusedError, match="is connected to"):
        removing(busy, "test")
