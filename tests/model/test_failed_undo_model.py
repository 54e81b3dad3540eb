"""What is offered after a failed undo works: the simulator's own table says yes.

Every failover, failing, cancelled and stuck while taking back at every task, again from each place
where that leaves both ends. From each of these places every operation that the hub offers there
runs to its end.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from service_hub.domain import item_life
from service_hub.domain.jobs import JobState
from service_hub.domain.protection import (
    UNDO_FAILED_STATES,
    Operation,
    ProtectionState,
    allowed_operations,
)
from service_hub.domain.records import ProtectedItem
from tests.support.fabric_walk import Ends, Mishap, mishaps, planned, walk
from tests.support.item_walk import item_in
from wire_contract.vocabulary import Side

S, O = ProtectionState, Operation  # noqa: E741 -- one letter, as in the table itself

FAILOVERS = (O.PLANNED_FAILOVER, O.UNPLANNED_FAILOVER, O.TEST_FAILOVER)
BACK = (O.CHANGE_RECOVERY_POINT, O.CANCEL_FAILOVER)
OFFERED = frozenset({*FAILOVERS, *BACK, O.TEST_FAILOVER_CLEANUP, O.COMMIT})
"""Reversals change which copy replicates: they have tests with the real fabrics."""

PLACES_MAX = 1_000


@dataclass(frozen=True)
class Place:
    """Where jobs have left an item and both its ends."""

    state: ProtectionState
    active: Side
    ends: Ends

    @property
    def item(self) -> ProtectedItem:
        """The item there."""
        return item_in(self.state, self.active)


def asked(place: Place) -> Iterator[tuple[Operation, bool]]:
    """Return what is offered there, with and without the source's help."""
    for operation in allowed_operations(place.state):
        if operation in OFFERED:
            yield operation, True
            if operation is O.UNPLANNED_FAILOVER:
                yield operation, False


def places() -> tuple[set[Place], int]:
    """Return where failovers that went wrong lead, one after the other, and how many jobs ran."""
    first = Place(S.PROTECTED, Side.PRIMARY, Ends())
    found, waiting, count = {first}, [first], 0
    while waiting:
        place = waiting.pop()
        for operation, with_source in asked(place):
            if operation not in {*FAILOVERS, *BACK}:
                continue
            job = planned(place.item, operation, with_source=with_source)
            for mishap in mishaps(job):
                run = walk(place.item, place.ends, operation, mishap, with_source=with_source)
                count += 1
                then = Place(run.item.state, run.item.active_location, run.ends)
                if then not in found:
                    assert len(found) < PLACES_MAX, "there is no end of places"
                    found.add(then)
                    waiting.append(then)
    return found, count


def refused(found: set[Place]) -> list[str]:
    """Return what is offered somewhere and does not run to its end."""
    words = []
    for place in found:
        for operation, with_source in asked(place):
            run = walk(place.item, place.ends, operation, Mishap(), with_source=with_source)
            if run.job.state is not JobState.SUCCEEDED:
                why = [error.possible_causes for error in run.job.errors]
                words.append(f"{operation} of {place}: {why}")
    return words


def test_what_is_offered_after_a_failed_undo_is_carried_out(tell: Callable[[str], None]) -> None:
    found, count = places()
    states = {place.state for place in found}
    assert {*UNDO_FAILED_STATES, S.TEST_OPEN, S.PLANNED_FAILED_OVER} <= states
    tell(
        f"failed undo: {len(found)} places of item and both ends in {len(states)} states,"
        f" after {count} jobs that went wrong"
    )
    for place in found:
        assert list(asked(place)), f"nothing leads on from {place}"
    assert refused(found) == []


def test_a_planned_failover_that_took_nothing_back_first_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(item_life, "AFTER_FAILED_UNDO", ())
    found, _ = places()
    assert any("PlannedFailoverUndoFailed" in each for each in refused(found))
