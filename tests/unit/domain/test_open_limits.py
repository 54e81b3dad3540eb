"""A test failover may stay open for two weeks."""

from datetime import timedelta

from service_hub.domain.open_tests import OPEN_MAX, ends_at, overdue, waiting_for
from service_hub.domain.protection import ProtectionState
from service_hub.domain.records import CurrentScenario
from tests.support.item_walk import NOW, item_in
from wire_contract.vocabulary import Side

OPENED = NOW - timedelta(days=1)
OPEN = item_in(ProtectionState.TEST_OPEN, Side.PRIMARY)


def test_a_test_is_overdue_after_two_weeks_and_not_before() -> None:
    assert timedelta(days=14) == OPEN_MAX
    due = OPENED + OPEN_MAX
    assert ends_at(OPEN) == due
    assert overdue([OPEN], due - timedelta(microseconds=1)) == []
    assert [(each.item.id, each.due_at) for each in overdue([OPEN], due)] == [("i", due)]


def test_the_longest_overdue_comes_first() -> None:
    later = OPEN.model_copy(update={"id": "a", "test_opened_at": NOW})
    found = overdue([later, OPEN], NOW + timedelta(days=30))
    assert [each.item.id for each in found] == ["i", "a"]


def test_what_is_busy_closed_or_of_unknown_age_is_left_alone() -> None:
    current = CurrentScenario(scenario_name="TestFailoverCleanup", job_id="j", started_at=NOW)
    busy = OPEN.model_copy(update={"current": current})
    closed = item_in(ProtectionState.PROTECTED, Side.PRIMARY)
    unknown = OPEN.model_copy(update={"test_opened_at": None})
    assert overdue([busy, closed, unknown], NOW + timedelta(days=99)) == []
    older = unknown.model_copy(update={"last_test_failover_at": OPENED})
    assert ends_at(older) == OPENED + OPEN_MAX, "stored before the opening was noted"


def test_an_open_test_says_what_it_waits_for() -> None:
    assert waiting_for(OPEN) == (
        "waiting for the clean-up of the test failover since 2025-12-31T00:00:00Z; can be ended by"
        " TestFailoverCleanup, and is ended by the hub at 2026-01-14T00:00:00Z"
    )
    assert waiting_for(item_in(ProtectionState.PROTECTED, Side.PRIMARY)) is None
