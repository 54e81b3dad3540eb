"""The hub's own checks: the prerequisites task of each job, and the refusal before it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from service_hub.domain import errors
from service_hub.domain.errors import CATALOGUE, OperationNotAllowedError
from service_hub.domain.fence_override import reason_of
from service_hub.domain.jobs import Job, JobError
from service_hub.domain.protection import (
    DESCRIPTIONS,
    REPAIRABLE,
    UNDO_FAILED_STATES,
    Operation,
    ProtectionState,
    arc_of,
    expected_direction,
)
from service_hub.domain.records import ContainerMapping, ProtectedItem, ReplicationPolicy
from service_hub.domain.scenarios import OTHER_COPY_LOST
from service_hub.domain.split_brain import choice_of, left_behind
from wire_contract.reports import ProviderError
from wire_contract.vmm_interface import MachineView
from wire_contract.vocabulary import Direction, ReplicationMode, ReplicationState, Side

_CODE_OF_OPERATION: Mapping[Operation, str] = {
    Operation.COMMIT: errors.COMMIT_NOT_READY,
    Operation.REVERSE_REPLICATE: errors.REVERSE_NOT_READY,
}

_WITHOUT_SOURCE = frozenset(
    {Operation.UNPLANNED_FAILOVER, Operation.TEST_FAILOVER, Operation.TEST_FAILOVER_CLEANUP}
)
"""Operations that need the recovery side alone (behaviour.md, 2.8 and 2.10)."""

_FAILED_OVER_COPY_ALONE = frozenset({Operation.COMMIT, Operation.CHANGE_RECOVERY_POINT})
"""Operations that need the copy alone that was failed over."""

_NOT_WHILE_COMPARING = frozenset({Operation.PLANNED_FAILOVER, Operation.TEST_FAILOVER})
"""Refused while the copies are compared; unplanned is allowed (behaviour.md, 1.3)."""

_COMPARING = frozenset(
    {
        ReplicationState.WAITING_TO_START_RESYNCHRONIZE,
        ReplicationState.RESYNCHRONIZING,
        ReplicationState.RESYNCHRONIZATION_SUSPENDED,
    }
)


_NOT_WAITED_FOR = "its lease has expired, and the failover does not wait for it"


@dataclass(frozen=True, slots=True)
class SideFacts:
    """What the hub knows of one end when it checks; `machine` is its copy as seen at `seen_at`."""

    name: str
    connected: bool
    last_contact: str
    replication_state: ReplicationState | None
    machine: MachineView | None = None
    seen_at: datetime | None = None


def job_error(code: str, now: datetime, *, name: str, detail: str) -> JobError:
    """Return a catalogued error with its words filled in."""
    entry = CATALOGUE[code]
    words = {"name": name, "detail": detail}
    return JobError(
        code=code,
        message=entry.message.format(**words),
        possible_causes=entry.possible_causes.format(**words),
        recommended_action=entry.recommended_action.format(**words),
        created_at=now,
    )


def provider_error(error: ProviderError, now: datetime, *, name: str) -> JobError:
    """Return a provider's failure as the job shows it: our part and the provider's."""
    own = str(error.code) in {errors.TEST_NETWORK_TYPE, errors.NETWORK_MISSING}
    code = str(error.code) if own else errors.PROVIDER_FAILED
    base = job_error(code, now, name=name, detail=error.message)
    return base.model_copy(
        update={
            "provider_code": error.code,
            "provider_message": error.message,
            "provider_causes": error.possible_causes,
            "provider_action": error.recommended_action,
        }
    )


def refusal_when_busy(
    item: ProtectedItem, now: datetime, *, for_plan: str | None = None
) -> JobError | None:
    """Return 532 when another operation holds the item (`currentScenario` is the lock).

    A recovery plan's job holds its items too; `for_plan` is whose own jobs may begin.
    """
    holder = item.current
    if holder is None and item.plan is not None and item.plan.job_id != for_plan:
        holder = item.plan
    if holder is None:
        return None
    detail = f"{holder.scenario_name} since {holder.started_at:%Y-%m-%dT%H:%M:%SZ}"
    return job_error(errors.BUSY, now, name=item.friendly_name, detail=detail)


def refusal_of_state(
    item: ProtectedItem, operation: Operation, requested: Direction | None, now: datetime
) -> JobError | None:
    """Return why the operation is not allowed in this state or direction, or None."""
    try:
        arc_of(item.state, operation)
    except OperationNotAllowedError:
        code = _CODE_OF_OPERATION.get(operation, errors.NOT_ALLOWED)
        detail = f"its state is '{DESCRIPTIONS[item.state]}'"
        return job_error(code, now, name=item.friendly_name, detail=detail)
    if operation is Operation.OVERRIDE_FENCE and item.authority_questioned_at is not None:
        detail = "which copy may run is in question since a restore: decide that first"
        return job_error(errors.NOT_ALLOWED, now, name=item.friendly_name, detail=detail)
    if operation is Operation.UPDATE_NETWORKS and item.active_location is Side.RECOVERY:
        detail = "it runs at the recovery side: the adapters there are changed in VMM"
        return job_error(errors.NOT_ALLOWED, now, name=item.friendly_name, detail=detail)
    expected = expected_direction(operation, item.active_location)
    if requested is not None and requested is not expected:
        detail = (
            f"It runs at the {item.active_location.value.lower()} side: the direction is "
            f"{expected.value}, not {requested.value}"
        )
        return job_error(errors.WRONG_DIRECTION, now, name=item.friendly_name, detail=detail)
    return None


def check_item_job(job: Job, sides: Mapping[Side, SideFacts], now: datetime) -> JobError | None:
    """Return why a begun job on an item must stop at its prerequisites, or None.

    Both servers must be connected, except where only the recovery side is needed; a failover needs
    a replica that has all of the initial replication.
    """
    assert job.operation is not None, "a job on an item has an operation"
    source, target = job.direction.place(Side.PRIMARY), job.direction.place(Side.RECOVERY)
    own = _OF_THEIR_OWN.get(job.operation)
    if own is not None:
        return own(job, sides, now)
    alone = job.operation in _FAILED_OVER_COPY_ALONE or job.operation in _WITHOUT_SOURCE
    needed = [target] if alone else [source, target]
    for side in needed:
        if not sides[side].connected:
            return job_error(
                errors.NOT_CONNECTED,
                now,
                name=sides[side].name,
                detail=f"last heard of {sides[side].last_contact}",
            )
    if job.operation is Operation.REPAIR:
        return _refusal_of_repair(job, sides[source], now)
    failovers = {Operation.PLANNED_FAILOVER, Operation.UNPLANNED_FAILOVER, Operation.TEST_FAILOVER}
    state = sides[target].replication_state
    complete = {ReplicationState.REPLICATING, ReplicationState.SUSPENDED, ReplicationState.CRITICAL}
    if job.began_in in UNDO_FAILED_STATES:
        complete |= {ReplicationState.RECOVERED, ReplicationState.FAILOVER_IN_PROGRESS}
    elif job.operation in _NOT_WHILE_COMPARING and sides[source].replication_state in _COMPARING:
        detail = "its copies are being compared (resynchronization): wait until that has ended"
        return job_error(errors.NOT_ALLOWED, now, name=job.target_object_name, detail=detail)
    if job.operation in failovers and state is not None and state not in complete:
        detail = f"the replica's replication state is {state.name}"
        return job_error(errors.NOT_ALLOWED, now, name=job.target_object_name, detail=detail)
    return _refusal_of_loss(job, sides[source], sides[target], now)


def _refusal_of_loss(
    job: Job, holder: SideFacts, former: SideFacts, now: datetime
) -> JobError | None:
    """Return why a reversal needs a choice: the former source may hold what nobody else does."""
    failed_over_at = job.context.get("failed_over_at")
    reverses = job.operation is Operation.REVERSE_REPLICATE and job.context.get("unplanned")
    arguments = job.context.get("arguments")
    if not reverses or not isinstance(arguments, dict) or choice_of(arguments) is not None:
        return None
    since = None if failed_over_at is None else datetime.fromisoformat(str(failed_over_at))
    left = left_behind(former.machine, holder.machine, former.seen_at, since)
    if not left.may_be_lost:
        return None
    name = job.target_object_name
    return job_error(errors.SOURCE_HOLDS_MORE, now, name=name, detail=left.words)


def _refusal_of_force(job: Job, sides: Mapping[Side, SideFacts], now: datetime) -> JobError | None:
    """Return why protection is not removed by force: both ends can do it themselves, or a test."""
    target = sides[job.direction.place(Side.RECOVERY)]
    name = job.target_object_name
    tried = job.began_in is ProtectionState.DISABLE_FAILED
    if all(facts.connected for facts in sides.values()) and not tried:
        detail = "both servers are connected"
        return job_error(errors.NOT_FORCED, now, name=name, detail=detail)
    if job.began_in is ProtectionState.TEST_OPEN and target.connected:
        detail = f"a test failover is open at {target.name}: clean it up first"
        return job_error(errors.NOT_ALLOWED, now, name=name, detail=detail)
    return None


def _refusal_of_override(
    job: Job, sides: Mapping[Side, SideFacts], now: datetime
) -> JobError | None:
    """Return why a fenced copy is not let start (architecture, decision 4).

    The other copy is fenced first, or somebody has said that it is lost: never both unsaid.
    """
    other, former = (sides[job.direction.place(side)] for side in Side)
    name, lost = job.target_object_name, OTHER_COPY_LOST in job.flags
    if not reason_of(job):
        return job_error(errors.OVERRIDE_UNREASONED, now, name=name, detail="None was given")
    if not former.connected:
        detail = f"last heard of {former.last_contact}"
        return job_error(errors.NOT_CONNECTED, now, name=former.name, detail=detail)
    if lost and other.connected:
        detail = f"Its server {other.name} is connected"
        return job_error(errors.OTHER_COPY_HEARD, now, name=name, detail=detail)
    if not lost and not other.connected:
        detail = f"Its server {other.name} was last heard of {other.last_contact}"
        return job_error(errors.OTHER_COPY_SILENT, now, name=name, detail=detail)
    return _refusal_of_reversed(job, former, now)


def _refusal_of_reversed(job: Job, former: SideFacts, now: datetime) -> JobError | None:
    """Return why a former source can't be started: a reversal has made it a replica.

    One that failed half-way. Were the authority taken from the other copy, none would run.
    """
    replication = None if former.machine is None else former.machine.replication
    if replication is None or replication.mode is not ReplicationMode.REPLICA:
        return None
    if replication.state in {ReplicationState.RECOVERED, ReplicationState.COMMITTED}:
        return None
    detail = f"At {former.name} its replication state is {replication.state.name}"
    return job_error(errors.SOURCE_REVERSED, now, name=job.target_object_name, detail=detail)


_OF_THEIR_OWN: Final[
    Mapping[Operation, Callable[[Job, Mapping[Side, SideFacts], datetime], JobError | None]]
] = {Operation.PURGE: _refusal_of_force, Operation.OVERRIDE_FENCE: _refusal_of_override}
"""Checks of operations that do without one of the servers."""


def _refusal_of_repair(job: Job, source: SideFacts, now: datetime) -> JobError | None:
    """Return why nothing is resynchronized: the source replicates as it should."""
    state = source.replication_state
    if state in REPAIRABLE:
        return None
    detail = "its state is unknown" if state is None else f"its replication state is {state.name}"
    return job_error(errors.NOTHING_TO_REPAIR, now, name=job.target_object_name, detail=detail)


def given_up(job: Job, side: Side, now: datetime) -> JobError:
    """Return why an end is not waited for: its provider's lease has expired.

    Where protection is removed by force, with what is to be run there later.
    """
    word = "primary" if side is job.direction.place(Side.PRIMARY) else "recovery"
    name = job.affected.get(f"{word}VmmName", job.providers[side])
    if job.operation is Operation.PURGE:
        machine = job.affected.get(f"{word}VmId", job.target_object_id)
        return job_error(errors.CLEAN_UP_THERE, now, name=name, detail=machine)
    return job_error(errors.NOT_CONNECTED, now, name=name, detail=_NOT_WAITED_FOR)


def check_pairing_job(job: Job, sides: Mapping[Side, SideFacts], now: datetime) -> JobError | None:
    """Return why two clouds cannot be prepared for replication now, or None."""
    del job
    for facts in sides.values():
        if not facts.connected:
            detail = f"last heard of {facts.last_contact}"
            return job_error(errors.NOT_CONNECTED, now, name=facts.name, detail=detail)
    return None


def refusal_of_pairing(
    mapping: ContainerMapping,
    present: Sequence[ContainerMapping],
    names: Mapping[str, str],
    now: datetime,
    policies: Mapping[str, ReplicationPolicy] | None = None,
) -> JobError | None:
    """Return why a pair may not be made: a cloud is in one pair only (seed, step 4.5).

    The same two clouds may be paired once for each kind of host: under a policy for 2012 and one
    for 2012 R2 (arm-api.md, section 5). `policies` are those of the vault, by id.
    """
    kinds = {key: each.provider_type for key, each in (policies or {}).items()}
    mine = {mapping.primary_cloud_id, mapping.recovery_cloud_id}
    for other in present:
        if other.id == mapping.id and (other.primary_cloud_id, other.recovery_cloud_id) == (
            mapping.primary_cloud_id,
            mapping.recovery_cloud_id,
        ):
            continue
        if other.mapping_state == "PairingFailed" or _serves_other_hosts(mapping, other, kinds):
            continue
        taken = mine & {other.primary_cloud_id, other.recovery_cloud_id}
        if taken:
            name = names.get(min(taken), min(taken))
            detail = f"It belongs to the mapping '{other.name}' already"
            return job_error(errors.CLOUD_IN_USE, now, name=name, detail=detail)
    return None


def _serves_other_hosts(
    mapping: ContainerMapping, other: ContainerMapping, kinds: Mapping[str, str]
) -> bool:
    clouds = (mapping.primary_cloud_id, mapping.recovery_cloud_id)
    if clouds != (other.primary_cloud_id, other.recovery_cloud_id):
        return False
    mine, theirs = kinds.get(mapping.policy_id), kinds.get(other.policy_id)
    return mine is not None and theirs is not None and mine != theirs
