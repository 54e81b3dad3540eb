"""What mappings mean for one job on an item: where its replica goes, how adapters are connected."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pydantic import JsonValue

from service_hub.domain.mapping_records import StorageMapping
from service_hub.domain.network_mapping import (
    Adapter,
    NetworkFacts,
    mapped_networks,
    placed_adapters,
    replica_adapters,
    returned_adapters,
)
from service_hub.domain.protection import Operation
from service_hub.domain.records import ProtectedItem
from service_hub.domain.storage_mapping import mapped_classification
from wire_contract.vmm_interface import MachineView, NicView
from wire_contract.vocabulary import Direction

NOTHING_TO_CONNECT = "no_network_mapping"
"""The flag of a job whose replica stays disconnected: it skips the task that would connect it."""


@dataclass(frozen=True, slots=True)
class MappingFacts:
    """What was mapped between an item's two servers, and what decides on it."""

    networks: NetworkFacts = field(default_factory=NetworkFacts)
    storage: tuple[StorageMapping, ...] = ()


def placement(
    item: ProtectedItem, machine: MachineView, facts: MappingFacts
) -> dict[str, JsonValue]:
    """Return what a replica needs of its place (docs/wire-contract.md, `place_replica`)."""
    seen = replace(facts.networks, primary_machine=machine)
    wanted: dict[str, JsonValue] = {
        "processors": machine.processors,
        "memory_megabytes": machine.memory_megabytes,
    }
    if adapters := placed_adapters(item, seen):
        wanted["adapters"] = [*adapters]
    if networks := mapped_networks(item, seen):
        wanted["network_ids"] = [*networks]
    if (classification := mapped_classification(machine, facts.storage)) is not None:
        wanted["classification_id"] = classification
    return wanted


def adapters_for(
    item: ProtectedItem, operation: Operation, direction: Direction, facts: MappingFacts
) -> tuple[Adapter, ...]:
    """Return which adapters an operation has connected, on the end that it goes to."""
    forth = direction is Direction.PRIMARY_TO_RECOVERY
    if operation in {Operation.PLANNED_FAILOVER, Operation.UNPLANNED_FAILOVER}:
        chosen = replica_adapters if forth else returned_adapters
        return chosen(item, facts.networks)
    if operation in {Operation.COMPLETE_RECOVERY, Operation.UPDATE_NETWORKS} and forth:
        return replica_adapters(item, facts.networks)
    return ()


def adapters_context(adapters: Sequence[Adapter]) -> dict[str, JsonValue]:
    """Return the adapters as a job keeps them."""
    return {"adapters": [*adapters]} if adapters else {}


def adapters_flags(adapters: Sequence[Adapter]) -> tuple[str, ...]:
    """Return whether there is nothing to connect, as a job keeps it."""
    return () if any(each["network_id"] for each in adapters) else (NOTHING_TO_CONNECT,)


def networks_after(nics: Sequence[NicView], adapters: object) -> list[object]:
    """Return the networks of a copy's adapters once a job has connected those that it names."""
    present: dict[str, object] = {each.nic_id: each.network_id for each in nics}
    for each in adapters if isinstance(adapters, list) else ():
        if isinstance(each, dict):
            present[str(each["nic_id"])] = each["network_id"]
    return [*present.values()]
