"""Health of one end and the recorded codes for it; pure (behaviour 1.9, recorded.md section 0).

RULES is the whole judgement: the worst rule that applies is the health. CODES are what the real
service says of a machine in words; their levels are theirs, not the host's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from vmm_simulator.hyperv.replication import Position
from vmm_simulator.hyperv.statistics import Monitoring, Statistics
from wire_contract.vocabulary import Health, ReplicationMode, ReplicationState

M = ReplicationMode
S = ReplicationState

FAILURES_IN_A_ROW_MAX: Final = 1
"""One failed cycle is retried quietly; when the retry fails too, health is Critical (1.9.2)."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What one end is judged by; `now` is the moment of the judgement."""

    position: Position
    fenced: bool
    failures_in_a_row: int
    statistics: Statistics
    monitoring: Monitoring
    last_replication_at: datetime | None
    established_at: datetime
    now: datetime

    @property
    def age(self) -> timedelta:
        """How long ago the last change set was sent or received."""
        return self.now - (self.last_replication_at or self.established_at)


def _in(mode: ReplicationMode | None, *states: ReplicationState) -> Callable[[Facts], bool]:
    def applies(facts: Facts) -> bool:
        at = facts.position
        return at.state in states and (mode is None or at.mode is mode)

    return applies


def _older_than(facts: Facts, seconds: int) -> bool:
    return facts.age > timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the judgement."""

    health: Health
    because: str
    applies: Callable[[Facts], bool]


RULES: Final[Sequence[Rule]] = (
    Rule(Health.CRITICAL, "the copy is fenced", lambda facts: facts.fenced),
    Rule(Health.CRITICAL, "replication stands still for an error", _in(None, S.CRITICAL)),
    Rule(
        Health.CRITICAL,
        "changes cannot be sent",
        lambda facts: facts.failures_in_a_row > FAILURES_IN_A_ROW_MAX,
    ),
    Rule(
        Health.CRITICAL,
        "resynchronization is required",
        _in(None, S.WAITING_TO_START_RESYNCHRONIZE),
    ),
    Rule(Health.CRITICAL, "the replica is paused", _in(M.REPLICA, S.SUSPENDED)),
    Rule(
        Health.WARNING,
        "too many cycles were missed in the monitoring interval",
        lambda facts: facts.statistics.missed_share > facts.monitoring.missed_share_max,
    ),
    Rule(
        Health.WARNING,
        "nothing was sent or received for too long",
        lambda facts: _older_than(facts, facts.monitoring.age_seconds_max),
    ),
    Rule(
        Health.WARNING,
        "sending takes too long",
        lambda facts: (
            facts.statistics.average_latency_seconds >= facts.monitoring.latency_seconds_max
        ),
    ),
    Rule(
        Health.WARNING,
        "the initial replication is not complete",
        _in(None, S.READY, S.WAITING_TO_COMPLETE_INITIAL_REPLICATION),
    ),
    Rule(
        Health.WARNING,
        "the machine is prepared for a failover",
        _in(None, S.SYNCED_REPLICATION_COMPLETE),
    ),
    Rule(
        Health.WARNING,
        "the machine is failed over and not reversed",
        _in(None, S.FAILOVER_IN_PROGRESS, S.RECOVERED, S.COMMITTED),
    ),
    Rule(Health.WARNING, "the primary is paused", _in(M.PRIMARY, S.SUSPENDED)),
    Rule(
        Health.WARNING,
        "the two copies are being compared",
        _in(None, S.RESYNCHRONIZING, S.RESYNCHRONIZATION_SUSPENDED),
    ),
)
"""In the documented order: everything Critical first."""


def reasons(facts: Facts) -> Sequence[Rule]:
    """Return the rules that apply, the worst first."""
    if facts.position.mode in (M.NONE, M.TEST_REPLICA) or facts.position.state is S.DISABLED:
        return ()
    return tuple(rule for rule in RULES if rule.applies(facts))


def health(facts: Facts) -> Health:
    """Return the health of one end."""
    if facts.position.mode in (M.NONE, M.TEST_REPLICA) or facts.position.state is S.DISABLED:
        return Health.NOT_APPLICABLE
    return next((rule.health for rule in reasons(facts)), Health.NORMAL)


@dataclass(frozen=True, slots=True)
class HealthCode:
    """A code as it was recorded; `{machine}` in the text names machine, server and cloud."""

    code: int
    level: str
    text: str
    causes: str
    remedy: str
    applies: Callable[[Facts], bool]


_FAILED_OVER: Final = _in(M.REPLICA, S.RECOVERED, S.COMMITTED)
_REPLICATES: Final = _in(None, S.REPLICATING, S.RECOVERED, S.COMMITTED, S.SUSPENDED, S.CRITICAL)
_PAUSED: Final = _in(None, S.SUSPENDED, S.RESYNCHRONIZATION_SUSPENDED)

CODES: Final[Mapping[int, HealthCode]] = {
    each.code: each
    for each in (
        HealthCode(
            67501,
            "Error",
            "Replication activity isn't working as expected for virtual machine {machine}.",
            "The hosts cannot reach each other, a disk is full, or the copies must be compared.",
            "Look at the last error of the replication on the host, remove its cause, and resume"
            " or resynchronize.",
            lambda facts: health(facts) is Health.CRITICAL,
        ),
        HealthCode(
            67502,
            "Warning",
            "Replication was paused for virtual machine {machine}.",
            "Replication was paused on the host, or the copy was passed by in a failover.",
            "Resume replication, or reverse it after a failover.",
            lambda facts: facts.fenced or _PAUSED(facts),
        ),
        HealthCode(
            67506,
            "Warning",
            "Virtual machine {machine} is failed over.",
            "A failover was made, and replication has not been reversed since.",
            "Commit the failover and reverse the replication, or cancel the failover.",
            _FAILED_OVER,
        ),
        HealthCode(
            67512,
            "Error",
            "The last successful replication for virtual machine {machine} was more than ten"
            " minutes ago.",
            "The hosts cannot reach each other, the changes are more than the line carries, or"
            " the machine is failed over.",
            "Look at the connection between the two hosts; reverse the replication after a"
            " failover.",
            lambda facts: _REPLICATES(facts) and _older_than(facts, facts.monitoring.late_seconds),
        ),
        HealthCode(
            67518,
            "Warning",
            "More than 20% of the replication cycles for virtual machine {machine} have been"
            " missed.",
            "Sending a change set takes longer than the replication interval.",
            "Choose a longer interval, give replication more bandwidth, or reset the statistics"
            " once the cause is gone.",
            lambda facts: facts.statistics.missed_share > facts.monitoring.missed_share_max,
        ),
        HealthCode(
            161011,
            "Error",
            "No successful test failover has been done on the virtual machine {machine}.",
            "The machine has been protected for some time and was never tested.",
            "Make a test failover.",
            lambda facts: (
                facts.position == Position(M.REPLICA, S.REPLICATING)
                and facts.statistics.last_test_failover_at is None
                and facts.now - facts.established_at
                > timedelta(seconds=facts.monitoring.test_due_seconds)
            ),
        ),
    )
}
"""The recorded codes; causes and remedies are ours. 161011 speaks of the failover's health."""


def codes(facts: Facts) -> Sequence[HealthCode]:
    """Return the recorded codes that apply to one end now, by number."""
    if facts.position.mode in (M.NONE, M.TEST_REPLICA):
        return ()
    return tuple(each for each in CODES.values() if each.applies(facts))
