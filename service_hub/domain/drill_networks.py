"""Networks of a test failover: what is made for it, and which existing ones do not fit; pure.

Behaviour.md, 2.8. For a test on a logical network one network is made for each that the tested
machine is connected to; the site that makes them refuses what it cannot make (7004, 25080).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import JsonValue

from wire_contract.vmm_interface import NetworkView, NicView

VIRTUAL: Final = "WindowsNetworkVirtualization"
VLAN: Final = "VLANNetwork"
DYNAMIC: Final = "Dynamic"


def unfit(
    nics: Sequence[NicView], source_networks: Sequence[NetworkView], wanted: NetworkView
) -> str | None:
    """Return why an existing network is of the wrong type for the machine (25080), or None."""
    if wanted.network_type != VIRTUAL:
        return None
    types = {each.network_id: each.network_type for each in source_networks}
    for nic in nics:
        present = types.get(nic.network_id or "")
        if present is None or present == VIRTUAL:
            continue
        if present != VLAN:
            return (
                "the machine is connected to a network without isolation, and"
                f" {wanted.friendly_name} is virtual"
            )
        if nic.address_type == DYNAMIC:
            return (
                "the machine gets its address by DHCP on a VLAN, which has no address pool, and"
                f" {wanted.friendly_name} is virtual: that needs one"
            )
    return None


def environment(
    nics: Sequence[NicView], source_networks: Sequence[NetworkView], logical_network_id: str
) -> dict[str, JsonValue] | None:
    """Return what is to be made on a logical network; None where nothing is connected.

    `nics` names, for each adapter in order, which of `networks` it gets, or null.
    """
    known = {each.network_id: each for each in source_networks}
    connected = [known.get(nic.network_id or "") for nic in nics]
    order = list(dict.fromkeys(each.network_id for each in connected if each is not None))
    if not order:
        return None
    dynamic = {nic.network_id for nic in nics if nic.address_type == DYNAMIC}
    networks: list[JsonValue] = [
        {
            "name": known[network_id].friendly_name,
            "like": known[network_id].network_type,
            "dynamic_addresses": network_id in dynamic,
            "subnets": [
                {"name": subnet.name, "address_list": list(subnet.address_list)}
                for subnet in known[network_id].subnets
            ],
        }
        for network_id in order
    ]
    places: list[JsonValue] = [
        None if each is None else order.index(each.network_id) for each in connected
    ]
    return {"logical_network_id": logical_network_id, "networks": networks, "nics": places}


def networks_to_make(drill: Mapping[str, Any], test_machine_id: str) -> list[JsonValue]:
    """Return the networks with their ids and names, which are the same at each attempt."""
    return [
        {
            **each,
            "network_id": _network_id(test_machine_id, index),
            "name": f"{each['name']} - Test {test_machine_id[:8]} {index}",
        }
        for index, each in enumerate(drill["networks"])
    ]


def network_of_each_nic(drill: Mapping[str, Any], test_machine_id: str) -> list[JsonValue]:
    """Return, for each adapter in order, the network that was made for it, or null."""
    return [
        None if index is None else _network_id(test_machine_id, index) for index in drill["nics"]
    ]


def _network_id(test_machine_id: str, index: int) -> str:
    return f"{test_machine_id}-network-{index}"
