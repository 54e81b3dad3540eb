"""Health of a protected item, from what the providers last saw (recorded.md, section 0).

The set is refreshed by reports alone, so that it outlives a reversal until the next one, as
recorded. Codes are the recorded ones; causes and remedies are ours.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from service_hub.arm.times import fine_time
from service_hub.domain.records import MachineObservation
from service_hub.ports import ItemFacts
from wire_contract.vmm_interface import ReplicationView
from wire_contract.vocabulary import Health, ReplicationMode, ReplicationState

LATE_AFTER: Final = timedelta(minutes=10)
"""Age of the last replication from which it counts as late (text of code 67512)."""

ON_PRIMARY: Final = "ReplicationUnitProviderErrorOnPrimary"
ON_REPLICA: Final = "ReplicationUnitProviderErrorOnReplica"

_FAILED_OVER: Final = frozenset({ReplicationState.RECOVERED, ReplicationState.COMMITTED})
_PAUSED: Final = frozenset(
    {ReplicationState.SUSPENDED, ReplicationState.RESYNCHRONIZATION_SUSPENDED}
)


@dataclass(frozen=True, slots=True)
class _Entry:
    code: str
    level: str
    message: str
    causes: str
    action: str


_NOT_WORKING: Final = _Entry(
    "67501",
    "Error",
    "Replication activity isn't working as expected for virtual machine {machine}.",
    "The host reports critical replication health: {detail}.",
    "Look at the replication events of the host, and at the connection between the two hosts.",
)
_PAUSED_ENTRY: Final = _Entry(
    "67502",
    "Warning",
    "Replication was paused for virtual machine {machine}.",
    "Replication was paused on the host, or the two copies must be resynchronised.",
    "Resume replication on the host.",
)
_FAILED_OVER_ENTRY: Final = _Entry(
    "67506",
    "Warning",
    "Virtual machine {machine} is failed over.",
    "A failover was made, and replication hasn't been reversed since.",
    "Reverse the replication.",
)
_LATE: Final = _Entry(
    "67512",
    "Error",
    "The last successful replication for virtual machine {machine} was more than ten minutes ago.",
    "The hosts can't reach each other, or the changes are more than the line carries.",
    "Look at the connection between the two hosts.",
)


_MISSED: Final = _Entry(
    "67518",
    "Warning",
    "More than 20% of the replication cycles for virtual machine {machine} have been missed.",
    "The hosts can't reach each other at times, or the changes are more than the line carries.",
    "Look at the connection between the two hosts, and at how much the machine writes.",
)
_MISSED_CODE: Final = 67518


def health_errors(facts: ItemFacts, now: datetime) -> list[dict[str, Any]]:
    """Return what is wrong, the source's part first; empty when all is well or nothing is known."""
    ends = (
        (facts.primary_machine, facts.primary, facts.mapping.primary_cloud_id),
        (facts.recovery_machine, facts.recovery, facts.mapping.recovery_cloud_id),
    )
    errors = []
    for observation, fabric, cloud_id in ends:
        if observation is None or observation.machine.replication is None:
            continue
        replication = observation.machine.replication
        on_replica = replication.mode is ReplicationMode.REPLICA
        for entry in _entries(replication, now):
            machine = f"'{observation.machine.name}' in '{fabric.provider.vmm_fqdn}'|'{cloud_id}'"
            source = ON_REPLICA if on_replica else ON_PRIMARY
            detail = replication.last_error or "no more is known"
            errors.append(_body(entry, source, machine, detail, observation))
    return sorted(errors, key=lambda error: str(error["errorSource"]))


def replication_health(facts: ItemFacts, errors: Iterable[dict[str, Any]]) -> str:
    """Return Critical if any error is an Error, else the worst of warnings and what hosts say."""
    levels = {error["errorLevel"] for error in errors}
    seen = {
        observation.machine.replication.health
        for observation in (facts.primary_machine, facts.recovery_machine)
        if observation is not None and observation.machine.replication is not None
    }
    if "Error" in levels or Health.CRITICAL in seen:
        return "Critical"
    if "Warning" in levels or Health.WARNING in seen:
        return "Warning"
    # Before the first observation nothing is known; "None" is the dialect's word for that.
    return "Normal" if Health.NORMAL in seen else "None"


def _entries(replication: ReplicationView, now: datetime) -> Iterable[_Entry]:
    if replication.health is Health.CRITICAL or replication.state is ReplicationState.CRITICAL:
        yield _NOT_WORKING
    last = replication.last_replication_at
    replicating = replication.state is ReplicationState.REPLICATING
    if replicating and last is not None and now - last > LATE_AFTER:
        yield _LATE
    if any(code.code == _MISSED_CODE for code in replication.health_codes):
        yield _MISSED
    if replication.state in _PAUSED:
        yield _PAUSED_ENTRY
    if replication.state in _FAILED_OVER:
        yield _FAILED_OVER_ENTRY


def _body(
    entry: _Entry, source: str, machine: str, detail: str, observation: MachineObservation
) -> dict[str, Any]:
    return {
        "errorSource": source,
        "errorType": "ReplicationHealth",
        "errorLevel": entry.level,
        "errorCategory": "Replication",
        "errorCode": entry.code,
        "errorMessage": entry.message.format(machine=machine),
        "possibleCauses": entry.causes.format(detail=detail),
        "recommendedAction": entry.action,
        "creationTimeUtc": fine_time(observation.observed_at),
        "recoveryProviderErrorMessage": None,
        "entityId": observation.machine.hyperv_id,
        "innerHealthErrors": [],
    }
