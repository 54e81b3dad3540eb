"""What is wrong with one end of a replication: the recorded codes, from what its host last said.

Codes and words are the recorded ones (recorded.md, section 0); causes and remedies are ours. Pure.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from wire_contract.vmm_interface import ReplicationView
from wire_contract.vocabulary import Health, ReplicationState

LATE_AFTER: Final = timedelta(minutes=10)
"""Age of the last replication from which it counts as late (text of code 67512)."""

_FAILED_OVER: Final = frozenset({ReplicationState.RECOVERED, ReplicationState.COMMITTED})
_PAUSED: Final = frozenset(
    {ReplicationState.SUSPENDED, ReplicationState.RESYNCHRONIZATION_SUSPENDED}
)


@dataclass(frozen=True, slots=True)
class HealthEntry:
    """One thing that is wrong; `message` has a place for the machine, `causes` for a detail."""

    code: str
    level: str
    message: str
    causes: str
    action: str


_NOT_WORKING: Final = HealthEntry(
    "67501",
    "Error",
    "Replication activity isn't working as expected for virtual machine {machine}.",
    "The host reports critical replication health: {detail}.",
    "Look at the replication events of the host, and at the connection between the two hosts.",
)
_PAUSED_ENTRY: Final = HealthEntry(
    "67502",
    "Warning",
    "Replication was paused for virtual machine {machine}.",
    "Replication was paused on the host, or the two copies must be resynchronised.",
    "Resume replication on the host.",
)
_FAILED_OVER_ENTRY: Final = HealthEntry(
    "67506",
    "Warning",
    "Virtual machine {machine} is failed over.",
    "A failover was made, and replication hasn't been reversed since.",
    "Reverse the replication.",
)
_LATE: Final = HealthEntry(
    "67512",
    "Error",
    "The last successful replication for virtual machine {machine} was more than ten minutes ago.",
    "The hosts can't reach each other, or the changes are more than the line carries.",
    "Look at the connection between the two hosts.",
)
_MISSED: Final = HealthEntry(
    "67518",
    "Warning",
    "More than 20% of the replication cycles for virtual machine {machine} have been missed.",
    "The hosts can't reach each other at times, or the changes are more than the line carries.",
    "Look at the connection between the two hosts, and at how much the machine writes.",
)
_MISSED_CODE: Final = 67518


def health_entries(replication: ReplicationView, now: datetime) -> Iterator[HealthEntry]:
    """Yield what is wrong at this end, in the recorded order."""
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
