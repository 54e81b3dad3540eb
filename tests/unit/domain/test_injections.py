from datetime import UTC, datetime, timedelta, timezone

import pytest

from service_hub.domain.errors import ConflictError, InvalidRequestError
from service_hub.domain.injections import (
    ARM_VERBS,
    LATE_MAX,
    SITE_KINDS,
    Injection,
    InjectionKind,
    InjectionState,
    Outcome,
    after,
    cancelled,
    firing_id,
    first_moment,
    is_too_late,
    next_moment,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DONE = Outcome(InjectionState.INJECTED, "job")


def an_injection(**changes: object) -> Injection:
    injection = Injection(
        id="i",
        vault_id="v",
        event=InjectionKind.COMMIT,
        target="t",
        principal="anna",
        role="Injector",
        requested_at=NOW,
        next_at=NOW,
    )
    return injection.model_copy(update=changes)


def test_every_kind_goes_to_a_route_or_to_a_site() -> None:
    assert set(ARM_VERBS) | SITE_KINDS == set(InjectionKind)
    assert not set(ARM_VERBS) & SITE_KINDS


def test_an_injection_is_due_now_at_a_moment_or_again_and_again() -> None:
    assert first_moment(None, None, NOW) == NOW
    tokyo = timezone(timedelta(hours=9))
    assert first_moment(datetime(2026, 1, 1, 22, tzinfo=tokyo), None, NOW) == datetime(
        2026, 1, 1, 13, tzinfo=UTC
    )
    assert first_moment(None, "30 2 * * 6", NOW) == datetime(2026, 1, 3, 2, 30, tzinfo=UTC)
    assert next_moment("0 12 * * *", NOW) == NOW + timedelta(days=1)


@pytest.mark.parametrize(
    ("at", "cron", "says"),
    [
        (NOW, "0 0 * * *", "not both"),
        (NOW - LATE_MAX - timedelta(seconds=1), None, "past"),
        (NOW + timedelta(days=400), None, "year"),
        (None, "0 0 * *", "five fields"),
        (None, "0 0 0 * * *", "five fields"),
        (None, "99 0 * * *", "understood"),
        (None, "0 0 30 2 *", r"never comes|understood"),
        (None, "*" * 200, "five fields"),
    ],
)
def test_what_cannot_be_kept_to_is_refused(
    at: datetime | None, cron: str | None, says: str
) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        first_moment(at, cron, NOW)


def test_a_time_is_known_by_the_same_id_everywhere_and_another_time_by_another() -> None:
    tokyo = timezone(timedelta(hours=9))
    here = firing_id(an_injection())
    assert firing_id(an_injection(next_at=NOW.astimezone(tokyo))) == here
    assert firing_id(an_injection(next_at=NOW + timedelta(seconds=1))) != here


def test_once_it_was_due_an_injection_has_ended_and_a_schedule_goes_on() -> None:
    once = after(an_injection(), DONE, NOW)
    assert (once.state, once.next_at, once.job_id, once.times) == (
        InjectionState.INJECTED,
        None,
        "job",
        1,
    )
    again = after(an_injection(cron="0 12 * * *"), DONE, NOW)
    assert (again.state, again.next_at) == (InjectionState.SCHEDULED, NOW + timedelta(days=1))
    refused = after(again, Outcome(InjectionState.REFUSED, message="why"), NOW)
    assert (refused.state, refused.times, refused.message) == (InjectionState.SCHEDULED, 1, "why")


def test_what_was_due_long_ago_is_left_out() -> None:
    assert not is_too_late(an_injection(), NOW + LATE_MAX)
    assert is_too_late(an_injection(), NOW + LATE_MAX + timedelta(seconds=1))


def test_only_what_waits_can_be_cancelled_and_twice_is_once() -> None:
    gone = cancelled(an_injection())
    assert (gone.state, gone.next_at) == (InjectionState.CANCELLED, None)
    assert cancelled(gone) is gone
    with pytest.raises(ConflictError, match="Cancel its job"):
        cancelled(an_injection(state=InjectionState.INJECTED, next_at=None))
