"""When a source that hears from nobody stops by itself (architecture, decision 4); pure.

Configured per relationship (`self_fence_seconds`). Who is started elsewhere meanwhile is started
only after that time: then never two run, although neither site hears of the other.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from wire_contract.vocabulary import ReplicationMode, ReplicationState

_STANDS_BY: Final = frozenset(
    {
        ReplicationState.READY,
        ReplicationState.WAITING_TO_COMPLETE_INITIAL_REPLICATION,
        ReplicationState.REPLICATING,
        ReplicationState.SUSPENDED,
        ReplicationState.CRITICAL,
        ReplicationState.WAITING_TO_START_RESYNCHRONIZE,
        ReplicationState.RESYNCHRONIZING,
        ReplicationState.RESYNCHRONIZATION_SUSPENDED,
    }
)
"""States of a replica that has not taken over."""


class Act(StrEnum):
    """What is to be done about a machine now."""

    NOTHING = "nothing"
    ASK = "ask the replica's host"
    STOP = "stop the guest"


@dataclass(frozen=True, slots=True)
class Heard:
    """When, by a clock that only goes on, the hub and the replica were reached last."""

    hub_at: float
    replica_at: float

    @property
    def last_at(self) -> float:
        """The later of the two."""
        return max(self.hub_at, self.replica_at)


def act_now(heard: Heard, self_fence_seconds: int, now: float, *, asked: bool) -> Act:
    """Return what the silence so far calls for; `asked`: the replica gave no answer just now."""
    silent = now - heard.last_at
    if silent >= self_fence_seconds:
        return Act.STOP
    # The replica may be there and have had nothing to be sent: asked while there is time for it.
    return Act.ASK if silent >= self_fence_seconds / 2 and not asked else Act.NOTHING


def stands_by(mode: ReplicationMode, state: ReplicationState, epoch: int, own_epoch: int) -> bool:
    """Return whether the other end is a replica that has not taken over: then it was reached."""
    return mode is ReplicationMode.REPLICA and state in _STANDS_BY and epoch <= own_epoch
