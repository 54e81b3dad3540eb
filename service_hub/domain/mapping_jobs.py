"""The jobs that map and unmap networks and storage classifications; pure.

Recorded for networks (recorded.md, 10): the map itself, then the adapters of the replicas that are
there already, side by side. For storage behaviour 2.6: the map alone, it counts at enabling.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pydantic import JsonValue

from service_hub.domain.jobs import Job, TaskRun
from service_hub.domain.mapping_records import NetworkMapping, StorageMapping
from service_hub.domain.network_mapping import shown_count
from service_hub.domain.planning import JobIdentity
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import ProtectedItem, Provider
from service_hub.domain.scenarios import SCENARIOS, GroupSpec
from service_hub.domain.servers import title_of
from wire_contract.vocabulary import Side
from wire_contract.vocabulary.task_names import task_names

MAP_NETWORK: Final = "map_network"
UNMAP_NETWORK: Final = "unmap_network"
MAP_STORAGE: Final = "map_storage"
UNMAP_STORAGE: Final = "unmap_storage"
MAPPING_JOBS: Final = frozenset({MAP_NETWORK, UNMAP_NETWORK, MAP_STORAGE, UNMAP_STORAGE})

GROUP_TASKS: Final[Mapping[str, str]] = {
    MAP_NETWORK: "VMNetworksUpdateVMNicsTask",
    UNMAP_NETWORK: "VMNetworksUpdateVMNicsTaskDetach",
}
"""The task whose child jobs connect or disconnect adapters, of each job on a network mapping."""

NOTHING_ATTACHED: Final = "no_replica_attached"
"""The flag of a job with no adapter to update: its group is skipped, as recorded."""

ADAPTERS_OF: Final = "adapters_of"
"""In the facts of such a job: item → the replica's adapters that stand on the mapped network."""


@dataclass(frozen=True, slots=True)
class Ends:
    """The two servers of a mapping, and what is mapped there: id and name."""

    primary: Provider
    recovery: Provider
    source: tuple[str, str]
    target: tuple[str, str]


def follows_at_once(item: ProtectedItem) -> bool:
    """Return whether the replica's adapters follow a change of the mapping at once.

    Only a replica at the recovery side, at rest: whatever else there is follows at its failover.
    """
    return (
        item.state is ProtectionState.PROTECTED
        and item.active_location is Side.PRIMARY
        and item.current is None
        and item.plan is None
    )


def network_job(
    key: str,
    mapping: NetworkMapping,
    ends: Ends,
    adapters_of: Mapping[str, Sequence[str]],
    identity: JobIdentity,
) -> Job:
    """Return the job that maps or unmaps a network; `adapters_of`: what follows at once."""
    job = _job(key, mapping, "Network", ends, identity)
    shown: dict[str, JsonValue] = {item: list(nics) for item, nics in adapters_of.items()}
    group = replace(
        SCENARIOS[key].task(GROUP_TASKS[key]),
        friendly_name=task_names(GROUP_TASKS[key], count=shown_count(shown))[2],
        group=GroupSpec(Operation.UPDATE_NETWORKS, tuple(adapters_of), go_on_past_errors=True),
    )
    return job.model_copy(
        update={
            "own_specs": (group,),
            "context": {**job.context, ADAPTERS_OF: shown},
            "flags": () if adapters_of else (NOTHING_ATTACHED,),
        }
    )


def storage_job(key: str, mapping: StorageMapping, ends: Ends, identity: JobIdentity) -> Job:
    """Return the job that maps or unmaps a storage classification."""
    return _job(key, mapping, "Storage", ends, identity)


def _job(
    key: str,
    mapping: NetworkMapping | StorageMapping,
    noun: str,
    ends: Ends,
    identity: JobIdentity,
) -> Job:
    affected = {
        f"primary{noun}Id": ends.source[0],
        f"primary{noun}Name": ends.source[1],
        f"recovery{noun}Id": ends.target[0],
        f"recovery{noun}Name": ends.target[1],
    }
    for word, provider in (("primary", ends.primary), ("recovery", ends.recovery)):
        affected[f"{word}VmmId"] = provider.vmm_id
        affected[f"{word}VmmName"] = title_of(provider)
        affected[f"{word}FabricProviderId"] = "VMM"
    return Job(
        id=identity.job_id,
        vault_id=mapping.vault_id,
        scenario_key=key,
        operation=None,
        target_object_id=ends.source[0],
        target_object_name=ends.source[1],
        activity_id=identity.activity_id,
        tasks=tuple(TaskRun(task_id=spec.task_id) for spec in SCENARIOS[key].tasks),
        context={"mapping": mapping.model_dump(mode="json")},
        providers={
            Side.PRIMARY: mapping.primary_provider_id,
            Side.RECOVERY: mapping.recovery_provider_id,
        },
        affected=affected,
        created_at=identity.now,
    )
