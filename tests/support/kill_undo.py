"""What there is to be killed in the middle of after what was left half done.

A failover that could not be fully taken back: both failovers lead on from there, the planned one
takes the earlier one back first; protection can be ended. What was left is the same for both kinds,
so that the second of them repeats the first. A commit that broke off after the points had gone: it
is completed, alone or by the reversal.
"""

from collections.abc import Awaitable, Callable, Iterator

from service_hub.domain.jobs import JobState
from service_hub.domain.protection import TRANSITIONS, Operation, ProtectionState
from tests.support.kill_stories import (
    NOT_WALKED,
    REFUSED_CODE,
    Story,
    asking,
    cancelled_while_held,
    rest_of,
    rests_in,
)
from tests.support.kill_world import KillWorld
from wire_contract.faults import Fault
from wire_contract.vocabulary import FaultKind, Verb

GROUNDS = {
    Operation.PLANNED_FAILOVER: ProtectionState.PLANNED_UNDO_FAILED,
    Operation.UNPLANNED_FAILOVER: ProtectionState.UNPLANNED_UNDO_FAILED,
}


def half_taken_back(operation: Operation) -> Callable[[KillWorld], Awaitable[None]]:
    """Return how a failover is cancelled that the recovery site refuses to take back."""

    async def ask(world: KillWorld) -> None:
        refusal = Fault(
            verb=Verb.CANCEL_FAILOVER, kind=FaultKind.REFUSE, code=REFUSED_CODE, times=1
        )
        await cancelled_while_held(world, "osaka", operation, Verb.START, refusal)

    return ask


HALF_COMMITTED = {
    Operation.PLANNED_FAILOVER: ProtectionState.PLANNED_COMMIT_FAILED,
    Operation.UNPLANNED_FAILOVER: ProtectionState.UNPLANNED_COMMIT_FAILED,
}


async def _half_committed(world: KillWorld) -> None:
    """Commit a failover whose site breaks off once the points have gone."""
    broken = Fault(verb=Verb.COMMIT, kind=FaultKind.PARTIAL, code=REFUSED_CODE, times=1)
    world.sites["osaka"].faults.replace((broken,))
    await asking(Operation.COMMIT)(world)


def undo_stories() -> Iterator[Story]:
    """Return the ways on from what was left half done; what they build on stands before."""
    yield from _after_half_a_commit()
    told = set[Operation]()
    for failed, state in GROUNDS.items():
        ground = f"half undone {failed.value}"
        yield Story(
            ground,
            "EnableProtection of Unprotected",
            frozenset(),
            half_taken_back(failed),
            rests_in(state, JobState.CANCELLED),
            is_ground=True,
        )
        for operation, arc in TRANSITIONS[state].items():
            if operation in NOT_WALKED:
                continue
            yield Story(
                f"{operation.value} of {state.value}",
                ground,
                frozenset(),
                asking(operation),
                rests_in(rest_of(arc)[0], JobState.CANCELLED),
                is_repeat=operation in told or operation not in GROUNDS,
            )
            told.add(operation)


def _after_half_a_commit() -> Iterator[Story]:
    for failed, state in HALF_COMMITTED.items():
        ground = f"half committed {failed.value}"
        yield Story(
            ground,
            f"{failed.value} of Protected",
            frozenset(),
            _half_committed,
            rests_in(state, JobState.FAILED),
            is_ground=True,
        )
        for operation, arc in TRANSITIONS[state].items():
            if operation in NOT_WALKED:
                continue
            yield Story(
                f"{operation.value} of {state.value}",
                ground,
                frozenset(),
                asking(operation),
                rests_in(rest_of(arc)[0], JobState.FAILED),
                is_repeat=True,
            )
