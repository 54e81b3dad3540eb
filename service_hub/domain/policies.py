"""What a replication policy may say (seed, step 4; behaviour.md, sections 1.4 and 2.2)."""

from dataclasses import dataclass
from typing import Final

from service_hub.domain.records import ReplicationPolicy

FREQUENCIES_SECONDS: Final = (30, 300, 900)
RECOVERY_POINTS_MAX: Final = {"HyperVReplica2012": 15, "HyperVReplica2012R2": 24}
APPLICATION_CONSISTENT_HOURS_MAX: Final = 12
CERTIFICATE: Final = 2
PORT_MIN, PORT_MAX = 1, 65_535


@dataclass(frozen=True, slots=True)
class PolicyProblem:
    """Which property is wrong, and what it may be."""

    target: str
    message: str


def policy_problem(policy: ReplicationPolicy) -> PolicyProblem | None:
    """Return the first thing that is wrong with a policy, or None."""
    return next((problem for wrong, problem in _rules(policy) if wrong), None)


def _rules(policy: ReplicationPolicy) -> tuple[tuple[bool, PolicyProblem], ...]:
    points_max = RECOVERY_POINTS_MAX[policy.provider_type]
    hours, points = policy.application_consistent_hours, policy.recovery_points
    return (
        (
            policy.replication_frequency_seconds not in FREQUENCIES_SECONDS,
            PolicyProblem(
                "replicationFrequencyInSeconds",
                "replicationFrequencyInSeconds is 30, 300 or 900",
            ),
        ),
        (
            not 0 <= points <= points_max,
            PolicyProblem("recoveryPoints", f"recoveryPoints is 0 to {points_max}"),
        ),
        (
            not 0 <= hours <= APPLICATION_CONSISTENT_HOURS_MAX,
            PolicyProblem(
                "applicationConsistentSnapshotFrequencyInHours",
                "applicationConsistentSnapshotFrequencyInHours is 0 (off) to 12",
            ),
        ),
        (
            hours > 0 and hours >= points,
            PolicyProblem(
                "applicationConsistentSnapshotFrequencyInHours",
                "applicationConsistentSnapshotFrequencyInHours must be less than recoveryPoints",
            ),
        ),
        (
            not PORT_MIN <= policy.replication_port <= PORT_MAX,
            PolicyProblem("replicationPort", "replicationPort is 1 to 65535"),
        ),
        (
            policy.allowed_authentication_type != CERTIFICATE,
            PolicyProblem(
                "allowedAuthenticationType",
                "allowedAuthenticationType 1 (Kerberos) is not available in this version: "
                "use 2 (certificate)",
            ),
        ),
        (
            policy.initial_replication_method != "OverNetwork",
            PolicyProblem(
                "initialReplicationMethod",
                "initialReplicationMethod Offline is not available in this version: "
                "use OverNetwork",
            ),
        ),
        (
            bool(policy.online_start_time),
            PolicyProblem(
                "onlineReplicationStartTime",
                "a start time for initial replication is not available in this version: "
                "leave onlineReplicationStartTime empty to begin at once",
            ),
        ),
    )
