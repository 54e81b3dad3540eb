"""The whole life of a Hyper-V Replica relationship, both ends, as one table; pure.

Sources: behaviour 1.2 (primary side) and 1.3 (replica side). What is absent is illegal and is
refused with 32775. An arc from a state to itself says that what is asked for already holds:
every verb may be repeated. States 7, 8 and 11 to 14 keep their numbers; pausing comes later.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from vmm_simulator.hyperv.backend import CutKind
from vmm_simulator.problems import Code, RefusedError
from wire_contract.vocabulary import Health, ReplicationMode, ReplicationState

M = ReplicationMode
S = ReplicationState


class Operation(StrEnum):
    """What may be asked of, or happen to, one end of a relationship."""

    CREATE_PRIMARY = "create the relationship"
    CREATE_REPLICA = "accept a replica"
    START_INITIAL_REPLICATION = "start initial replication"
    COMPLETE_INITIAL_REPLICATION = "complete initial replication"
    SEND_CHANGES = "send changes"
    RECEIVE_WHOLE = "receive a whole copy"
    RECEIVE_CHANGES = "receive changes"
    REQUIRE_RESYNCHRONIZATION = "require resynchronization"
    RESYNCHRONIZE = "resynchronize"
    COMPLETE_RESYNCHRONIZATION = "complete resynchronization"
    PREPARE_FAILOVER = "prepare for failover"
    INITIATE_FAILOVER = "initiate failover"
    COMPLETE_FAILOVER = "complete failover"
    REVERT_FAILOVER = "cancel failover"
    COMMIT_FAILOVER = "commit failover"
    TEST_REPLICA = "create a test machine"
    PREPARE_REVERSE_BY_CHANGES = "become the replica, changes alone"
    PREPARE_REVERSE_BY_RESYNCHRONIZATION = "become the replica, resynchronizing"
    REVERSE_BY_CHANGES = "become the primary, changes alone"
    REVERSE_BY_RESYNCHRONIZATION = "become the primary, resynchronizing"


O = Operation  # noqa: E741 -- the table reads as one with single letters


@dataclass(frozen=True, slots=True)
class Position:
    """Mode and state of one end."""

    mode: ReplicationMode
    state: ReplicationState


NO_RELATIONSHIP: Final = Position(M.NONE, S.DISABLED)

_READY: Final = Position(M.PRIMARY, S.READY)
_COPYING: Final = Position(M.PRIMARY, S.WAITING_TO_COMPLETE_INITIAL_REPLICATION)
_SENDING: Final = Position(M.PRIMARY, S.REPLICATING)
_PREPARED: Final = Position(M.PRIMARY, S.SYNCED_REPLICATION_COMPLETE)
_UNEQUAL: Final = Position(M.PRIMARY, S.WAITING_TO_START_RESYNCHRONIZE)
_COMPARING: Final = Position(M.PRIMARY, S.RESYNCHRONIZING)

_SHELL: Final = Position(M.REPLICA, S.WAITING_TO_COMPLETE_INITIAL_REPLICATION)
_RECEIVING: Final = Position(M.REPLICA, S.REPLICATING)
_FAILING_OVER: Final = Position(M.REPLICA, S.FAILOVER_IN_PROGRESS)
_RECOVERED: Final = Position(M.REPLICA, S.RECOVERED)
_COMMITTED: Final = Position(M.REPLICA, S.COMMITTED)

TABLE: Final[Mapping[Position, Mapping[Operation, Position]]] = {
    NO_RELATIONSHIP: {
        O.CREATE_PRIMARY: _READY,
        O.CREATE_REPLICA: _SHELL,
    },
    _READY: {
        O.CREATE_PRIMARY: _READY,
        O.START_INITIAL_REPLICATION: _COPYING,
        O.REVERSE_BY_RESYNCHRONIZATION: _READY,
        # The copy that this one was to feed has meanwhile been failed over.
        O.PREPARE_REVERSE_BY_RESYNCHRONIZATION: _SHELL,
    },
    _COPYING: {
        O.CREATE_PRIMARY: _COPYING,
        O.START_INITIAL_REPLICATION: _COPYING,
        O.COMPLETE_INITIAL_REPLICATION: _SENDING,
        O.REVERSE_BY_RESYNCHRONIZATION: _COPYING,
        O.PREPARE_REVERSE_BY_RESYNCHRONIZATION: _SHELL,
    },
    _SENDING: {
        O.CREATE_PRIMARY: _SENDING,
        O.START_INITIAL_REPLICATION: _SENDING,
        O.COMPLETE_INITIAL_REPLICATION: _SENDING,
        O.SEND_CHANGES: _SENDING,
        O.REQUIRE_RESYNCHRONIZATION: _UNEQUAL,
        O.PREPARE_FAILOVER: _PREPARED,
        O.REVERT_FAILOVER: _SENDING,
        O.REVERSE_BY_CHANGES: _SENDING,
        O.REVERSE_BY_RESYNCHRONIZATION: _SENDING,
        # After an unplanned failover elsewhere this end still thinks that it replicates.
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
        O.RESYNCHRONIZE: _COMPARING,
        O.PREPARE_REVERSE_BY_RESYNCHRONIZATION: _SHELL,
    },
    _COMPARING: {
        O.REQUIRE_RESYNCHRONIZATION: _UNEQUAL,
        O.RESYNCHRONIZE: _COMPARING,
        O.COMPLETE_RESYNCHRONIZATION: _SENDING,
        O.PREPARE_REVERSE_BY_RESYNCHRONIZATION: _SHELL,
    },
    _SHELL: {
        O.CREATE_REPLICA: _SHELL,
        O.RECEIVE_WHOLE: _RECEIVING,
        O.PREPARE_REVERSE_BY_RESYNCHRONIZATION: _SHELL,
    },
    _RECEIVING: {
        O.CREATE_REPLICA: _RECEIVING,
        O.RECEIVE_WHOLE: _RECEIVING,
        O.RECEIVE_CHANGES: _RECEIVING,
        O.INITIATE_FAILOVER: _FAILING_OVER,
        O.REVERT_FAILOVER: _RECEIVING,
        O.TEST_REPLICA: _RECEIVING,
        O.PREPARE_REVERSE_BY_CHANGES: _RECEIVING,
        O.PREPARE_REVERSE_BY_RESYNCHRONIZATION: _SHELL,
    },
    _FAILING_OVER: {
        O.INITIATE_FAILOVER: _FAILING_OVER,
        O.COMPLETE_FAILOVER: _RECOVERED,
        O.REVERT_FAILOVER: _RECEIVING,
    },
    _RECOVERED: {
        O.INITIATE_FAILOVER: _RECOVERED,
        O.REVERT_FAILOVER: _RECEIVING,
        O.COMMIT_FAILOVER: _COMMITTED,
        O.REVERSE_BY_CHANGES: _SENDING,
        O.REVERSE_BY_RESYNCHRONIZATION: _READY,
    },
    _COMMITTED: {
        O.COMMIT_FAILOVER: _COMMITTED,
        O.REVERSE_BY_CHANGES: _SENDING,
        O.REVERSE_BY_RESYNCHRONIZATION: _READY,
    },
}


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
    }
)
"""States in which a primary's replication cycle has something to do."""

STARTABLE_REPLICA_STATES: Final = frozenset({S.RECOVERED, S.COMMITTED})


@dataclass(frozen=True, slots=True)
class Claim:
    """What decides whether a copy may be started now."""

    position: Position
    epoch: int
    fenced: bool
    reserved: bool
    protected: bool
    epoch_confirmed: bool


@dataclass(frozen=True, slots=True)
class Block:
    """Why a start is refused."""

    code: Code
    reason: str


def start_blocked_by(claim: Claim, command_epoch: int | None = None) -> Block | None:
    """Return why a start would be refused, or None (docs/wire-contract.md, verbs).

    With `command_epoch` the answer is for a command of that epoch; a higher one than the stored
    confirms itself.
    """
    if command_epoch is not None and command_epoch < claim.epoch:
        return Block(
            Code.LOWER_EPOCH,
            f"the command's epoch {command_epoch} is lower than the stored {claim.epoch}",
        )
    if claim.fenced:
        return Block(Code.COPY_FENCED, "the copy is fenced: another copy is the active one")
    reason = _unstartable(claim)
    if reason is not None:
        return Block(Code.INVALID_STATE, reason)
    raised = command_epoch is not None and command_epoch > claim.epoch
    if claim.protected and not claim.epoch_confirmed and not raised:
        return Block(Code.EPOCH_NOT_CONFIRMED, "the epoch was not confirmed since the host started")
    return None


def _unstartable(claim: Claim) -> str | None:
    if claim.reserved:
        return "the machine is reserved for a replica not yet made"
    mode, state = claim.position.mode, claim.position.state
    if mode is M.REPLICA and state not in STARTABLE_REPLICA_STATES:
        return "the copy is a replica that is not failed over"
    if state is S.SYNCED_REPLICATION_COMPLETE:
        return "the machine is prepared for a planned failover"
    return None


MISSED_SHARE_MAX: Final = 0.2
REPLICATION_AGE_MAX: Final = timedelta(hours=1)
FAILURES_IN_A_ROW_MAX: Final = 1
"""One failed cycle is retried quietly; when the retry fails too, health is Critical (1.9.2)."""


@dataclass(frozen=True, slots=True)
class CycleFacts:
    """What a relationship's health is judged by."""

    fenced: bool
    failures_in_a_row: int
    successful_cycles: int
    missed_cycles: int
    last_replication_at: datetime | None
    established_at: datetime


def health(position: Position, facts: CycleFacts, now: datetime) -> Health:
    """Return the health of one end (behaviour 1.9, rules in that order)."""
    if position.mode in (M.NONE, M.TEST_REPLICA) or position.state is S.DISABLED:
        return Health.NOT_APPLICABLE
    critical_states = (S.CRITICAL, S.WAITING_TO_START_RESYNCHRONIZE)
    if (
        facts.fenced
        or position.state in critical_states
        or facts.failures_in_a_row > FAILURES_IN_A_ROW_MAX
    ):
        return Health.CRITICAL
    if position.state is not S.REPLICATING:
        # Initial copy not complete, prepared, failed over and not reversed, resynchronizing.
        return Health.WARNING
    cycles = facts.successful_cycles + facts.missed_cycles
    if cycles and facts.missed_cycles / cycles > MISSED_SHARE_MAX:
        return Health.WARNING
    newest = facts.last_replication_at or facts.established_at
    return Health.WARNING if now - newest > REPLICATION_AGE_MAX else Health.NORMAL
