"""The whole life of a protected item as one table; what is absent is not allowed.

States and allowed operations follow the recorded item table (recorded.md, section 0); busy states
and those while initial replication runs were not recorded and are named in its manner. Operations
that this version cannot carry out are absent: what the table offers, works.

Over 400 lines because the states, their words and the ways between them are one table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from service_hub.domain.errors import OperationNotAllowedError
from wire_contract.vocabulary import Direction, ReplicationState, Side, Word


class ProtectionState(Word):
    """`protectionState` of an item; the values are what the ARM surface shows."""

    UNPROTECTED = "Unprotected"
    ENABLING = "EnablingProtection"
    ENABLE_FAILED = "EnablingFailed"
    INITIAL_REPLICATION = "InitialReplicationInProgress"
    COMPLETING_PRIMARY = "PrimaryIrCompletionInProgress"
    PRIMARY_COMPLETED = "PrimaryIrCompleted"
    COMPLETING_RECOVERY = "SecondaryIrCompletionInProgress"
    PROTECTED = "Protected"
    REPAIRING = "ResynchronizationInProgress"
    DISABLING = "DisablingProtection"
    DISABLE_FAILED = "DisablingFailed"
    PURGING = "PurgingProtection"
    STARTING_TEST = "TestFailoverInProgress"
    TEST_OPEN = "TestFailoverOpen"
    CLEANING_TEST = "TestFailoverCleanupInProgress"
    PLANNED_FAILING_OVER = "PlannedFailoverInProgress"
    PLANNED_FAILED_OVER = "PlannedFailoverCommitRequired"
    PLANNED_COMMITTING = "PlannedFailoverCommitInProgress"
    PLANNED_COMMITTED = "PlannedFailoverStatesBegin"
    PLANNED_CHANGING_POINT = "PlannedFailoverChangeRecoveryPointInProgress"
    PLANNED_CANCELLING = "PlannedFailoverCancellationInProgress"
    PLANNED_REVERSING = "PlannedReverseReplicationInProgress"
    UNPLANNED_FAILING_OVER = "UnplannedFailoverInProgress"
    UNPLANNED_FAILED_OVER = "UnplannedFailoverCommitPendingStatesBegin"
    UNPLANNED_COMMITTING = "UnplannedFailoverCommitInProgress"
    UNPLANNED_COMMITTED = "UnplannedFailoverStatesBegin"
    UNPLANNED_CHANGING_POINT = "UnplannedFailoverChangeRecoveryPointInProgress"
    UNPLANNED_CANCELLING = "UnplannedFailoverCancellationInProgress"
    UNPLANNED_REVERSING = "UnplannedReverseReplicationInProgress"
    PLANNED_UNDO_FAILED = "PlannedFailoverUndoFailed"
    UNPLANNED_UNDO_FAILED = "UnplannedFailoverUndoFailed"
    PLANNED_COMMIT_FAILED = "PlannedFailoverCommitFailed"
    UNPLANNED_COMMIT_FAILED = "UnplannedFailoverCommitFailed"
    UPDATING_NETWORKS = "UpdatingNetworkAdapters"
    OVERRIDING = "FenceOverrideInProgress"
    OVERRIDING_COMMITTED = "CommittedFenceOverrideInProgress"
    OVERRIDDEN = "FenceOverridden"


class TestState(StrEnum):
    """`testFailoverState`; a finished clean-up stays visible for good (recorded.md, section 0)."""

    NONE = "None"
    WAITING_FOR_COMPLETION = "WaitingForCompletion"
    MARKED_FOR_DELETION = "MarkedForDeletion"


class Operation(Word):
    """What an operator may ask of an item (ARM `ReplicationProtectedItemOperation`).

    The two completions are begun by the hub itself when initial replication has ended, updates of
    a replica's network adapters when a network mapping has changed. A purge is a DELETE: disabling
    without the servers that are gone. A fence is overridden through a route of the hub's own.
    """

    ENABLE = "EnableProtection"
    DISABLE = "DisableProtection"
    PURGE = "PurgeProtection"
    REPAIR = "RepairReplication"
    COMPLETE_PRIMARY = "CompletePrimary"
    COMPLETE_RECOVERY = "CompleteRecovery"
    TEST_FAILOVER = "TestFailover"
    TEST_FAILOVER_CLEANUP = "TestFailoverCleanup"
    PLANNED_FAILOVER = "PlannedFailover"
    UNPLANNED_FAILOVER = "UnplannedFailover"
    COMMIT = "Commit"
    REVERSE_REPLICATE = "ReverseReplicate"
    CHANGE_RECOVERY_POINT = "ChangePit"
    CANCEL_FAILOVER = "CancelFailover"
    UPDATE_NETWORKS = "UpdateNetworks"
    OVERRIDE_FENCE = "OverrideFence"


@dataclass(frozen=True, slots=True)
class Arc:
    """An operation's way: busy in `via`, then `done` or `failed`.

    `failed` holds after a failure or a cancellation where nothing lasting happened or all of it was
    taken back; a task that changes that names its own state (`leaves`). `undo_failed` holds when
    not all could be taken back; without it, there is nothing to take back, or `failed` holds too.
    `undone`: what holds instead of `failed` after both ends were brought back to where they were
    before any failover, from states in which an earlier job had not managed that. `half_done`: what
    holds instead of `failed` once a task with no way back may have begun and did not end well.
    """

    via: ProtectionState
    done: ProtectionState
    failed: ProtectionState
    undo_failed: ProtectionState | None = None
    undone: ProtectionState | None = None
    half_done: ProtectionState | None = None

    @property
    def after_failed_undo(self) -> ProtectionState:
        """The state in which the item is left when not all could be taken back."""
        return self.undo_failed or self.failed


S = ProtectionState
O = Operation  # noqa: E741 -- one letter, as in the house style's model table

_PLANNED_FAILOVER: Final = Arc(
    via=S.PLANNED_FAILING_OVER,
    done=S.PLANNED_FAILED_OVER,
    failed=S.PROTECTED,
    undo_failed=S.PLANNED_UNDO_FAILED,
)
_UNPLANNED_FAILOVER: Final = Arc(
    via=S.UNPLANNED_FAILING_OVER,
    done=S.UNPLANNED_FAILED_OVER,
    failed=S.PROTECTED,
    undo_failed=S.UNPLANNED_UNDO_FAILED,
)

_OVERRIDE: Final = Arc(
    via=S.OVERRIDING, done=S.UNPLANNED_UNDO_FAILED, failed=S.UNPLANNED_UNDO_FAILED
)
"""The source gets the authority back; its replica stays failed over, and is fenced."""

_OVERRIDE_COMMITTED: Final = Arc(via=S.OVERRIDING_COMMITTED, done=S.OVERRIDDEN, failed=S.OVERRIDDEN)
"""A commit is not taken back: protection is ended and begun anew from there."""

_LIFE: Final[Mapping[ProtectionState, Mapping[Operation, Arc]]] = {
    S.UNPROTECTED: {
        # Cancelled, and all taken back, the machine is as if nobody had asked.
        O.ENABLE: Arc(
            via=S.ENABLING,
            done=S.INITIAL_REPLICATION,
            failed=S.ENABLE_FAILED,
            undone=S.UNPROTECTED,
        ),
    },
    S.ENABLE_FAILED: {
        O.ENABLE: Arc(via=S.ENABLING, done=S.INITIAL_REPLICATION, failed=S.ENABLE_FAILED),
    },
    S.INITIAL_REPLICATION: {
        O.COMPLETE_PRIMARY: Arc(
            via=S.COMPLETING_PRIMARY, done=S.PRIMARY_COMPLETED, failed=S.INITIAL_REPLICATION
        ),
    },
    S.PRIMARY_COMPLETED: {
        O.COMPLETE_RECOVERY: Arc(
            via=S.COMPLETING_RECOVERY, done=S.PROTECTED, failed=S.PRIMARY_COMPLETED
        ),
    },
    S.PROTECTED: {
        O.PLANNED_FAILOVER: _PLANNED_FAILOVER,
        O.UNPLANNED_FAILOVER: _UNPLANNED_FAILOVER,
        # A test machine that could not be removed is a test to be cleaned up.
        O.TEST_FAILOVER: Arc(
            via=S.STARTING_TEST, done=S.TEST_OPEN, failed=S.PROTECTED, undo_failed=S.TEST_OPEN
        ),
        O.REPAIR: Arc(via=S.REPAIRING, done=S.PROTECTED, failed=S.PROTECTED),
        O.UPDATE_NETWORKS: Arc(via=S.UPDATING_NETWORKS, done=S.PROTECTED, failed=S.PROTECTED),
    },
    # The item is active where it was, but one of its copies may still be prepared or failed over,
    # or off. A planned failover takes that back first (scenarios.AFTER_FAILED_UNDO); an unplanned
    # one starts the replica as it is, failed over already or not.
    S.PLANNED_UNDO_FAILED: {
        O.PLANNED_FAILOVER: replace(
            _PLANNED_FAILOVER, failed=S.PLANNED_UNDO_FAILED, undone=S.PROTECTED
        ),
        # Its undo leaves the former preparation of the source as it is.
        O.UNPLANNED_FAILOVER: replace(
            _UNPLANNED_FAILOVER, failed=S.PLANNED_UNDO_FAILED, undo_failed=S.PLANNED_UNDO_FAILED
        ),
    },
    S.UNPLANNED_UNDO_FAILED: {
        O.PLANNED_FAILOVER: replace(
            _PLANNED_FAILOVER, failed=S.UNPLANNED_UNDO_FAILED, undone=S.PROTECTED
        ),
        O.UNPLANNED_FAILOVER: replace(
            _UNPLANNED_FAILOVER, failed=S.UNPLANNED_UNDO_FAILED, undone=S.PROTECTED
        ),
        O.OVERRIDE_FENCE: _OVERRIDE,
    },
    S.TEST_OPEN: {
        O.TEST_FAILOVER_CLEANUP: Arc(via=S.CLEANING_TEST, done=S.PROTECTED, failed=S.TEST_OPEN),
    },
    S.PLANNED_FAILED_OVER: {
        # Half a commit has removed recovery points: it can only be completed, not undone.
        O.REVERSE_REPLICATE: Arc(
            via=S.PLANNED_REVERSING,
            done=S.PROTECTED,
            failed=S.PLANNED_FAILED_OVER,
            half_done=S.PLANNED_COMMIT_FAILED,
        ),
        O.COMMIT: Arc(
            via=S.PLANNED_COMMITTING,
            done=S.PLANNED_COMMITTED,
            failed=S.PLANNED_FAILED_OVER,
            half_done=S.PLANNED_COMMIT_FAILED,
        ),
        # At an older point, what came after it is lost: from there on it is as after an unplanned
        # failover, and reversed by comparing (ours: the state afterwards was not recorded).
        O.CHANGE_RECOVERY_POINT: Arc(
            via=S.PLANNED_CHANGING_POINT,
            done=S.UNPLANNED_FAILED_OVER,
            failed=S.PLANNED_FAILED_OVER,
        ),
        O.CANCEL_FAILOVER: Arc(
            via=S.PLANNED_CANCELLING, done=S.PROTECTED, failed=S.PLANNED_FAILED_OVER
        ),
    },
    S.PLANNED_COMMIT_FAILED: {
        O.REVERSE_REPLICATE: Arc(
            via=S.PLANNED_REVERSING, done=S.PROTECTED, failed=S.PLANNED_COMMIT_FAILED
        ),
        O.COMMIT: Arc(
            via=S.PLANNED_COMMITTING, done=S.PLANNED_COMMITTED, failed=S.PLANNED_COMMIT_FAILED
        ),
    },
    S.PLANNED_COMMITTED: {
        O.REVERSE_REPLICATE: Arc(
            via=S.PLANNED_REVERSING, done=S.PROTECTED, failed=S.PLANNED_COMMITTED
        ),
    },
    S.UNPLANNED_FAILED_OVER: {
        # Half a commit has removed recovery points: it can only be completed, not undone.
        O.REVERSE_REPLICATE: Arc(
            via=S.UNPLANNED_REVERSING,
            done=S.INITIAL_REPLICATION,
            failed=S.UNPLANNED_FAILED_OVER,
            half_done=S.UNPLANNED_COMMIT_FAILED,
        ),
        O.COMMIT: Arc(
            via=S.UNPLANNED_COMMITTING,
            done=S.UNPLANNED_COMMITTED,
            failed=S.UNPLANNED_FAILED_OVER,
            half_done=S.UNPLANNED_COMMIT_FAILED,
        ),
        O.CHANGE_RECOVERY_POINT: Arc(
            via=S.UNPLANNED_CHANGING_POINT,
            done=S.UNPLANNED_FAILED_OVER,
            failed=S.UNPLANNED_FAILED_OVER,
        ),
        O.CANCEL_FAILOVER: Arc(
            via=S.UNPLANNED_CANCELLING, done=S.PROTECTED, failed=S.UNPLANNED_FAILED_OVER
        ),
        O.OVERRIDE_FENCE: replace(_OVERRIDE, failed=S.UNPLANNED_FAILED_OVER),
    },
    S.UNPLANNED_COMMIT_FAILED: {
        O.REVERSE_REPLICATE: Arc(
            via=S.UNPLANNED_REVERSING, done=S.INITIAL_REPLICATION, failed=S.UNPLANNED_COMMIT_FAILED
        ),
        O.COMMIT: Arc(
            via=S.UNPLANNED_COMMITTING, done=S.UNPLANNED_COMMITTED, failed=S.UNPLANNED_COMMIT_FAILED
        ),
        O.OVERRIDE_FENCE: replace(_OVERRIDE_COMMITTED, failed=S.UNPLANNED_COMMIT_FAILED),
    },
    S.UNPLANNED_COMMITTED: {
        O.REVERSE_REPLICATE: Arc(
            via=S.UNPLANNED_REVERSING, done=S.INITIAL_REPLICATION, failed=S.UNPLANNED_COMMITTED
        ),
        O.OVERRIDE_FENCE: replace(_OVERRIDE_COMMITTED, failed=S.UNPLANNED_COMMITTED),
    },
    # Begun again where the other end was not reached.
    S.OVERRIDDEN: {O.OVERRIDE_FENCE: _OVERRIDE_COMMITTED},
}

_REMOVABLE: Final = (*_LIFE, S.DISABLE_FAILED)
"""Where protection can be ended: wherever an item rests."""


def _ends(state: ProtectionState) -> Mapping[Operation, Arc]:
    """Return how protection ends from a state, whatever that is (recorded.md, sections 0 and 8).

    Not while a test is open: its clean-up comes first (arm-api.md, 2.7). By force even then: the
    replica's site may be the one that is gone.
    """
    if state is S.UNPROTECTED:
        return {}
    purge = {O.PURGE: Arc(via=S.PURGING, done=S.UNPROTECTED, failed=state)}
    if state is S.TEST_OPEN:
        return purge
    return {O.DISABLE: Arc(via=S.DISABLING, done=S.UNPROTECTED, failed=state), **purge}


TRANSITIONS: Final[Mapping[ProtectionState, Mapping[Operation, Arc]]] = {
    state: {**_LIFE.get(state, {}), **_ends(state)} for state in _REMOVABLE
}
"""The whole life; an item that is unprotected again is stored no longer (records.FormerItem)."""

UNDO_FAILED_STATES: Final = frozenset({S.PLANNED_UNDO_FAILED, S.UNPLANNED_UNDO_FAILED})
"""An earlier failover was not fully taken back: what holds at both ends is not known for sure."""

INTERNAL_OPERATIONS: Final = frozenset(
    {
        Operation.ENABLE,
        Operation.PURGE,
        Operation.REPAIR,
        Operation.COMPLETE_PRIMARY,
        Operation.COMPLETE_RECOVERY,
        Operation.UPDATE_NETWORKS,
        Operation.OVERRIDE_FENCE,
    }
)
"""Begun by the hub, by a PUT, a DELETE or a route of the hub's own, or offered only where it is of
use (`repair`); never listed in `allowedOperations` for the state alone."""

ENDING_STATES: Final = frozenset({S.DISABLING, S.DISABLE_FAILED, S.PURGING})
"""One of the ends may be without its relationship already."""

FAILED_OVER_STATES: Final = frozenset(
    {
        S.PLANNED_FAILED_OVER,
        S.PLANNED_COMMITTED,
        S.UNPLANNED_FAILED_OVER,
        S.UNPLANNED_COMMITTED,
        S.PLANNED_COMMIT_FAILED,
        S.UNPLANNED_COMMIT_FAILED,
    }
)
"""It runs at what is the replica of the present relation."""

_RECORDED_ORDER: Final = (
    Operation.REVERSE_REPLICATE,
    Operation.COMMIT,
    Operation.PLANNED_FAILOVER,
    Operation.UNPLANNED_FAILOVER,
    Operation.DISABLE,
    Operation.TEST_FAILOVER,
    Operation.TEST_FAILOVER_CLEANUP,
    Operation.CHANGE_RECOVERY_POINT,
    # Not recorded: ours, where a failover can be undone before its commit.
    Operation.CANCEL_FAILOVER,
)

BUSY_STATES: Final = frozenset(arc.via for arcs in TRANSITIONS.values() for arc in arcs.values())

DESCRIPTIONS: Final[Mapping[ProtectionState, str]] = {
    S.UNPROTECTED: "Unprotected",
    S.ENABLING: "Enabling protection",
    S.ENABLE_FAILED: "Enabling protection failed",
    S.INITIAL_REPLICATION: "Initial replication in progress",
    S.COMPLETING_PRIMARY: "Finalizing protection on the primary virtual machine",
    S.PRIMARY_COMPLETED: "Protection finalized on the primary virtual machine",
    S.COMPLETING_RECOVERY: "Finalizing protection on the recovery virtual machine",
    S.PROTECTED: "Protected",
    S.REPAIRING: "Resynchronization in progress",
    S.DISABLING: "Disabling protection",
    S.DISABLE_FAILED: "Disabling protection failed",
    S.PURGING: "Removing protection by force",
    S.STARTING_TEST: "Test failover in progress",
    S.TEST_OPEN: "Cleanup test failover pending",
    S.CLEANING_TEST: "Test failover cleanup in progress",
    S.PLANNED_FAILING_OVER: "Planned failover in progress",
    S.PLANNED_FAILED_OVER: "Planned failover finished",
    S.PLANNED_COMMITTING: "Commit in progress",
    S.PLANNED_COMMITTED: "Planned failover committed",
    S.PLANNED_CHANGING_POINT: "Changing the recovery point",
    S.PLANNED_CANCELLING: "Cancelling the failover",
    S.PLANNED_REVERSING: "Reverse replication in progress",
    S.UNPLANNED_FAILING_OVER: "Failover in progress",
    S.UNPLANNED_FAILED_OVER: "Failover completed",
    S.UNPLANNED_COMMITTING: "Commit in progress",
    S.UNPLANNED_COMMITTED: "Failover committed",
    S.UNPLANNED_CHANGING_POINT: "Changing the recovery point",
    S.UNPLANNED_CANCELLING: "Cancelling the failover",
    S.UNPLANNED_REVERSING: "Reverse replication in progress",
    S.PLANNED_UNDO_FAILED: "Planned failover not fully taken back",
    S.UNPLANNED_UNDO_FAILED: "Failover not fully taken back",
    S.PLANNED_COMMIT_FAILED: "Commit of the planned failover not completed",
    S.UNPLANNED_COMMIT_FAILED: "Commit of the failover not completed",
    S.UPDATING_NETWORKS: "Network adapters are being updated",
    S.OVERRIDING: "The fence of the former source is being overridden",
    S.OVERRIDING_COMMITTED: "The fence of the former source is being overridden",
    S.OVERRIDDEN: "Fence overridden: runs at the former source, unprotected until enabled anew",
}

TEST_DESCRIPTIONS: Final[Mapping[TestState, str]] = {
    TestState.NONE: "None",
    TestState.WAITING_FOR_COMPLETION: "Waiting for user input",
    TestState.MARKED_FOR_DELETION: "Cleaning up test environment",
}


REPAIRABLE: Final = frozenset(
    {
        ReplicationState.SUSPENDED,
        ReplicationState.CRITICAL,
        ReplicationState.WAITING_TO_START_RESYNCHRONIZE,
        ReplicationState.RESYNCHRONIZATION_SUSPENDED,
    }
)
"""States of a source from which two copies can be compared (behaviour.md, 1.2 and 1.6)."""


def allowed_operations(
    state: ProtectionState, source: ReplicationState | None = None
) -> tuple[Operation, ...]:
    """Return what the API may offer now, in the recorded order; a busy item offers nothing.

    `source`: the newest state of the copy that replicates; resynchronizing is offered where it is
    of use, after what was recorded.
    """
    arcs = TRANSITIONS.get(state, {})
    repair = (Operation.REPAIR,) if Operation.REPAIR in arcs and source in REPAIRABLE else ()
    return tuple(operation for operation in _RECORDED_ORDER if operation in arcs) + repair


def arc_of(state: ProtectionState, operation: Operation) -> Arc:
    """Return the way of an operation from this state, or raise OperationNotAllowedError."""
    try:
        return TRANSITIONS[state][operation]
    except KeyError:
        raise OperationNotAllowedError(operation, DESCRIPTIONS[state]) from None


def arc_in_progress(
    via: ProtectionState, operation: Operation, began_in: ProtectionState | None = None
) -> Arc:
    """Return the arc that a busy item is on; every (via, operation) belongs to one done state.

    Only the state that it began in tells what holds after a failure; jobs made before that was
    noted get the first arc of the table.
    """
    arc = TRANSITIONS.get(began_in, {}).get(operation) if began_in is not None else None
    if arc is not None and arc.via is via:
        return arc
    for arcs in TRANSITIONS.values():
        arc = arcs.get(operation)
        if arc is not None and arc.via is via:
            return arc
    raise OperationNotAllowedError(operation, DESCRIPTIONS[via])


def expected_direction(operation: Operation, active: Side) -> Direction:
    """Return the direction that a request must name.

    A failover goes away from where the item runs; a reverse replication names the direction of the
    *next* failover (recorded.md, section 7), and that too goes away from where it runs now.
    """
    del operation
    return (
        Direction.PRIMARY_TO_RECOVERY if active is Side.PRIMARY else Direction.RECOVERY_TO_PRIMARY
    )
