"""Failover events that are put in from outside: what may be injected, into what, and when; pure.

An injected failover is an operator's request that the hub sends itself, at a moment or again and
again; a site's outage, the loss of its provider and faults of replication go to laboratory sites.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Final

from cronsim import CronSim, CronSimError
from pydantic import Field, JsonValue

from service_hub.domain.errors import ConflictError, InvalidRequestError
from service_hub.domain.jobs import Job, TaskRun
from service_hub.domain.planning import INJECTED_BY, JobIdentity
from service_hub.domain.records import Provider, Record
from service_hub.domain.scenarios import SCENARIOS

LATE_MAX: Final = timedelta(minutes=15)
"""An event of a schedule that could not be injected for so long is left out: a failover that was
meant for the night must not happen at noon because the hub was away."""

AHEAD_MAX: Final = timedelta(days=366)
"""How far ahead a moment may lie."""

CLAIM: Final = timedelta(minutes=1)
"""How long the hub that began to inject an event is left alone with it; another goes on then."""

CRON_CHARACTERS_MAX: Final = 100


class InjectionKind(StrEnum):
    """What may be injected."""

    TEST_FAILOVER = "test_failover"
    TEST_FAILOVER_CLEANUP = "test_failover_cleanup"
    PLANNED_FAILOVER = "planned_failover"
    UNPLANNED_FAILOVER = "unplanned_failover"
    CHANGE_RECOVERY_POINT = "change_recovery_point"
    CANCEL_FAILOVER = "cancel_failover"
    COMMIT = "commit"
    REVERSE_REPLICATE = "reverse_replicate"
    SITE_OUTAGE = "site_outage"
    PROVIDER_LOSS = "provider_loss"
    REPLICATION_FAULT = "replication_fault"


SITE_KINDS: Final = frozenset(
    {
        InjectionKind.SITE_OUTAGE,
        InjectionKind.PROVIDER_LOSS,
        InjectionKind.REPLICATION_FAULT,
    }
)
"""What goes to the management port of a laboratory site; the rest are requests of operators."""

ARM_VERBS: Final[Mapping[InjectionKind, str]] = {
    InjectionKind.TEST_FAILOVER: "testFailover",
    InjectionKind.TEST_FAILOVER_CLEANUP: "testFailoverCleanup",
    InjectionKind.PLANNED_FAILOVER: "plannedFailover",
    InjectionKind.UNPLANNED_FAILOVER: "unplannedFailover",
    InjectionKind.CHANGE_RECOVERY_POINT: "applyRecoveryPoint",
    InjectionKind.CANCEL_FAILOVER: "failoverCancel",
    InjectionKind.COMMIT: "failoverCommit",
    InjectionKind.REVERSE_REPLICATE: "reProtect",
}
"""What is posted to an item or a plan (arm-api.md, section 1)."""


class InjectionState(StrEnum):
    """Where an injection is; only SCHEDULED is not final."""

    SCHEDULED = "Scheduled"
    INJECTED = "Injected"
    REFUSED = "Refused"
    MISSED = "Missed"
    CANCELLED = "Cancelled"


class Injection(Record):
    """An event that somebody had injected; stored before anything of it happens.

    `event` is the kind; `at` what was asked for; `next_at` is when it is due, None when it will not
    be any more. `principal`, `role` and `account` (a service account's id) are of who asked.
    `begun_at`: since when a hub makes its request. `times` counts what was begun; `job_id`,
    `message`, and of a refusal `status` and `code` tell of the last time that it was due.
    """

    kind: ClassVar[str] = "injection"

    event: InjectionKind
    target: str
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    at: datetime | None = None
    cron: str | None = None
    principal: str
    role: str
    account: str | None = None
    requested_at: datetime
    state: InjectionState = InjectionState.SCHEDULED
    next_at: datetime | None = None
    begun_at: datetime | None = None
    times: int = 0
    job_id: str | None = None
    message: str = ""
    status: int | None = None
    code: str | None = None


def first_moment(at: datetime | None, cron: str | None, now: datetime) -> datetime:
    """Return when an injection is first due; InvalidRequestError for what can't be kept to.

    Neither: now. A cron expression is in UTC.
    """
    if at is not None and cron is not None:
        raise InvalidRequestError("Give 'at' or 'cron', not both.", "at")
    if cron is not None:
        return next_moment(cron, now)
    if at is None:
        return now
    if at < now - LATE_MAX:
        raise InvalidRequestError(f"'at' lies in the past: {at.isoformat()}.", "at")
    if at > now + AHEAD_MAX:
        raise InvalidRequestError("'at' lies more than a year ahead.", "at")
    return at.astimezone(UTC)


def next_moment(cron: str, after: datetime) -> datetime:
    """Return the first moment of a cron expression (five fields, UTC) after another one."""
    if len(cron) > CRON_CHARACTERS_MAX or len(cron.split()) != len("mhdMw"):
        raise InvalidRequestError(
            "'cron' must have five fields, as in '30 2 * * 6' (Saturdays, 02:30 UTC).", "cron"
        )
    try:
        found = next(CronSim(cron, after.astimezone(UTC)), None)
    except CronSimError as error:
        raise InvalidRequestError(f"'cron' can't be understood: {error}.", "cron") from None
    if found is None:
        raise InvalidRequestError("'cron' names a moment that never comes.", "cron")
    return found


def is_too_late(injection: Injection, now: datetime) -> bool:
    """Return whether the time that it was due for lies too far back."""
    return injection.next_at is not None and now - injection.next_at > LATE_MAX


def is_free(injection: Injection, now: datetime) -> bool:
    """Return whether it is due and no hub is at it: one that was killed is waited for no longer."""
    if injection.state is not InjectionState.SCHEDULED or injection.next_at is None:
        return False
    begun = injection.begun_at
    return injection.next_at <= now and (begun is None or now - begun > CLAIM)


def firing_id(injection: Injection) -> str:
    """Return what this time is known by, the same on every hub and after every kill."""
    assert injection.next_at is not None, "it is due"
    return f"{injection.id}/{injection.next_at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an injection when it was due: a job, or why there is none.

    `status` and `code` are what the surface itself would answer.
    """

    state: InjectionState
    job_id: str | None = None
    message: str = ""
    status: int | None = None
    code: str | None = None


def after(injection: Injection, outcome: Outcome, now: datetime) -> Injection:
    """Return the injection once it was due: waiting for its next time, or at its end.

    A hub that comes back leaves out what is too late, and does not miss what is not.
    """
    changed: dict[str, object] = {
        "begun_at": None,
        "times": injection.times + (outcome.job_id is not None),
        "job_id": outcome.job_id,
        "message": outcome.message,
        "status": outcome.status,
        "code": outcome.code,
    }
    if injection.cron is not None:
        missed = outcome.state is InjectionState.MISSED
        changed |= {"next_at": next_moment(injection.cron, now - LATE_MAX if missed else now)}
    else:
        changed |= {"next_at": None, "state": outcome.state}
    return injection.model_copy(update=changed)


def cancelled(injection: Injection) -> Injection:
    """Return it as it is when nothing more is to come of it; ConflictError where nothing would."""
    if injection.state is InjectionState.CANCELLED:
        return injection
    if injection.state is not InjectionState.SCHEDULED:
        raise ConflictError(
            f"The injection {injection.id} has ended as {injection.state.value}: there is nothing"
            " left to cancel. Cancel its job where that still runs."
        )
    if injection.begun_at is not None:
        raise ConflictError(
            f"The injection {injection.id} is being injected at this moment: look at it again in a"
            " minute, and cancel its job, or then the schedule."
        )
    return injection.model_copy(update={"next_at": None, "state": InjectionState.CANCELLED})


INJECT: Final = "inject_event"
"""The plan of an event's job at a laboratory site."""


def plan_site_job(injection: Injection, provider: Provider, identity: JobIdentity) -> Job:
    """Return the job of an event that goes to a laboratory site, not begun."""
    return Job(
        id=identity.job_id,
        vault_id=injection.vault_id,
        scenario_key=INJECT,
        operation=None,
        target_object_id=provider.vmm_id,
        target_object_name=provider.vmm_fqdn,
        activity_id=identity.activity_id,
        tasks=tuple(TaskRun(task_id=spec.task_id) for spec in SCENARIOS[INJECT].tasks),
        context={"event": injection.event.value, "arguments": injection.arguments},
        affected={INJECTED_BY: injection.id},
        created_at=identity.now,
    )


def event_of(job: Job) -> tuple[InjectionKind, str, Mapping[str, JsonValue]]:
    """Return what a job of an event injects, into the site of which VMM server, and how."""
    arguments: Any = job.context["arguments"]
    return InjectionKind(str(job.context["event"])), job.target_object_name, arguments
