"""Gathers the facts that the test network of a plan or of one machine is decided on."""

from asyncio import gather
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from service_hub.domain.drill_networks import TEST_NETWORK, TestedMachine, network_of_machine
from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.plan_drills import with_network
from service_hub.domain.protection import Operation, expected_direction
from service_hub.domain.records import FabricInventory, ProtectedItem
from service_hub.plan_ports import PlanFacts
from service_hub.ports.stores import Reader
from service_hub.services.mapping_facts import MappingReader
from wire_contract.vmm_interface import NetworkView
from wire_contract.vocabulary import Direction, Side


class PlanDrills:
    """Reads what both servers have; changes nothing."""

    def __init__(self, *, reader: Reader) -> None:
        self._reader = reader
        self._mapped = MappingReader(reader=reader)

    async def with_network(
        self, facts: PlanFacts, direction: Direction, arguments: Mapping[str, JsonValue]
    ) -> Mapping[str, JsonValue]:
        """Return the arguments of a test with the network that they name; InvalidRequestError."""
        wanted = arguments.get(TEST_NETWORK)
        if not isinstance(wanted, dict):
            return arguments
        ends = {Side.PRIMARY: facts.primary, Side.RECOVERY: facts.recovery}
        server = ends[direction.place(Side.RECOVERY)]
        # A preview names the network alone: it is looked for at that server.
        fabric = wanted.get("fabric", "" if server is None else server.fabric_name)
        if server is None or server.fabric_name.lower() != str(fabric).lower():
            raise InvalidRequestError(
                "The network must be one of the server on which the test machines start.",
                "properties.networkId",
            )
        plan = facts.plan
        networks = await self._networks_of(plan.primary_provider_id, plan.recovery_provider_id)
        items = [facts.items[each] for each in plan.members]
        machines = await gather(*(self._machine(each, direction) for each in items))
        return with_network(arguments, direction, networks, machines)

    async def of_machine(
        self, item: ProtectedItem, arguments: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Return the arguments of one machine's test, its network found; InvalidRequestError.

        The network is one of the server that the machine does not run at.
        """
        named = arguments.get(TEST_NETWORK)
        if not isinstance(named, dict):
            return arguments
        rest = {name: value for name, value in arguments.items() if name != TEST_NETWORK}
        direction = expected_direction(Operation.TEST_FAILOVER, item.active_location)
        networks = await self._networks_of(item.primary_provider_id, item.recovery_provider_id)
        machine = await self._machine(item, direction)
        return {**rest, **network_of_machine(named, direction, networks, machine)}

    async def _networks_of(
        self, primary_id: str, recovery_id: str
    ) -> Mapping[Side, Sequence[NetworkView]]:
        return {
            Side.PRIMARY: await self._networks(primary_id),
            Side.RECOVERY: await self._networks(recovery_id),
        }

    async def _networks(self, provider_id: str) -> Sequence[NetworkView]:
        found = await self._reader.get(FabricInventory, provider_id)
        return () if found is None else found.record.view.networks

    async def _machine(self, item: ProtectedItem, direction: Direction) -> TestedMachine:
        source = await self._mapped.machine(item, direction.place(Side.PRIMARY))
        replica = await self._mapped.machine(item, direction.place(Side.RECOVERY))
        return TestedMachine(
            item,
            () if source is None else source.nics,
            () if replica is None else replica.nics,
        )
