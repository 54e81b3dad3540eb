"""From a request and the facts to a job, and from a job to the records that it is about.

All that a job's tasks need is put into the job when it is made, so that a job goes on after a
restart with what it was decided on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from service_hub.domain.item_life import (
    COMMITTED,
    REMOVALS,
    begin_on_item,
    direction_of,
    former_of,
    key_of,
    own_specs_of,
    provider_to_refresh,
    reflect_on_item,
    restart_on_item,
    with_choices,
)
from service_hub.domain.item_mappings import (
    MappingFacts,
    adapters_context,
    adapters_flags,
    adapters_for,
    placement,
)
from service_hub.domain.jobs import Job, JobError, JobState, TaskRun, TaskState
from service_hub.domain.plan_drills import member_arguments
from service_hub.domain.policies import (
    initial_replication_at,
    is_offline,
    relationship_settings,
    server_of,
)
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import (
    ProtectedItem,
    Provider,
    ReplicationPolicy,
)
from service_hub.domain.scenarios import OTHER_COPY_LOST, SCENARIOS, TaskSpec
from service_hub.domain.self_fence import (
    SELF_FENCE_FOLLOWS,
    SELF_FENCE_TASK,
    waiting_facts,
    waiting_specs,
)
from wire_contract.vmm_interface import MachineView
from wire_contract.vocabulary import Direction, Side

__all__ = [
    "ItemPlan",
    "JobIdentity",
    "affected_objects",
    "begin_on_item",
    "direction_of",
    "former_of",
    "plan_item_job",
    "plan_policy_job",
    "provider_to_refresh",
    "reflect_on_item",
    "refused",
    "restart_on_item",
    "stopped_at_prerequisites",
]

_BY_ITEM_NAME: Final = frozenset(
    {
        Operation.ENABLE,
        Operation.DISABLE,
        Operation.PURGE,
        Operation.REPAIR,
        Operation.COMPLETE_PRIMARY,
        Operation.COMPLETE_RECOVERY,
    }
)
"""Their jobs' target is the item, not the machine that is the source now (recorded.md, 0)."""

_WITH_IDLE_REPLICA: Final = frozenset(
    {
        ProtectionState.INITIAL_REPLICATION,
        ProtectionState.PRIMARY_COMPLETED,
        ProtectionState.PROTECTED,
    }
)


INJECTED_BY: Final = "injectionId"
"""Among a job's affected objects: the injected event that began it."""


@dataclass(frozen=True, slots=True)
class JobIdentity:
    """Ids and time of a new job, handed in; `injection_id` is of the event that asked for it."""

    job_id: str
    activity_id: str
    now: datetime
    injection_id: str | None = None

    @property
    def mark(self) -> dict[str, str]:
        """What an injected job's affected objects say of that."""
        return {} if self.injection_id is None else {INJECTED_BY: self.injection_id}


@dataclass(frozen=True, slots=True)
class ItemPlan:
    """The facts a job on an item is made from; `host_versions` are by the names of hosts.

    `primary_broker`: the replica broker of the cluster that the primary's host is a node of.
    """

    item: ProtectedItem
    policy: ReplicationPolicy
    primary: Provider
    recovery: Provider
    clouds: Mapping[str, str]
    machine: MachineView | None
    host_versions: Mapping[str, str] = field(default_factory=dict)
    mapped: MappingFacts = field(default_factory=MappingFacts)
    primary_broker: str | None = None


def plan_item_job(
    plan: ItemPlan,
    operation: Operation,
    arguments: Mapping[str, JsonValue],
    identity: JobIdentity,
) -> Job:
    """Return the job of an operation, not begun; whether it is allowed its first check says."""
    item = plan.item
    direction = direction_of(operation, item.active_location, item.state)
    if operation is Operation.TEST_FAILOVER:
        networks = plan.mapped.networks
        arguments = member_arguments(arguments, networks, direction, identity.job_id)
    key = key_of(item, operation, arguments)
    source = direction.place(Side.PRIMARY)
    test_operations = {Operation.TEST_FAILOVER, Operation.TEST_FAILOVER_CLEANUP}
    target = item.id if operation in _BY_ITEM_NAME | test_operations else item.machine_at(source)
    deletes = operation is Operation.DISABLE and deletes_replica(item, plan.policy)
    own = own_specs_of(
        operation,
        item.state,
        offline=_is_offline(plan, operation),
        deletes=deletes,
        takes_over=item.taken_over,
    ) + waiting_specs(operation, plan.policy)
    adapters = adapters_for(with_choices(item, arguments), operation, direction, plan.mapped)
    return Job(
        id=identity.job_id,
        vault_id=item.vault_id,
        scenario_key=key,
        operation=operation,
        direction=direction,
        item_id=item.id,
        target_object_id=target,
        target_object_name=item.friendly_name,
        activity_id=identity.activity_id,
        tasks=tuple(TaskRun(task_id=each) for each in _task_ids(key, own)),
        own_specs=own,
        flags=adapters_flags(adapters) + _flags(item, operation, arguments),
        context=_context(plan, operation, arguments, identity.now)
        | _removal(operation, deletes=deletes)
        | adapters_context(adapters),
        providers={
            Side.PRIMARY: item.primary_provider_id,
            Side.RECOVERY: item.recovery_provider_id,
        },
        affected={**affected_objects(plan, direction), **identity.mark},
        created_at=identity.now,
        epoch=item.epoch,
        began_in=item.state,
    )


def deletes_replica(item: ProtectedItem, policy: ReplicationPolicy) -> bool:
    """Return whether the replica goes with the protection (seed, step 4: delete-replica flag).

    Never what is failed over: it may be the only copy. What enabling has left half made always; and
    what a removal that failed was to delete, since that may have been done.
    """
    if item.state is ProtectionState.ENABLE_FAILED:
        return not item.taken_over
    if item.state is ProtectionState.DISABLE_FAILED:
        return item.replica_goes
    return policy.replica_deletion_required and item.state in _WITH_IDLE_REPLICA


def _removal(operation: Operation, *, deletes: bool) -> dict[str, JsonValue]:
    return {"delete_replica": deletes} if operation in REMOVALS else {}


def _task_ids(key: str, own: Sequence[TaskSpec]) -> list[str]:
    """Return the tasks of a job; one that the plan does not have follows its first check."""
    first, *rest = [spec.task_id for spec in SCENARIOS[key].tasks]
    more = [spec.task_id for spec in own if spec.task_id not in {first, *rest}]
    if more == [SELF_FENCE_TASK]:
        place = rest.index(SELF_FENCE_FOLLOWS) + 1
        return [first, *rest[:place], *more, *rest[place:]]
    return [first, *more, *rest]


def _is_offline(plan: ItemPlan, operation: Operation) -> bool:
    """Whether the first copy travels: as the policy says it now, or said it when it was begun."""
    if operation is Operation.ENABLE:
        return is_offline(plan.policy) and not plan.item.taken_over
    return plan.item.initial_replication_type == "Offline"


def _flags(
    item: ProtectedItem, operation: Operation, arguments: Mapping[str, JsonValue]
) -> tuple[str, ...]:
    flags = ["states_updated_later"]
    if not arguments.get("source_operations_required", False):
        flags.append("source_operations_not_required")
    if operation is Operation.REVERSE_REPLICATE and item.state in COMMITTED:
        flags.append("already_committed")
    if operation is Operation.OVERRIDE_FENCE and arguments.get(OTHER_COPY_LOST):
        flags.append(OTHER_COPY_LOST)
    return tuple(flags)


def _context(
    plan: ItemPlan,
    operation: Operation,
    arguments: Mapping[str, JsonValue],
    now: datetime,
) -> dict[str, JsonValue]:
    item, policy, view = plan.item, plan.policy, plan.machine
    context: dict[str, JsonValue] = {
        "item": item.id,
        "name": item.friendly_name,
        "relationship_id": item.relationship_id,
        "machines": {side.value: item.machine_at(side) for side in Side},
        "hosts": {Side.PRIMARY.value: item.primary_host, Side.RECOVERY.value: item.recovery_host},
        "clouds": {
            Side.PRIMARY.value: item.primary_cloud_id,
            Side.RECOVERY.value: item.recovery_cloud_id,
        },
        "settings": _settings(plan, operation),
        **_offline_folders(plan, operation),
        **waiting_facts(operation, policy),
        "servers": {
            Side.PRIMARY.value: plan.primary.vmm_id,
            Side.RECOVERY.value: plan.recovery.vmm_id,
        },
        "unplanned": item.failed_over_unplanned,
        "arguments": dict(arguments),
    }
    if operation is Operation.ENABLE and view is not None:
        starts = initial_replication_at(policy, now)
        if starts is not None:
            context["start_at"] = starts.isoformat().replace("+00:00", "Z")
        context["machine"] = {
            "hyperv_id": view.hyperv_id,
            "generation": view.generation,
            "disks": [
                disk.model_dump(mode="json", include={"disk_id", "name", "kind", "size_bytes"})
                for disk in view.disks
            ],
            **placement(item, view, plan.mapped),
            **({} if plan.primary_broker is None else {"primary_broker": plan.primary_broker}),
        }
    if operation is Operation.REVERSE_REPLICATE:
        if item.last_failover_at is not None:
            context["failed_over_at"] = item.last_failover_at.isoformat()
        if "kept_machine_id" in arguments:
            context["kept_machine_id"] = arguments["kept_machine_id"]
    if operation is Operation.ENABLE and item.taken_over and view is not None and view.replication:
        peer = view.replication
        place: dict[str, JsonValue] = {
            "replica_host": peer.peer_host,
            "replica_port": peer.peer_port,
        }
        context["result:CreateProtectionTargetTask"] = place
    if operation is Operation.TEST_FAILOVER:
        context["test_machine_id"] = str(arguments["test_machine_id"])
        context["test_name"] = f"{item.friendly_name} - Test"
        context["network_id"] = arguments.get("network_id")
    elif item.test_machine_id is not None:
        context["test_machine_id"] = item.test_machine_id
        context["test_name"] = f"{item.friendly_name} - Test"
    if "comments" in arguments:
        context["comments"] = arguments["comments"]
    return context


def _offline_folders(plan: ItemPlan, operation: Operation) -> dict[str, JsonValue]:
    """Return the folder that a first copy is written to or brought in from, if it travels."""
    item, policy = plan.item, plan.policy
    if not _is_offline(plan, operation):
        return {}
    if operation is Operation.ENABLE:
        return {
            "offline_folder": policy.offline_export_path,
            "further_servers": [server_of(policy.offline_import_path)],
        }
    below = policy.offline_import_path.rstrip("\\")
    return {"offline_folder": f"{below}\\{item.offline_folder}"}


def _settings(plan: ItemPlan, operation: Operation) -> dict[str, JsonValue]:
    """Return what the relationship gets: as the host of its source, or of its next one, can."""
    item = plan.item
    source = direction_of(operation, item.active_location).place(Side.PRIMARY)
    host = item.primary_host if source is Side.PRIMARY else item.recovery_host
    points = None if plan.machine is None else plan.machine.recovery_points
    return relationship_settings(plan.policy, plan.host_versions.get(host), points)


def affected_objects(plan: ItemPlan, direction: Direction) -> dict[str, str]:
    """Return affectedObjectDetails: Primary... is the source of the present relation."""
    item = plan.item
    providers = {Side.PRIMARY: plan.primary, Side.RECOVERY: plan.recovery}
    clouds = {Side.PRIMARY: item.primary_cloud_id, Side.RECOVERY: item.recovery_cloud_id}
    result: dict[str, str] = {"protectionProfileId": plan.policy.id}
    for word, side in (
        ("primary", direction.place(Side.PRIMARY)),
        ("recovery", direction.place(Side.RECOVERY)),
    ):
        result[f"{word}VmId"] = item.machine_at(side)
        result[f"{word}VmName"] = item.friendly_name
        result[f"{word}CloudId"] = clouds[side]
        result[f"{word}CloudName"] = plan.clouds.get(clouds[side], "")
        result[f"{word}VmmId"] = providers[side].vmm_id
        result[f"{word}VmmName"] = providers[side].friendly_name
        result[f"{word}FabricProviderId"] = "VMM"
    return result


# --------------------------------------------------------------------------------- other jobs


def plan_policy_job(
    policy: ReplicationPolicy, identity: JobIdentity, key: str = "create_policy"
) -> Job:
    """Return the job that creates, or deletes, a policy: the hub's own tasks."""
    return Job(
        id=identity.job_id,
        vault_id=policy.vault_id,
        scenario_key=key,
        operation=None,
        target_object_id=policy.id,
        target_object_name=policy.name,
        activity_id=identity.activity_id,
        tasks=tuple(TaskRun(task_id=spec.task_id) for spec in SCENARIOS[key].tasks),
        created_at=identity.now,
    )


def refused(job: Job, error: JobError, now: datetime) -> Job:
    """Return the job as one that failed before it began: every task skipped (code 532)."""
    tasks = tuple(task.model_copy(update={"state": TaskState.SKIPPED}) for task in job.tasks)
    return _failed(job, tasks, error, now)


def stopped_at_prerequisites(job: Job, error: JobError, now: datetime) -> Job:
    """Return the job as one that failed in its first task, which looks at the item's state."""
    first, *rest = job.tasks
    update = {"state": TaskState.FAILED, "attempt": 1, "started_at": now, "ended_at": now}
    tasks = (
        first.model_copy(update=update),
        *(task.model_copy(update={"state": TaskState.SKIPPED}) for task in rest),
    )
    return _failed(job, tasks, error.model_copy(update={"task_id": first.task_id}), now)


def _failed(job: Job, tasks: tuple[TaskRun, ...], error: JobError, now: datetime) -> Job:
    return job.model_copy(
        update={
            "state": JobState.FAILED,
            "tasks": tasks,
            "errors": (error,),
            "started_at": now,
            "ended_at": now,
            # It never held the item.
            "began_in": None,
        }
    )
