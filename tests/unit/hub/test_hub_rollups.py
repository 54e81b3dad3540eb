"""Figures over time, usual durations and staleness: the rules alone."""

import statistics
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_hub.domain.durations import SAMPLES_MAX, in_words, learn, usual
from service_hub.domain.liveness import freshness
from service_hub.domain.looker_records import DurationSample, FigureChunk, UsualDuration
from service_hub.domain.rollups import (
    FORMS,
    Metric,
    Resolution,
    Sample,
    chunk_begin,
    counts,
    figures,
    outlived,
    samples_of,
    with_sample,
)
from tests.support.hub_world import replication
from wire_contract.vocabulary import ReplicationMode, ReplicationState

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def chunk(resolution: Resolution, at: datetime = NOW) -> FigureChunk:
    return FigureChunk(
        id="c", vault_id="v", series="s", item_id="i", begins_at=chunk_begin(at, resolution)
    )


def sample(seconds: float, value: float, source: str = "p") -> Sample:
    return Sample(Metric.RPO_SECONDS, NOW + timedelta(seconds=seconds), value, source)


@given(values=st.lists(st.floats(0, 1e12), min_size=1, max_size=60))
def test_a_bucket_is_what_its_samples_were(values: list[float]) -> None:
    for resolution in Resolution:
        filled = chunk(resolution)
        for index, value in enumerate(values):
            filled = with_sample(filled, resolution, sample(index, value))
        width = FORMS[resolution].bucket
        (figure,) = figures([filled], resolution, NOW - width, NOW + width)
        assert (figure.lowest, figure.highest) == (min(values), max(values))
        assert (figure.last, figure.count) == (values[-1], len(values))
        assert figure.mean == pytest.approx(statistics.fmean(values))


@given(order=st.permutations(range(8)), repeats=st.lists(st.integers(0, 7), max_size=20))
def test_repeated_and_late_samples_count_once(order: list[int], repeats: list[int]) -> None:
    filled, taken = chunk(Resolution.MINUTE), []
    for index in (*order, *repeats):
        each = sample(index, float(index))
        if counts(filled, each):
            taken.append(index)
            filled = with_sample(filled, Resolution.MINUTE, each)
    assert taken == sorted(set(taken))
    (figure,) = figures([filled], Resolution.MINUTE, NOW, NOW + timedelta(minutes=1))
    assert figure.count == len(taken)


def test_sources_have_clocks_of_their_own() -> None:
    filled = with_sample(chunk(Resolution.MINUTE), Resolution.MINUTE, sample(30, 1, "inventory"))
    assert counts(filled, sample(10, 2, "report"))
    assert not counts(filled, sample(30, 2, "inventory"))


@pytest.mark.parametrize("resolution", Resolution)
def test_a_chunk_is_bounded_and_outlived(resolution: Resolution) -> None:
    form, filled = FORMS[resolution], chunk(resolution)
    begin = filled.begins_at
    places = form.chunk // form.bucket
    for place in range(places):
        at = begin + place * form.bucket
        filled = with_sample(filled, resolution, Sample(Metric.RPO_SECONDS, at, 1.0, "p"))
    assert len(filled.buckets) == places <= 60
    last = begin + form.chunk + form.kept
    assert not outlived(filled, resolution, last - timedelta(seconds=1))
    assert outlived(filled, resolution, last)
    assert chunk_begin(begin + form.chunk, resolution) == begin + form.chunk
    stored = FigureChunk.model_validate_json(filled.model_dump_json())
    assert stored == filled


def test_only_what_was_observed_has_a_figure() -> None:
    state = ReplicationState.REPLICATING
    primary = replication(state, ReplicationMode.PRIMARY).model_copy(update={"pending_bytes": 7})
    (backlog,) = samples_of(primary, NOW, "p")
    assert (backlog.metric, backlog.value) == (Metric.BACKLOG_BYTES, 7)
    replica = replication(state, ReplicationMode.REPLICA)
    assert samples_of(replica, NOW, "p") == ()
    taken = replica.model_copy(update={"last_replication_at": NOW - timedelta(seconds=9)})
    (age,) = samples_of(taken, NOW, "p")
    assert (age.metric, age.value) == (Metric.RPO_SECONDS, 9)
    # By the clock of a site that is behind, changes came from the future.
    ahead = replica.model_copy(update={"last_replication_at": NOW + timedelta(seconds=9)})
    assert samples_of(ahead, NOW, "p")[0].value == 0
    recovered = taken.model_copy(update={"state": ReplicationState.RECOVERED})
    assert samples_of(recovered, NOW, "p") == ()
    assert samples_of(None, NOW, "p") == ()


def known(*seconds: float) -> UsualDuration:
    nothing = UsualDuration(id="d", vault_id="v", scenario_key="s", task_id="t")
    samples = [DurationSample(f"{index}/1", each) for index, each in enumerate(seconds)]
    return learn(nothing, samples)


def test_one_slow_attempt_moves_no_estimate() -> None:
    estimate = usual(known(*[40.0] * 19, 86_400.0))
    assert estimate is not None
    assert (estimate.count, estimate.median_seconds, estimate.p90_seconds) == (20, 40, 40)
    assert usual(known()) is None
    assert usual(None) is None


def test_what_is_learnt_is_bounded_and_counts_once() -> None:
    many = known(*[float(each) for each in range(10 * SAMPLES_MAX)])
    assert len(many.samples) == SAMPLES_MAX
    assert many.count == 10 * SAMPLES_MAX
    assert learn(many, many.samples) == many
    estimate = usual(many)
    assert estimate is not None
    assert estimate.median_seconds > 9 * SAMPLES_MAX, "the newest attempts count"


@given(seconds=st.lists(st.floats(0, 1e6), min_size=1, max_size=SAMPLES_MAX))
def test_an_estimate_lies_among_what_was_seen(seconds: list[float]) -> None:
    estimate = usual(known(*seconds))
    assert estimate is not None
    assert min(seconds) <= estimate.median_seconds <= estimate.p90_seconds <= max(seconds)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "less than a second"),
        (40, "40 s"),
        (119.4, "119 s"),
        (180, "3 min"),
        (3600, "1 h"),
        (4800, "1 h 20 min"),
    ],
)
def test_durations_are_said_as_people_do(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


@pytest.mark.parametrize(("age", "stale"), [(0, False), (599, False), (600, True), (-60, False)])
def test_a_fact_is_stale_once_two_observations_are_missing(age: int, stale: bool) -> None:
    seen = freshness(NOW - timedelta(seconds=age), timedelta(seconds=300), NOW)
    assert seen.stale is stale
    assert seen.age_seconds == max(age, 0)
    assert seen.stale_at == NOW + timedelta(seconds=600 - age)
