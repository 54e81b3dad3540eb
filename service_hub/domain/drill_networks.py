"""Networks of a test failover: what is made for it, and which existing ones do not fit; pure.

Behaviour.md, 2.8. For a test on a logical network one network is made for each that the tested
machines are connected to; the site that makes them refuses what it cannot make (7004, 25080). The
machines of a plan share them: one task of the plan's job makes them before the first group, for all
clouds that test machines start in, and the clean-up of the last machine that is connected to one
takes it away. A run that fails or is cancelled takes away what no machine is connected to.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final

from pydantic import JsonValue

from service_hub.domain.errors import NETWORK_MISSING, TEST_NETWORK_TYPE, InvalidRequestError
from service_hub.domain.records import ProtectedItem
from wire_contract.vmm_interface import NetworkView, NicView
from wire_contract.vocabulary import Direction, Side

VIRTUAL: Final = "WindowsNetworkVirtualization"
VLAN: Final = "VLANNetwork"
DYNAMIC: Final = "Dynamic"
TEST_NETWORK: Final = "test_network"
"""Where a request names the network; a run has what it stands for instead."""

NETWORK_PROPERTY: Final = "properties.networkId"

TEST_ENVIRONMENT: Final = "test_environment"
"""Where a plan's job keeps what it makes for the tests of all its machines."""


@dataclass(frozen=True, slots=True)
class TestedMachine:
    """A machine to be tested with the adapters of its copies, in one order.

    The replica's are connected where a network mapping said so.
    """

    item: ProtectedItem
    nics: Sequence[NicView]
    replica_nics: Sequence[NicView] = ()


def existing_network(
    network_id: str,
    direction: Direction,
    networks: Mapping[Side, Sequence[NetworkView]],
    machines: Iterable[TestedMachine],
) -> NetworkView:
    """Return a network that is there, fit for all machines; InvalidRequestError (7004, 25080)."""
    recovery = direction.place(Side.RECOVERY)
    known = {each.network_id.lower(): each for each in networks[recovery]}
    wanted = known.get(network_id.lower())
    if wanted is None:
        raise InvalidRequestError(
            f"{NETWORK_MISSING}: The server has no VM network '{network_id}'.", NETWORK_PROPERTY
        )
    for each in machines:
        ends = {
            Side.PRIMARY: each.item.primary_cloud_id,
            Side.RECOVERY: each.item.recovery_cloud_id,
        }
        name = each.item.friendly_name
        if (against := unreachable(wanted, ends[recovery])) is not None:
            raise InvalidRequestError(f"{NETWORK_MISSING}: {name}: {against}.", NETWORK_PROPERTY)
        if (against := unfit(_connected(each, direction, networks), wanted)) is not None:
            raise InvalidRequestError(f"{TEST_NETWORK_TYPE}: {name}: {against}.", NETWORK_PROPERTY)
    return wanted


def network_of_machine(
    named: Mapping[str, Any],
    direction: Direction,
    networks: Mapping[Side, Sequence[NetworkView]],
    machine: TestedMachine,
) -> dict[str, JsonValue]:
    """Return where one machine is tested, as its job is told; InvalidRequestError (7004, 25080).

    `named`: `network_id`, and whether that is `logical`: then what is to be made on it.
    """
    network_id = str(named["network_id"])
    if not named["logical"]:
        found = existing_network(network_id, direction, networks, [machine])
        return {"network_id": found.network_id}
    drill = environment(machine.nics, networks[direction.place(Side.PRIMARY)], network_id)
    if drill is None:
        raise InvalidRequestError(
            "The machine is connected to no network: there is none to make for its test. Use"
            " NoNetworkAttachAsInput.",
            "properties.networkType",
        )
    return {"network_id": None, "drill": drill}


def _connected(
    machine: TestedMachine, direction: Direction, networks: Mapping[Side, Sequence[NetworkView]]
) -> Iterator[tuple[str, NetworkView]]:
    """Give address type and network of each adapter at a failover; unmapped, as at the source."""
    source = {each.network_id: each for each in networks[direction.place(Side.PRIMARY)]}
    recovery = {each.network_id: each for each in networks[direction.place(Side.RECOVERY)]}
    for nic, replica in zip_longest(machine.nics, machine.replica_nics):
        if replica is not None and (mapped := recovery.get(replica.network_id or "")) is not None:
            yield replica.address_type, mapped
        elif nic is not None and (present := source.get(nic.network_id or "")) is not None:
            yield nic.address_type, present


def unfit(connected: Iterable[tuple[str, NetworkView]], wanted: NetworkView) -> str | None:
    """Return why an existing network is of the wrong type for the machine (25080), or None.

    `connected`: address type and network of each adapter (behaviour.md, 2.8).
    """
    if wanted.network_type != VIRTUAL:
        return None
    for address_type, present in connected:
        if present.network_type == VIRTUAL:
            continue
        if present.network_type != VLAN:
            return (
                f"the machine is connected to {present.friendly_name}, a network without"
                f" isolation, and {wanted.friendly_name} is virtual"
            )
        if address_type == DYNAMIC:
            return (
                f"the machine gets its address by DHCP on the VLAN of {present.friendly_name},"
                f" which has no address pool, and {wanted.friendly_name} is virtual: that needs"
                " one"
            )
    return None


def unreachable(wanted: NetworkView, cloud_id: str) -> str | None:
    """Return why an existing network cannot be used in a cloud (7004), or None."""
    if cloud_id in wanted.cloud_ids:
        return None
    return f"the network {wanted.friendly_name} is not available to the cloud of the test machine"


def plan_environment(
    connected: Iterable[Sequence[NicView]],
    source_networks: Sequence[NetworkView],
    logical_network_id: str,
) -> dict[str, JsonValue] | None:
    """Return what the machines of a plan share on a logical network; None: nothing is connected.

    `connected`: the adapters of each machine. `sources`: for which network each one stands.
    """
    every = [nic for nics in connected for nic in nics]
    drill = environment(every, source_networks, logical_network_id)
    if drill is None:
        return None
    known = {each.network_id for each in source_networks}
    sources = dict.fromkeys(nic.network_id for nic in every if nic.network_id in known)
    return {
        "logical_network_id": logical_network_id,
        "networks": drill["networks"],
        "sources": list(sources),
    }


def is_made_by_plan(drill: object) -> bool:
    """Return whether a plan's own task makes the networks of a machine's test."""
    return isinstance(drill, dict) and bool(drill.get("made"))


def member_environment(
    shared: Mapping[str, Any], nics: Sequence[NicView], environment_id: str
) -> dict[str, JsonValue] | None:
    """Return the part of a plan's networks that a machine is connected to; None: it is to none.

    `environment_id`: by what they are known, the same for all machines of the plan's run. Where the
    plan's own task makes them (`made`), the machine is only connected to them.
    """
    places = {network_id: place for place, network_id in enumerate(shared["sources"])}
    connected = [places.get(nic.network_id) for nic in nics]
    used = sorted({place for place in connected if place is not None})
    if not used:
        return None
    if shared.get("made"):
        return {"nics": list(connected), "environment": environment_id, "made": True}
    return {
        "logical_network_id": shared["logical_network_id"],
        "networks": [{**shared["networks"][place], "place": place} for place in used],
        "nics": list(connected),
        "environment": environment_id,
    }


def environment_of(drill: Mapping[str, Any], test_machine_id: str) -> str:
    """Return what the networks of a test are known by."""
    return str(drill.get("environment") or test_machine_id)


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
    known_by = environment_of(drill, test_machine_id)
    made: list[JsonValue] = []
    for index, each in enumerate(drill["networks"]):
        place = each.get("place", index)
        row = {name: value for name, value in each.items() if name != "place"}
        row["network_id"] = _network_id(known_by, place)
        row["name"] = f"{each['name']} - Test {known_by[:8]} {place}"
        made.append(row)
    return made


def network_of_each_nic(drill: Mapping[str, Any], test_machine_id: str) -> list[JsonValue]:
    """Return, for each adapter in order, the network that was made for it, or null."""
    known_by = environment_of(drill, test_machine_id)
    return [None if place is None else _network_id(known_by, place) for place in drill["nics"]]


def _network_id(test_machine_id: str, index: int) -> str:
    return f"{test_machine_id}-network-{index}"
