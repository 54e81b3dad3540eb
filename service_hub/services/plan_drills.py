"""Gathers the facts that the test network of a plan is decided on."""

from asyncio import gather
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.plan_drills import TEST_NETWORK, TestedMachine, with_network
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
        networks = {
            Side.PRIMARY: await self._networks(plan.primary_provider_id),
            Side.RECOVERY: await self._networks(plan.recovery_provider_id),
        }
        source = direction.place(Side.PRIMARY)
        items = [facts.items[each] for each in plan.members]
        machines = await gather(*(self._machine(each, source) for each in items))
        return with_network(arguments, direction, networks, machines)

    async def _networks(self, provider_id: str) -> Sequence[NetworkView]:
        found = await self._reader.get(FabricInventory, provider_id)
        return () if found is None else found.record.view.networks

    async def _machine(self, item: ProtectedItem, side: Side) -> TestedMachine:
        machine = await self._mapped.machine(item, side)
        return TestedMachine(item, () if machine is None else machine.nics)
