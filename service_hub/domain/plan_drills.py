"""The network that a plan's test failover takes place in, for all its machines; pure.

Behaviour.md, 2.8: none, one that is there, or networks that are made on a logical network. What is
there must fit every machine; what is made stands for each network that one of them is connected to.
"""

from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from service_hub.domain.drill_networks import (
    TEST_NETWORK,
    TestedMachine,
    existing_network,
    member_environment,
    plan_environment,
)
from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.network_mapping import NetworkFacts
from wire_contract.vmm_interface import NetworkView
from wire_contract.vocabulary import Direction, Side


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
    source = direction.place(Side.PRIMARY)
    network_id = str(wanted["network_id"])
    if wanted["logical"]:
        drill = plan_environment((each.nics for each in machines), networks[source], network_id)
        if drill is None:
            raise InvalidRequestError(
                "No machine of the plan is connected to a network: there is none to make for the"
                " test. Use NoNetworkAttachAsInput.",
                "properties.networkType",
            )
        drill["cloud_ids"] = list(_clouds_of(machines, drill["sources"], direction))
        return {**rest, "network_id": None, "drill": drill}
    network = existing_network(network_id, direction, networks, machines)
    return {**rest, "network_id": network.network_id}


def _clouds_of(
    machines: Sequence[TestedMachine], sources: JsonValue, direction: Direction
) -> dict[str, None]:
    """Return the clouds, each once, whose test machines are connected to what is made."""
    assert isinstance(sources, list), "networks stand for networks"
    starts_at = direction.place(Side.RECOVERY)
    return {
        (
            each.item.recovery_cloud_id
            if starts_at is Side.RECOVERY
            else each.item.primary_cloud_id
        ): None
        for each in machines
        if any(nic.network_id in sources for nic in each.nics)
    }


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
