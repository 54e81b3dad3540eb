"""The log of a job: every event comes back as it went in; what is damaged is named."""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from service_hub.domain.decide import decide
from service_hub.domain.errors import DamagedLogError
from service_hub.domain.job_log import (
    ENTRY_CHARACTERS_MAX,
    decode,
    decode_first,
    encode,
    encode_first,
    replay,
)
from service_hub.domain.jobs import (
    Begun,
    CancelRequested,
    CheckPassed,
    Event,
    Job,
    PartFailed,
    PartSucceeded,
    RestartRequested,
    TakenUp,
)
from tests.support.job_plans import ERROR, NOW, PLANS, job_of, scenario_job
from tests.support.job_walk import answers
from wire_contract.vocabulary import Side


def events() -> SearchStrategy[Event]:
    """Any event, built from its own field types."""
    times = st.datetimes(
        min_value=datetime(2020, 1, 1),  # noqa: DTZ001 -- the strategy adds the zone itself
        timezones=st.just(UTC),
    )
    values = st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=6,
    )
    st.register_type_strategy(datetime, times)
    known = {
        "observed": st.dictionaries(st.text(max_size=5), values, max_size=3),
        "error": st.just(ERROR),
        "percent": st.none() | st.floats(0, 100),
    }
    return st.one_of(
        [
            st.builds(kind, **{n: s for n, s in known.items() if n in kind.__dataclass_fields__})
            for kind in get_args(Event)
        ]
    )


@given(events())
def test_every_event_comes_back_as_it_went_in(event: Event) -> None:
    text = encode(event)
    assert decode(text) == event
    assert json.loads(text)["v"] == 1
    assert json.loads(text)["type"] == type(event).__name__


@given(st.text(max_size=200))
def test_any_text_is_an_event_or_damaged(text: str) -> None:
    with pytest.raises(DamagedLogError):
        decode(text)
    with pytest.raises(DamagedLogError):
        decode_first(text)


@given(events(), st.data())
def test_a_changed_entry_is_an_event_or_damaged(event: Event, data: st.DataObject) -> None:
    text = encode(event)
    place = data.draw(st.integers(0, len(text) - 1))
    changed = text[:place] + data.draw(st.characters()) + text[place + 1 :]
    with suppress(DamagedLogError):
        assert isinstance(decode(changed), get_args(Event))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no JSON"),
        ("[]", "no JSON object"),
        ('{"v":1}', "names no version or no type"),
        ('{"v":true,"type":"Begun"}', "names no version or no type"),
        ('{"v":2,"type":"Begun","now":"2026-01-01T00:00:00Z"}', "version 2; this hub reads 1 to 1"),
        ('{"v":0,"type":"Begun","now":"2026-01-01T00:00:00Z"}', "version 0"),
        ('{"v":1,"type":"Exploded","now":"2026-01-01T00:00:00Z"}', "unknown type 'Exploded'"),
        ('{"v":1,"type":"Begun","now":"yesterday"}', "a Begun of the job log cannot be read"),
        ('{"v":1,"type":"Begun"}', "a Begun of the job log cannot be read"),
        (
            '{"v":1,"type":"Begun","now":"2026-01-01T00:00:00Z","then":1}',
            "unknown field 'then'",
        ),
        (" " * (ENTRY_CHARACTERS_MAX + 1), "more than"),
        ('{"v":1,"type":"Begun","now":' + "[" * 5000 + "]" * 5000 + "}", "job log"),
    ],
)
def test_what_is_damaged_says_how(text: str, words: str) -> None:
    with pytest.raises(DamagedLogError, match="job log") as caught:
        decode(text)
    assert words in str(caught.value)


def test_the_first_entry_holds_the_job_as_it_was_made() -> None:
    for job in (scenario_job("planned_failover"), *(job_of(plan) for plan in PLANS.values())):
        assert decode_first(encode_first(job)) == job
    for text in (
        encode(Begun(NOW)),
        '{"v":1,"type":"Job","job":{}}',
        '{"v":1,"type":"Job","job":1,"more":2}',
    ):
        with pytest.raises(DamagedLogError):
            decode_first(text)


def test_a_log_replays_to_the_same_job() -> None:
    made = scenario_job("planned_failover")
    events: list[Event] = [
        Begun(NOW),
        TakenUp(3),
        CheckPassed(NOW, "PlannedFailoverPreflightChecksTask", 1),
        PartSucceeded(NOW, "ShutdownVmOnPrimary", Side.PRIMARY, 1, {"result": {"a": 1}}, NOW),
        PartFailed(NOW, "PrepareForFailoverTask", Side.PRIMARY, 1, ERROR),
        CancelRequested(NOW, "ann", "not now"),
        RestartRequested(NOW + timedelta(seconds=1), "bob"),
    ]
    job, log = made, [encode(event) for event in events]
    for event in events:
        job, _ = decide(job, event)
    assert replay(made, (decode(text) for text in log)) == job
    assert job.fence == 3
    assert replay(Job.model_validate_json(made.model_dump_json()), map(decode, log)) == job


def test_a_whole_run_replays_to_the_same_job() -> None:
    made = scenario_job("unplanned_failover")
    job, waiting = decide(made, Begun(NOW))
    log = [encode(Begun(NOW))]
    while waiting:
        command, *rest = waiting
        event = next(iter(answers(job, command)))
        job, more = decide(job, event)
        waiting = (*rest, *more)
        log.append(encode(event))
    assert job.finished
    assert replay(decode_first(encode_first(made)), map(decode, log)) == job
