"""The network that a plan's test failover takes place in, for all its machines; pure.

Behaviour.md, 2.8: none, one that is there, or networks that are made on a logical network. What is
there must fit every machine; what is made stands for each network that one of them is connected to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from service_hub.domain.drill_networks import (
    member_environment,
    plan_environment,
    unfit,
    unreachable,
)
from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.network_mapping import NetworkFacts
from service_hub.domain.records import ProtectedItem
from wire_contract.vmm_interface import NetworkView, NicView
from wire_contract.vocabulary import Direction, Side

TEST_NETWORK = "test_network"
"""Where a request names the network; a run has what it stands for instead."""

_NETWORK = "properties.networkId"


@dataclass(frozen=True, slots=True)
class TestedMachine:
    """A machine of the plan with the adapters of its source copy."""

    item: ProtectedItem
    nics: Sequence[NicView]


def with_network(
    arguments: Mapping[str, JsonValue],
    direction: Direction,
    networks: Mapping[Side, Sequence[NetworkView]],
    machines: Sequence[TestedMachine],
) -> dict[str, JsonValue]:
    """Return the arguments of a test with its network found; InvalidRequestError (7004, 25080)."""
    rest = {name: value for name, value in arguments.items() if name != TEST_NETWORK}
    wanted = arguments.get(TEST_NETWORK)
    if not isinstance(wanted, dict):
        return rest
    source, recovery = direction.place(Side.PRIMARY), direction.place(Side.RECOVERY)
    network_id = str(wanted["network_id"])
    if wanted["logical"]:
        drill = plan_environment((each.nics for each in machines), networks[source], network_id)
        if drill is None:
            raise InvalidRequestError(
                "No machine of the plan is connected to a network: there is none to make for the"
                " test. Use NoNetworkAttachAsInput.",
                "properties.networkType",
            )
        return {**rest, "network_id": None, "drill": drill}
    network = next(
        (e for e in networks[recovery] if e.network_id.lower() == network_id.lower()), None
    )
    if network is None:
        raise InvalidRequestError(f"7004: The server has no VM network '{network_id}'.", _NETWORK)
    for each in machines:
        cloud = each.item.recovery_cloud_id
        if recovery is Side.PRIMARY:
            cloud = each.item.primary_cloud_id
        name = each.item.friendly_name
        if (against := unreachable(network, cloud)) is not None:
            raise InvalidRequestError(f"7004: {name}: {against}.", _NETWORK)
        if (against := unfit(each.nics, networks[source], network)) is not None:
            raise InvalidRequestError(f"25080: {name}: {against}.", _NETWORK)
    return {**rest, "network_id": network.network_id}


def member_arguments(
    arguments: Mapping[str, JsonValue],
    facts: NetworkFacts,
    direction: Direction,
    environment_id: str,
) -> Mapping[str, JsonValue]:
    """Return the arguments of one machine's test: of the plan's networks those that it has.

    `environment_id`: by what the networks are known where the plan's job has not said it.
    """
    drill = arguments.get("drill")
    if not isinstance(drill, dict) or "sources" not in drill:
        return arguments
    source = direction.place(Side.PRIMARY)
    machine = facts.primary_machine if source is Side.PRIMARY else facts.recovery_machine
    nics = () if machine is None else machine.nics
    own = member_environment(drill, nics, str(drill.get("environment", environment_id)))
    rest = {name: value for name, value in arguments.items() if name != "drill"}
    return rest if own is None else {**rest, "drill": own}
