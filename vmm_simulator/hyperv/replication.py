"""The whole life of a Hyper-V Replica relationship, both ends, as one table; pure.

Sources: behaviour 1.2 (primary side), 1.3 (replica side), 1.6 (resynchronisation). What is absent
is illegal and is refused with 32775. An arc from a state to itself says that what is asked for
already holds: every verb may be repeated. Numbers that no operation leads to are in RESERVED.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from vmm_simulator.hyperv.backend import CutKind
from vmm_simulator.problems import Code, RefusedError
from wire_contract.vocabulary import ReplicationMode, ReplicationState

M = ReplicationMode
S = ReplicationState


class Operation(StrEnum):
    """What may be asked of, or happen to, one end of a relationship."""

    CREATE_PRIMARY = "create the relationship"
    CREATE_REPLICA = "accept a replica"
    START_INITIAL_REPLICATION = "start initial replication"
    EXPORT_INITIAL_REPLICATION = "export the initial copy"
    IMPORT_INITIAL_REPLICATION = "import the initial copy"
    CANCEL_INITIAL_REPLICATION = "cancel initial replication"
    COMPLETE_INITIAL_REPLICATION = "complete initial replication"
    SEND_CHANGES = "send changes"
    RECEIVE_WHOLE = "receive a whole copy"
    RECEIVE_CHANGES = "receive changes"
    SUSPEND = "pause replication"
    RESUME = "resume replication"
    FAIL = "stop for an error"
    REQUIRE_RESYNCHRONIZATION = "require resynchronization"
    SCHEDULE_RESYNCHRONIZATION = "schedule resynchronization"
    RESYNCHRONIZE = "resynchronize"
    CANCEL_RESYNCHRONIZATION = "cancel resynchronization"
    COMPLETE_RESYNCHRONIZATION = "complete resynchronization"
    PREPARE_FAILOVER = "prepare for failover"
    INITIATE_FAILOVER = "initiate failover"
    COMPLETE_FAILOVER = "complete failover"
    CHANGE_RECOVERY_POINT = "change the recovery point"
    REVERT_FAILOVER = "cancel failover"
    COMMIT_FAILOVER = "commit failover"
    TEST_REPLICA = "create a test machine"
    PREPARE_REVERSE_BY_CHANGES = "become the replica, changes alone"
    PREPARE_REVERSE_BY_RESYNCHRONIZATION = "become the replica, resynchronizing"
    REVERSE_BY_CHANGES = "become the primary, changes alone"
    REVERSE_BY_RESYNCHRONIZATION = "become the primary, resynchronizing"
    REMOVE = "remove the relationship"


O = Operation  # noqa: E741 -- the table reads as one with single letters


@dataclass(frozen=True, slots=True)
class Position:
    """Mode and state of one end.

    `before` is where a pause, an error or a cancelled failover leads back to; null is
    REPLICATING, and is all that the other states have.
    """

    mode: ReplicationMode
    state: ReplicationState
    before: ReplicationState | None = None


NO_RELATIONSHIP: Final = Position(M.NONE, S.DISABLED)

_READY: Final = Position(M.PRIMARY, S.READY)
_COPYING: Final = Position(M.PRIMARY, S.WAITING_TO_COMPLETE_INITIAL_REPLICATION)
_COPY_PAUSED: Final = Position(M.PRIMARY, S.SUSPENDED, _COPYING.state)
_COPY_FAILED: Final = Position(M.PRIMARY, S.CRITICAL, _COPYING.state)
_SENDING: Final = Position(M.PRIMARY, S.REPLICATING)
_PAUSED: Final = Position(M.PRIMARY, S.SUSPENDED)
_FAILED: Final = Position(M.PRIMARY, S.CRITICAL)
_PREPARED: Final = Position(M.PRIMARY, S.SYNCED_REPLICATION_COMPLETE)
_UNEQUAL: Final = Position(M.PRIMARY, S.WAITING_TO_START_RESYNCHRONIZE)
_COMPARING: Final = Position(M.PRIMARY, S.RESYNCHRONIZING)
_COMPARING_PAUSED: Final = Position(M.PRIMARY, S.RESYNCHRONIZATION_SUSPENDED)
_COMPARING_FAILED: Final = Position(M.PRIMARY, S.CRITICAL, _COMPARING.state)

_SHELL: Final = Position(M.REPLICA, S.WAITING_TO_COMPLETE_INITIAL_REPLICATION)
_RECEIVING: Final = Position(M.REPLICA, S.REPLICATING)
_REFUSING: Final = Position(M.REPLICA, S.SUSPENDED)
_BROKEN: Final = Position(M.REPLICA, S.CRITICAL)
_COMMITTED: Final = Position(M.REPLICA, S.COMMITTED)


def _failing_over(before: ReplicationState | None) -> Position:
    return Position(M.REPLICA, S.FAILOVER_IN_PROGRESS, before)


def _recovered(before: ReplicationState | None) -> Position:
    return Position(M.REPLICA, S.RECOVERED, before)


_PRIMARY: Final[Mapping[Position, Mapping[Operation, Position]]] = {
    _READY: {
        O.CREATE_PRIMARY: _READY,
        O.START_INITIAL_REPLICATION: _COPYING,
        O.EXPORT_INITIAL_REPLICATION: _COPYING,
        O.CANCEL_INITIAL_REPLICATION: _READY,
        O.REVERSE_BY_RESYNCHRONIZATION: _READY,
        # The copy that this one was to feed has meanwhile been failed over.
        O.PREPARE_REVERSE_BY_RESYNCHRONIZATION: _SHELL,
    },
    _COPYING: {
        O.CREATE_PRIMARY: _COPYING,
        O.START_INITIAL_REPLICATION: _COPYING,
        O.EXPORT_INITIAL_REPLICATION: _COPYING,
        O.CANCEL_INITIAL_REPLICATION: _READY,
        O.COMPLETE_INITIAL_REPLICATION: _SENDING,
        O.SUSPEND: _COPY_PAUSED,
        O.RESUME: _COPYING,
        O.FAIL: _COPY_FAILED,
        O.REVERSE_BY_RESYNCHRONIZATION: _COPYING,
        O.PREPARE_REVERSE_BY_RESYNCHRONIZATION: _SHELL,
    },
    _COPY_PAUSED: {
        O.SUSPEND: _COPY_PAUSED,
        O.RESUME: _COPYING,
        O.CANCEL_INITIAL_REPLICATION: _READY,
        O.PREPARE_REVERSE_BY_RESYNCHRONIZATION: _SHELL,
    },
    _COPY_FAILED: {
        O.FAIL: _COPY_FAILED,
        O.START_INITIAL_REPLICATION: _COPYING,
        O.RESUME: _COPYING,
        O.CANCEL_INITIAL_REPLICATION: _READY,
        O.PREPARE_REVERSE_BY_RESYNCHRONIZATION: _SHELL,
    },
    _SENDING: {
        O.CREATE_PRIMARY: _SENDING,
        O.START_INITIAL_REPLICATION: _SENDING,
        O.COMPLETE_INITIAL_REPLICATION: _SENDING,
        O.SEND_CHANGES: _SENDING,
        O.SUSPEND: _PAUSED,
        O.RESUME: _SENDING,
        O.FAIL: _FAILED,
        O.REQUIRE_RESYNCHRONIZATION: _UNEQUAL,
        O.PREPARE_FAILOVER: _PREPARED,
        O.REVERT_FAILOVER: _SENDING,
        O.REVERSE_BY_CHANGES: _SENDING,
        O.REVERSE_BY_RESYNCHRONIZATION: _SENDING,
        # After an unplanned failover elsewhere this end still thinks that it replicates.
        O.PREPARE_REVERSE_BY_RESYNCHRONIZATION: _SHELL,
    },
    # A source that was gone on without may be paused, broken or unequal by then: the failover that
    # is taken back changed nothing here, and this copy is the active one again.
    _PAUSED: {
        O.SUSPEND: _PAUSED,
        O.RESUME: _SENDING,
        O.REQUIRE_RESYNCHRONIZATION: _UNEQUAL,
        # Pausing and then resynchronizing is how one is forced on a healthy relationship (1.6).
        O.SCHEDULE_RESYNCHRONIZATION: _UNEQUAL,
        O.RESYNCHRONIZE: _COMPARING,
        O.REVERT_FAILOVER: _PAUSED,
        O.PREPARE_REVERSE_BY_RESYNCHRONIZATION: _SHELL,
    },
    _FAILED: {
        O.FAIL: _FAILED,
        O.RESUME: _SENDING,
        O.REQUIRE_RESYNCHRONIZATION: _UNEQUAL,
        O.SCHEDULE_RESYNCHRONIZATION: _UNEQUAL,
        O.RESYNCHRONIZE: _COMPARING,
        O.REVERT_FAILOVER: _FAILED,
        O.PREPARE_REVERSE_BY_RESYNCHRONIZATION: _SHELL,
    },
    _PREPARED: {
        O.PREPARE_FAILOVER: _PREPARED,
        O.REVERT_FAILOVER: _SENDING,
        O.PREPARE_REVERSE_BY_CHANGES: _RECEIVING,
        O.PREPARE_REVERSE_BY_RESYNCHRONIZATION: _SHELL,
    },
    _UNEQUAL: {
        O.REQUIRE_RESYNCHRONIZATION: _UNEQUAL,
        O.SCHEDULE_RESYNCHRONIZATION: _UNEQUAL,
        O.RESYNCHRONIZE: _COMPARING,
        O.RESUME: _COMPARING,
        O.CANCEL_RESYNCHRONIZATION: _UNEQUAL,
        O.REVERT_FAILOVER: _UNEQUAL,
        O.PREPARE_REVERSE_BY_RESYNCHRONIZATION: _SHELL,
    },
    _COMPARING: {
        O.REQUIRE_RESYNCHRONIZATION: _UNEQUAL,
        O.RESYNCHRONIZE: _COMPARING,
        O.SUSPEND: _COMPARING_PAUSED,
        O.RESUME: _COMPARING,
        O.FAIL: _COMPARING_FAILED,
        O.CANCEL_RESYNCHRONIZATION: _UNEQUAL,
        O.COMPLETE_RESYNCHRONIZATION: _SENDING,
        O.PREPARE_REVERSE_BY_RESYNCHRONIZATION: _SHELL,
    },
    _COMPARING_PAUSED: {
        O.REQUIRE_RESYNCHRONIZATION: _UNEQUAL,
        O.SUSPEND: _COMPARING_PAUSED,
        O.RESYNCHRONIZE: _COMPARING,
        O.RESUME: _COMPARING,
        O.CANCEL_RESYNCHRONIZATION: _UNEQUAL,
        O.REVERT_FAILOVER: _COMPARING_PAUSED,
        O.PREPARE_REVERSE_BY_RESYNCHRONIZATION: _SHELL,
    },
    _COMPARING_FAILED: {
        O.FAIL: _COMPARING_FAILED,
        O.REQUIRE_RESYNCHRONIZATION: _UNEQUAL,
        O.RESYNCHRONIZE: _COMPARING,
        O.RESUME: _COMPARING,
        O.CANCEL_RESYNCHRONIZATION: _UNEQUAL,
        O.REVERT_FAILOVER: _COMPARING_FAILED,
        O.PREPARE_REVERSE_BY_RESYNCHRONIZATION: _SHELL,
    },
}

_REPLICA: Final[Mapping[Position, Mapping[Operation, Position]]] = {
    _SHELL: {
        O.CREATE_REPLICA: _SHELL,
        O.RECEIVE_WHOLE: _RECEIVING,
        # Held until the import of what they build on; otherwise the bytes refuse them.
        O.RECEIVE_CHANGES: _SHELL,
        O.IMPORT_INITIAL_REPLICATION: _RECEIVING,
        O.PREPARE_REVERSE_BY_RESYNCHRONIZATION: _SHELL,
    },
    _RECEIVING: {
        O.CREATE_REPLICA: _RECEIVING,
        O.RECEIVE_WHOLE: _RECEIVING,
        O.IMPORT_INITIAL_REPLICATION: _RECEIVING,
        O.RECEIVE_CHANGES: _RECEIVING,
        O.SUSPEND: _REFUSING,
        O.RESUME: _RECEIVING,
        O.FAIL: _BROKEN,
        O.INITIATE_FAILOVER: _failing_over(None),
        O.REVERT_FAILOVER: _RECEIVING,
        O.TEST_REPLICA: _RECEIVING,
        O.PREPARE_REVERSE_BY_CHANGES: _RECEIVING,
        O.PREPARE_REVERSE_BY_RESYNCHRONIZATION: _SHELL,
    },
    _REFUSING: {
        O.SUSPEND: _REFUSING,
        O.RESUME: _RECEIVING,
        O.INITIATE_FAILOVER: _failing_over(S.SUSPENDED),
        O.REVERT_FAILOVER: _REFUSING,
    },
    _BROKEN: {
        O.FAIL: _BROKEN,
        O.RESUME: _RECEIVING,
        # Disks that are there again end the error with what they take; a whole copy ends any.
        O.RECEIVE_WHOLE: _RECEIVING,
        O.RECEIVE_CHANGES: _RECEIVING,
        O.INITIATE_FAILOVER: _failing_over(S.CRITICAL),
        O.REVERT_FAILOVER: _BROKEN,
    },
    _COMMITTED: {
        O.COMMIT_FAILOVER: _COMMITTED,
        O.REVERSE_BY_CHANGES: _SENDING,
        O.REVERSE_BY_RESYNCHRONIZATION: _READY,
    },
}


def _failovers() -> Mapping[Position, Mapping[Operation, Position]]:
    """Return the arcs of a failover, which a cancellation takes back to the state before it."""
    rows: dict[Position, Mapping[Operation, Position]] = {}
    for back in (_RECEIVING, _REFUSING, _BROKEN):
        before = None if back is _RECEIVING else back.state
        rows[_failing_over(before)] = {
            O.INITIATE_FAILOVER: _failing_over(before),
            O.CHANGE_RECOVERY_POINT: _failing_over(before),
            O.COMPLETE_FAILOVER: _recovered(before),
            O.REVERT_FAILOVER: back,
        }
        rows[_recovered(before)] = {
            O.INITIATE_FAILOVER: _recovered(before),
            O.CHANGE_RECOVERY_POINT: _failing_over(before),
            O.REVERT_FAILOVER: back,
            O.COMMIT_FAILOVER: _COMMITTED,
            O.REVERSE_BY_CHANGES: _SENDING,
            O.REVERSE_BY_RESYNCHRONIZATION: _READY,
        }
    return rows


_RELATED: Final = {**_PRIMARY, **_REPLICA, **_failovers()}

TABLE: Final[Mapping[Position, Mapping[Operation, Position]]] = {
    NO_RELATIONSHIP: {
        O.CREATE_PRIMARY: _READY,
        O.CREATE_REPLICA: _SHELL,
        O.REMOVE: NO_RELATIONSHIP,
    },
    # Removing has effect on this end alone, whatever its state (1.2, last row).
    **{position: {**arcs, O.REMOVE: NO_RELATIONSHIP} for position, arcs in _RELATED.items()},
}

RESERVED: Final[Mapping[int, str]] = {
    13: "failback in progress: a failback is a failover in the other direction (12, 5)",
    14: "failback complete: as 13; a failback ends in 5 and 6",
    15: "disk update in progress: from Windows 10 1703",
    16: "disk update critical: from Windows 10 1703",
    17: "unknown: from Windows 10 1703",
    18: "repurpose in progress: from Windows 10 1703",
    19: "prepared for sync replication: from Windows 10 1703",
    20: "prepared for group reverse: from Windows 10 1703",
    21: "firedrill in progress: from Windows 10 1703",
}
"""WMI state numbers that nothing here leads to, and why (behaviour 1.1.1, 1.2, 1.3)."""


def advance(position: Position, operation: Operation) -> Position:
    """Return where `operation` leads, or refuse with 32775 (invalid state for this operation)."""
    try:
        return TABLE[position][operation]
    except KeyError:
        raise RefusedError(
            Code.INVALID_STATE,
            f"cannot {operation} while the copy is {position.mode} in state"
            f" {int(position.state)} ({position.state.name})",
            "look at the machine's replication state; cancel or finish what is under way first",
        ) from None


def allowed(position: Position) -> frozenset[Operation]:
    """Return what may be asked of an end in this position."""
    return frozenset(TABLE.get(position, {}))


def receiving(kind: CutKind) -> Operation:
    """Return what taking a change set of this kind means to a replica."""
    whole = kind in (CutKind.FULL, CutKind.DIFFERENCES)
    return Operation.RECEIVE_WHOLE if whole else Operation.RECEIVE_CHANGES


SENDING_STATES: Final = frozenset(
    {
        S.WAITING_TO_COMPLETE_INITIAL_REPLICATION,
        S.REPLICATING,
        S.WAITING_TO_START_RESYNCHRONIZE,
        S.RESYNCHRONIZING,
        # Nothing is sent, but the log grows, and may grow too large (1.5).
        S.SUSPENDED,
        S.CRITICAL,
    }
)
"""States in which a primary's replication cycle has something to do."""

STARTABLE_REPLICA_STATES: Final = frozenset({S.RECOVERED, S.COMMITTED})
