"""Whether a copy may be started now; pure (docs/wire-contract.md, verbs)."""

from dataclasses import dataclass
from typing import Final

from vmm_simulator.hyperv.replication import STARTABLE_REPLICA_STATES, Operation, Position
from vmm_simulator.problems import Code
from wire_contract.vocabulary import ReplicationMode, ReplicationState

_ENDS_FENCE: Final = frozenset(
    {
        Operation.REVERT_FAILOVER,
        Operation.PREPARE_REVERSE_BY_CHANGES,
        Operation.PREPARE_REVERSE_BY_RESYNCHRONIZATION,
    }
)
"""What gives a copy another role: a replica again, which claims nothing, or the source again."""


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


def thinks_itself_active(position: Position) -> bool:
    """Return whether a copy in this position is one that its own site takes for the active one."""
    return position.mode is not ReplicationMode.REPLICA or (
        position.state in STARTABLE_REPLICA_STATES
    )


def ends_fence(operation: Operation, epoch: int, fenced_at_epoch: int) -> bool:
    """Return whether a fence ends with an operation under this epoch (decision 4).

    A failover makes the copy the active one: under a newer epoch than that of the fence alone. A
    copy can be fenced and failed over at once: the failover was to be taken back, was not, and
    the hub has said meanwhile that the copy is not the active one.
    """
    if operation is Operation.INITIATE_FAILOVER:
        return epoch > fenced_at_epoch
    return operation in _ENDS_FENCE


def _unstartable(claim: Claim) -> str | None:
    if claim.reserved:
        return "the machine is reserved for a replica not yet made"
    mode, state = claim.position.mode, claim.position.state
    if mode is ReplicationMode.REPLICA and state not in STARTABLE_REPLICA_STATES:
        return "the copy is a replica that is not failed over"
    if state is ReplicationState.SYNCED_REPLICATION_COMPLETE:
        return "the machine is prepared for a planned failover"
    return None
