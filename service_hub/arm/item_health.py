"""Health of a protected item, from what the providers last saw (recorded.md, section 0).

The set is refreshed by reports alone, so that it outlives a reversal until the next one, as
recorded.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from service_hub.arm.times import fine_time
from service_hub.domain.machine_health import HealthEntry, health_entries
from service_hub.domain.records import MachineObservation
from service_hub.ports.use_cases import ItemFacts
from wire_contract.vocabulary import Health, ReplicationMode

ON_PRIMARY: Final = "ReplicationUnitProviderErrorOnPrimary"
ON_REPLICA: Final = "ReplicationUnitProviderErrorOnReplica"
ALLOWED: Final = "Allowed"
"""`customerResolvability` of what resolveHealthErrors has the hub resolve."""

REPAIRED: Final = frozenset({"67501", "67502", "67512", "67518"})
"""What comparing the two copies ends, where that can be asked for."""


def resolvable(error: dict[str, Any], *, repair: bool) -> dict[str, Any]:
    """Return an error with its id, and whether `resolveHealthErrors` takes it.

    `repair`: resynchronizing is allowed now (arm-api.md, 2.7).
    """
    allowed = repair and error["errorCode"] in REPAIRED
    return {
        **error,
        "errorId": f"{error['errorCode']}:{error['errorSource']}",
        "customerResolvability": ALLOWED if allowed else "NotAllowed",
    }


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
        for entry in health_entries(replication, now):
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


def _body(
    entry: HealthEntry, source: str, machine: str, detail: str, observation: MachineObservation
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
