"""What is offered after a failed undo works: the simulator's own table says yes.

Every failover, failing, cancelled and stuck while taking back at every task, again from each place
where that leaves both ends; without a provider that asks the hub which copies may run, and with
providers that ask before each command. From each of these places every operation that the hub
offers there runs to its end.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

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
from tests.support import fabric_walk
from tests.support.fabric_walk import Ends, Mishap, Walk, mishaps, planned, walk
from tests.support.item_walk import item_in
from vmm_simulator.hyperv import replication as table
from vmm_simulator.hyperv.starting import ends_fence, thinks_itself_active
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


def left_by(run: Walk) -> Place:
    """Return where a job has left its item."""
    state, active = run.item.state, run.item.active_location
    assert run.item.authority is active, f"{run.mishap}: another copy runs than may run"
    other = run.ends.at(active.other)
    assert not (run.mishap.told and other.runs), f"{run.mishap}: two copies run"
    for end in (run.ends.primary, run.ends.recovery):
        claims = thinks_itself_active(end.position)
        assert claims or end.fenced_at is None, f"{run.mishap}: a mere replica is fenced"
    return Place(state, active, run.ends.since(run.item.epoch, item_in(state, active).epoch))


def places(*, told: bool) -> tuple[set[Place], int]:
    """Return where failovers that went wrong lead, one after the other, and how many jobs ran.

    `told`: both sites hear from the hub before each command which copies may run.
    """
    first = Place(S.PROTECTED, Side.PRIMARY, Ends())
    found, waiting, count = {first}, [first], 0
    while waiting:
        place = waiting.pop()
        for operation, with_source in asked(place):
            if operation not in {*FAILOVERS, *BACK}:
                continue
            job = planned(place.item, operation, with_source=with_source)
            for each in mishaps(job):
                if told and each.with_effect:
                    continue  # the fences are those without it, and so are most places
                mishap = replace(each, told=told)
                run = walk(place.item, place.ends, operation, mishap, with_source=with_source)
                count += 1
                then = left_by(run)
                if then not in found:
                    assert len(found) < PLACES_MAX, "there is no end of places"
                    found.add(then)
                    waiting.append(then)
    return found, count


def refused(found: set[Place]) -> list[str]:
    """Return what is offered somewhere and does not run to its end, sites being told or not."""
    words = []
    for place in found:
        for operation, with_source in asked(place):
            for mishap in (Mishap(), Mishap(told=True)):
                run = walk(place.item, place.ends, operation, mishap, with_source=with_source)
                if run.job.state is not JobState.SUCCEEDED:
                    why = [error.possible_causes for error in run.job.errors]
                    words.append(f"{operation} of {place}: {why}")
    return words


@pytest.mark.parametrize("told", [False, True], ids=["nobody asks", "all ask the hub anew"])
def test_what_is_offered_after_a_failed_undo_is_carried_out(
    tell: Callable[[str], None], *, told: bool
) -> None:
    found, count = places(told=told)
    states = {place.state for place in found}
    assert {*UNDO_FAILED_STATES, S.TEST_OPEN, S.PLANNED_FAILED_OVER} <= states
    tell(
        f"failed undo: {len(found)} places of item and both ends in {len(states)} states,"
        f" after {count} jobs that went wrong{', told before each command' if told else ''}"
    )
    for place in found:
        assert list(asked(place)), f"nothing leads on from {place}"
    assert refused(found) == []


def test_a_planned_failover_that_took_nothing_back_first_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(item_life, "AFTER_FAILED_UNDO", ())
    found, _ = places(told=False)
    assert any("PlannedFailoverUndoFailed" in each for each in refused(found))


REVERT = table.Operation.REVERT_FAILOVER
ENDING = frozenset({REVERT, table.Operation.INITIATE_FAILOVER})


def _keep_fences(patch: pytest.MonkeyPatch, kept: frozenset[table.Operation]) -> None:
    def planted(operation: table.Operation, epoch: int, fenced_at_epoch: int) -> bool:
        return operation not in kept and ends_fence(operation, epoch, fenced_at_epoch)

    patch.setattr(fabric_walk, "ends_fence", planted)


@pytest.mark.parametrize(
    ("then", "kept"), [(O.PLANNED_FAILOVER, ENDING), (O.UNPLANNED_FAILOVER, ENDING - {REVERT})]
)
def test_a_fence_that_outlasts_a_newer_failover_is_caught(
    monkeypatch: pytest.MonkeyPatch, then: Operation, kept: frozenset[table.Operation]
) -> None:
    _keep_fences(monkeypatch, kept)
    stuck = frozenset({"FailoverTask"})
    mishap = Mishap(cancelled="StartVmOnSecondary", stuck=stuck, told=True)
    first = item_in(S.PROTECTED, Side.PRIMARY)
    left = left_by(walk(first, Ends(), O.PLANNED_FAILOVER, mishap, with_source=True))
    assert left.state is S.PLANNED_UNDO_FAILED
    assert left.ends.recovery.fenced_at is not None
    found = [each for each in refused({left}) if "fenced" in each]
    assert any(each.startswith(f"{then} of") for each in found)


def test_a_fence_that_outlasts_its_failover_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider asks before the replica is taken back: the replica must not stay fenced."""
    _keep_fences(monkeypatch, frozenset({REVERT}))
    mishap = Mishap(cancelled="StartVmOnSecondary", told=True)
    first = item_in(S.PROTECTED, Side.PRIMARY)
    run = walk(first, Ends(), O.PLANNED_FAILOVER, mishap, with_source=True)
    assert run.item.state is S.PROTECTED
    with pytest.raises(AssertionError, match="fenced"):
        left_by(run)


def test_a_failover_ends_a_fence_of_an_earlier_epoch_alone() -> None:
    initiate = table.Operation.INITIATE_FAILOVER
    assert ends_fence(initiate, 6, 5)
    assert not ends_fence(initiate, 5, 5)
    assert ends_fence(REVERT, 5, 5), "a replica again claims nothing"
    assert not ends_fence(table.Operation.COMMIT_FAILOVER, 6, 5)
