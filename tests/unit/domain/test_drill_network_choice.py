from typing import Any

import pytest

from service_hub.domain.drill_networks import (
    environment,
    network_of_each_nic,
    networks_to_make,
    unfit,
)
from wire_contract.vmm_interface import NetworkView, NicView, SubnetView

VIRTUAL, VLAN, PLAIN = "WindowsNetworkVirtualization", "VLANNetwork", "NoIsolation"


def network(network_id: str, network_type: str = VIRTUAL) -> NetworkView:
    return NetworkView(
        network_id=network_id,
        friendly_name=f"name of {network_id}",
        network_type=network_type,
        logical_network_id="logical",
        cloud_ids=(),
        subnets=(SubnetView(name="web", friendly_name="web", address_list=("10.9.0.0/24",)),),
    )


def nic(network_id: str | None, address_type: str = "Static") -> NicView:
    return NicView(nic_id=f"nic of {network_id}", network_id=network_id, address_type=address_type)


@pytest.mark.parametrize(
    ("source", "address", "wanted", "words"),
    [
        (PLAIN, "Static", VIRTUAL, "without isolation"),
        (VLAN, "Dynamic", VIRTUAL, "DHCP"),
        (VLAN, "Static", VIRTUAL, None),
        (VIRTUAL, "Dynamic", VIRTUAL, None),
        (PLAIN, "Dynamic", VLAN, None),
        (PLAIN, "Dynamic", PLAIN, None),
    ],
)
def test_an_existing_network_must_be_of_a_fitting_type(
    source: str, address: str, wanted: str, words: str | None
) -> None:
    found = unfit([nic("n", address)], [network("n", source)], network("t", wanted))
    assert (found is None) == (words is None)
    assert words is None or words in str(found)


def test_one_network_is_made_for_each_that_the_machine_has() -> None:
    nics = [nic("b", "Dynamic"), nic(None), nic("a"), nic("b"), nic("unknown")]
    drill: Any = environment(nics, [network("a"), network("b", VLAN)], "logical")
    assert drill is not None
    made: Any = networks_to_make(drill, "0123456789")
    assert [(each["network_id"], each["like"], each["dynamic_addresses"]) for each in made] == [
        ("0123456789-network-0", VLAN, True),
        ("0123456789-network-1", VIRTUAL, False),
    ]
    assert len({each["name"] for each in made}) == 2
    assert network_of_each_nic(drill, "0123456789") == [
        "0123456789-network-0",
        None,
        "0123456789-network-1",
        "0123456789-network-0",
        None,
    ]
    assert networks_to_make(drill, "0123456789") == made


def test_nothing_is_made_for_a_machine_without_networks() -> None:
    assert environment([nic(None), nic("unknown")], [network("a")], "logical") is None
