"""What `failover ...` sends: the bodies, the same for machines and plans (arm-api, 1 and 2.7)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

PROVIDER: Final = "HyperVReplica2012R2"
"""instanceType of everything between two VMM sites of 2012 R2 hosts."""


@dataclass(frozen=True, slots=True)
class Request:
    """An operation: its name in `allowedOperations`, the SDK's method, words for people."""

    operation: str
    method: str
    words: str
    question: str | None = None
    """Asked before it is sent, with the target's name; None: it takes nothing away."""


TEST = Request("TestFailover", "begin_test_failover", "test failover of")
CLEANUP = Request(
    "TestFailoverCleanup",
    "begin_test_failover_cleanup",
    "test clean-up of",
    "End the test of {} and delete its test machines?",
)
PLANNED = Request(
    "PlannedFailover",
    "begin_planned_failover",
    "planned failover of",
    "Shut down {} and start it at the other site?",
)
UNPLANNED = Request(
    "UnplannedFailover",
    "begin_unplanned_failover",
    "unplanned failover of",
    "Start {} at the other site without its last changes?",
)
COMMIT = Request(
    "Commit",
    "begin_failover_commit",
    "commit of",
    "Commit the failover of {}? It cannot be cancelled after that.",
)
CANCEL = Request(
    "CancelFailover",
    "begin_failover_cancel",
    "cancellation of the failover of",
    "Take back the failover of {}?",
)
CHANGE_POINT = Request(
    "ChangePit",
    "begin_apply_recovery_point",
    "change of the recovery point of",
    "Start {} again from that recovery point? What it has written since its failover is lost.",
)
RESYNCHRONIZE = Request("RepairReplication", "begin_repair_replication", "resynchronization of")
REVERSE = Request(
    "ReverseReplicate",
    "begin_reprotect",
    "reverse replication of",
    "Replicate {} from where it runs now over its former source?",
)

Body = Mapping[str, Mapping[str, Any]]


def failover_body(direction: str, **more: object) -> Body:
    """Return the body of a failover, a test or a reversal; what is None is left out."""
    told = {name: value for name, value in more.items() if value is not None}
    return {"properties": {"failoverDirection": direction, **told}}


def point_details(point: str | None) -> Mapping[str, str] | None:
    """Return the part of a body that names a recovery point by its id; None: the newest."""
    if point is None:
        return None
    return {"instanceType": PROVIDER, "recoveryPointId": point}


def chosen_point_body(point: str) -> Body:
    """Return the body of a change of the recovery point."""
    return {
        "properties": {
            "recoveryPointId": point,
            "providerSpecificDetails": {"instanceType": PROVIDER},
        }
    }


def comments_body(comments: str) -> Body:
    """Return the body of a clean-up."""
    return {"properties": {"comments": comments}}


def network_part(network_id: str | None) -> Mapping[str, str]:
    """Return how the machines of a test are connected: to nothing where no network is named."""
    if network_id is None:
        return {"networkType": "NoNetworkAttachAsInput"}
    return {"networkType": "VmNetworkAsInput", "networkId": network_id}
