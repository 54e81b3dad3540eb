import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.domain.inbox import (
    CommandState,
    Known,
    NotAnEventError,
    Place,
    VerifiedEvent,
    decide,
    place,
    read_event,
)
from wire_contract.events import Assignment
from wire_contract.reports import StreamPosition
from wire_contract.vocabulary import ReceiptKind, RefusalReason, Verb

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PROVIDER = "11111111-1111-4111-8111-111111111111"


def assignment_body(**changes: Any) -> dict[str, Any]:
    return {
        "job": "job-1",
        "task": "StartTask.Recovery",
        "attempt": 1,
        "fence": 3,
        "item": "item-1",
        "target": "machine-1",
        "epoch": 2,
        "verb": "start",
        "arguments": {},
        "deadline": (NOW + timedelta(minutes=5)).isoformat(),
        **changes,
    }


def payload(**changes: Any) -> dict[str, Any]:
    return {
        "id": "event-1",
        "vault": "vault-1",
        "aud": PROVIDER,
        "stream": "stream-1",
        "seq": 8,
        "issued_at": NOW.isoformat(),
        "expires_at": (NOW + timedelta(minutes=5)).isoformat(),
        "type": "assignment",
        "body": assignment_body(),
        **changes,
    }


def event(**changes: Any) -> VerifiedEvent:
    return read_event(payload(**changes), PROVIDER)


def withdrawal(**changes: Any) -> VerifiedEvent:
    body = {"job": "job-1", "task": "StartTask.Recovery", "attempt": 1, "fence": 3, **changes}
    return event(type="withdrawal", body=body)


@pytest.mark.parametrize(
    ("stream", "seq", "expected"),
    [
        ("stream-1", 8, Place.NEXT),
        ("stream-1", 7, Place.BEHIND),
        ("stream-1", 1, Place.BEHIND),
        ("stream-1", 9, Place.AHEAD),
        ("stream-2", 8, Place.OTHER_STREAM),
        ("stream-2", 1, Place.OTHER_STREAM),
    ],
)
def test_only_the_next_number_of_the_followed_stream_is_taken(
    stream: str, seq: int, expected: Place
) -> None:
    assert place(StreamPosition(stream="stream-1", seq=7), stream, seq) is expected


def test_an_assignment_is_accepted_with_its_command() -> None:
    verdict = decide(event(), Known(fence=3, epoch=2), NOW)
    assert verdict.receipt is ReceiptKind.ACCEPTED
    assert verdict.work is not None
    assert verdict.work.command_id == "job-1/StartTask.Recovery/1"


@pytest.mark.parametrize(
    ("changes", "known", "reason"),
    [
        ({"expires_at": NOW.isoformat()}, Known(), RefusalReason.EXPIRED),
        ({"body": assignment_body(deadline=NOW.isoformat())}, Known(), RefusalReason.EXPIRED),
        ({}, Known(fence=4), RefusalReason.LOWER_FENCE),
        ({}, Known(epoch=3), RefusalReason.LOWER_EPOCH),
        ({"body": assignment_body(verb="format_disk")}, Known(), RefusalReason.UNKNOWN_VERB),
        ({"type": "song"}, Known(), RefusalReason.UNKNOWN_TYPE),
        ({"type": "configuration", "body": {}}, Known(), RefusalReason.UNKNOWN_TYPE),
        ({"body": {}}, Known(), RefusalReason.BAD_BODY),
        ({"body": assignment_body(surprise=1)}, Known(), RefusalReason.BAD_BODY),
        ({"body": assignment_body(attempt=0)}, Known(), RefusalReason.BAD_BODY),
        ({"body": assignment_body(fence=2**53)}, Known(), RefusalReason.BAD_BODY),
        ({"body": assignment_body(epoch=2**80)}, Known(), RefusalReason.BAD_BODY),
        ({"body": assignment_body(target="../vmm")}, Known(), RefusalReason.BAD_BODY),
        ({"body": assignment_body(target="..")}, Known(), RefusalReason.BAD_BODY),
        ({"body": assignment_body(target="a/b")}, Known(), RefusalReason.BAD_BODY),
        ({"body": assignment_body(task="t" * 300)}, Known(), RefusalReason.BAD_BODY),
        (
            {"body": assignment_body(deadline="2026-03-01T12:05:00")},
            Known(),
            RefusalReason.BAD_BODY,
        ),
        ({"body": assignment_body(arguments={"a": "\ud800"})}, Known(), RefusalReason.BAD_BODY),
        ({"type": "withdrawal", "body": {"job": "job-1"}}, Known(), RefusalReason.BAD_BODY),
    ],
)
def test_what_must_not_be_done_is_refused_with_its_reason_and_is_final(
    changes: dict[str, Any], known: Known, reason: RefusalReason
) -> None:
    verdict = decide(event(**changes), known, NOW)
    assert (verdict.receipt, verdict.reason) == (ReceiptKind.REFUSED, reason)
    assert verdict.work is None
    assert verdict.withdrawn is None


@pytest.mark.parametrize("state", list(CommandState))
def test_a_known_command_is_a_duplicate_even_when_all_else_is_wrong(state: CommandState) -> None:
    late = event(expires_at=NOW.isoformat())
    verdict = decide(late, Known(command=state, fence=99, epoch=99), NOW)
    assert verdict.receipt is ReceiptKind.DUPLICATE
    assert verdict.work is None


def test_the_epoch_is_compared_per_item_only() -> None:
    on_a_cloud = event(body=assignment_body(item=None, epoch=0, verb="pair_cloud"))
    assert decide(on_a_cloud, Known(epoch=7), NOW).receipt is ReceiptKind.ACCEPTED


@pytest.mark.parametrize(
    ("state", "finishes"),
    [
        (None, True),
        (CommandState.ACCEPTED, True),
        (CommandState.EXECUTING, False),
        (CommandState.FINISHED, False),
    ],
)
def test_a_withdrawal_ends_only_what_has_not_begun(
    state: CommandState | None, *, finishes: bool
) -> None:
    verdict = decide(withdrawal(), Known(command=state, fence=3), NOW)
    assert verdict.receipt is ReceiptKind.ACCEPTED
    assert (verdict.withdrawn is not None) is finishes


def test_a_late_withdrawal_still_counts_but_not_one_with_a_lower_fence() -> None:
    late = decide(withdrawal(), Known(command=CommandState.ACCEPTED), NOW + timedelta(days=1))
    assert late.receipt is ReceiptKind.ACCEPTED
    lower = decide(withdrawal(fence=2), Known(command=CommandState.ACCEPTED, fence=3), NOW)
    assert lower.reason is RefusalReason.LOWER_FENCE
    assert lower.withdrawn is None


def test_a_tombstone_takes_its_number_and_a_refresh_asks_for_the_inventory() -> None:
    assert not decide(event(type="tombstone", body={}), Known(), NOW).refresh
    assert decide(event(type="refresh", body={}), Known(), NOW).refresh


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "22222222-2222-4222-8222-222222222222"},
        {"seq": 0},
        {"seq": 2**60},
        {"seq": "8a"},
        {"issued_at": "2026-03-01T12:00:00"},
        {"expires_at": None},
        {"extra": True},
        {"body": "text"},
        {"id": "\udcff"},
        {"stream": None},
    ],
)
def test_a_signed_payload_that_is_no_event_for_us_proves_nothing(changes: dict[str, Any]) -> None:
    with pytest.raises(NotAnEventError):
        event(**changes)


def test_every_combination_of_knowledge_has_exactly_one_answer() -> None:
    """No event stays without a receipt, and work is only ever ordered with `accepted`."""
    commands = [None, *CommandState]
    bodies = [assignment_body(verb=verb) for verb in (*Verb, "unknown")]
    moments = [NOW, NOW + timedelta(hours=1)]
    for command, fence, epoch, body, now in itertools.product(
        commands, (2, 3, 4), (1, 2, 3), bodies, moments
    ):
        verdict = decide(event(body=body), Known(command, fence, epoch), now)
        allowed = (
            command is None
            and fence <= 3
            and epoch <= 2
            and body["verb"] != "unknown"
            and now == NOW
        )
        assert (verdict.work is not None) is allowed
        assert (verdict.receipt is ReceiptKind.ACCEPTED) is allowed
        assert (verdict.reason is not None) is (verdict.receipt is ReceiptKind.REFUSED)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(
    changes=st.dictionaries(st.sampled_from(sorted(payload())), json_values),
    body=st.dictionaries(st.sampled_from(sorted(assignment_body())), json_values),
)
def test_no_signed_payload_can_do_more_than_be_refused(
    changes: dict[str, Any], body: dict[str, Any]
) -> None:
    try:
        read = read_event({**payload(body=assignment_body(**body)), **changes}, PROVIDER)
    except NotAnEventError:
        return
    verdict = decide(read, Known(), NOW)
    if verdict.work is not None:
        # What is accepted can be kept and read again.
        assert Assignment.model_validate_json(verdict.work.model_dump_json()) == verdict.work


@given(st.dictionaries(st.text(), json_values))
def test_any_object_is_an_event_or_is_said_not_to_be_one(value: dict[str, Any]) -> None:
    with pytest.raises(NotAnEventError):
        read_event(value, PROVIDER)


def test_a_body_nested_beyond_reason_is_refused_and_is_final() -> None:
    nested: Any = {}
    for _ in range(100_000):
        nested = {"a": nested}
    verdict = decide(event(body=nested), Known(), NOW)
    assert verdict.reason is RefusalReason.BAD_BODY
