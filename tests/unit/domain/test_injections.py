from datetime import UTC, datetime, timedelta, timezone

import pytest

from service_hub.domain.errors import ConflictError, InvalidRequestError
from service_hub.domain.injections import (
    ARM_VERBS,
    CLAIM,
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
    is_free,
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
        (None, "", "five fields"),
        (None, "@daily", "five fields"),
        (None, "CRON_TZ=Asia/Tokyo 0 0 * * *", "five fields"),
        (None, "0 0 * * mondays", "understood"),
        (None, "*/0 * * * *", "understood"),
        (None, "-5 * * * *", "understood"),
        (None, "5-1 * * * *", "understood"),
        (None, "0 0 * * \x00", "understood"),
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


def test_a_schedule_is_in_utc_so_that_no_change_of_clocks_moves_doubles_or_skips_it() -> None:
    # Europe's clocks went forward on 29 March and back on 25 October 2026, between 00 and 02 UTC.
    for day in (datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 10, 24, tzinfo=UTC)):
        moment, seen = day, []
        for _ in range(4):
            moment = next_moment("30 1 * * *", moment)
            seen.append(moment)
        assert seen == [day + timedelta(days=n, hours=1, minutes=30) for n in range(4)]
    tokyo = timezone(timedelta(hours=9))
    assert next_moment("0 12 * * *", NOW.astimezone(tokyo)) == NOW + timedelta(days=1)


def test_a_schedule_knows_leap_days_and_goes_on_from_any_moment() -> None:
    assert next_moment("0 0 29 2 *", NOW) == datetime(2028, 2, 29, tzinfo=UTC)
    assert next_moment("* * * * *", NOW + timedelta(seconds=59)) == NOW + timedelta(minutes=1)


def test_what_was_missed_is_left_out_and_what_is_due_since_is_not() -> None:
    """The hub was away from before yesterday's time until shortly after today's."""
    back = NOW + timedelta(minutes=5)
    daily = an_injection(cron="0 12 * * *", next_at=NOW - timedelta(days=1))
    assert is_too_late(daily, back)
    missed = after(daily, Outcome(InjectionState.MISSED, message="late"), back)
    assert (missed.next_at, missed.state) == (NOW, InjectionState.SCHEDULED)
    # Of the many times of a schedule that goes off each minute one is made up for, not fifteen.
    often = an_injection(cron="* * * * *", next_at=NOW - timedelta(days=1))
    missed = after(often, Outcome(InjectionState.MISSED), back)
    assert missed.next_at == back - LATE_MAX + timedelta(minutes=1)
    assert after(missed, DONE, back).next_at == back + timedelta(minutes=1)


def test_one_hub_at_a_time_is_at_what_is_due() -> None:
    assert is_free(an_injection(), NOW)
    assert not is_free(an_injection(next_at=NOW + timedelta(seconds=1)), NOW)
    assert not is_free(an_injection(next_at=None), NOW)
    assert not is_free(an_injection(state=InjectionState.CANCELLED), NOW)
    assert not is_free(an_injection(begun_at=NOW - CLAIM), NOW)
    # The hub that had begun was killed: another one goes on.
    assert is_free(an_injection(begun_at=NOW - CLAIM - timedelta(seconds=1)), NOW)
    with pytest.raises(ConflictError, match="at this moment"):
        cancelled(an_injection(begun_at=NOW))
