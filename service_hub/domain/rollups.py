"""Figures of protected items over time: minute to hour to day, bounded in size; pure.

Only what was observed has a figure. A sample counts once: what is not newer than its source's
newest sample is a repetition, or came too late to matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from service_hub.domain.jobs import Job, JobState
from service_hub.domain.liveness import Stamp
from service_hub.domain.looker_records import Bucket, FigureChunk
from service_hub.domain.protection import Operation
from service_hub.domain.records import ProtectedItem
from wire_contract.vmm_interface import ReplicationView
from wire_contract.vocabulary import ReplicationMode, ReplicationState


class Metric(StrEnum):
    """What is kept; units are in the names."""

    RPO_SECONDS = "rpo_seconds"
    BACKLOG_BYTES = "backlog_bytes"
    RECOVERY_SECONDS = "recovery_seconds"
    TEST_RECOVERY_SECONDS = "test_recovery_seconds"


class Resolution(StrEnum):
    """How much time a bucket takes together."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class _Form:
    bucket: timedelta
    chunk: timedelta
    kept: timedelta


FORMS: Final = {
    Resolution.MINUTE: _Form(timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)),
    Resolution.HOUR: _Form(timedelta(hours=1), timedelta(days=1), timedelta(days=31)),
    Resolution.DAY: _Form(timedelta(days=1), timedelta(days=28), timedelta(days=730)),
}
"""Length of a bucket, of a stored chunk of them, and how long they are kept."""

_REPLICATING: Final = frozenset(
    {
        ReplicationState.REPLICATING,
        ReplicationState.SUSPENDED,
        ReplicationState.CRITICAL,
        ReplicationState.WAITING_TO_START_RESYNCHRONIZE,
        ReplicationState.RESYNCHRONIZING,
        ReplicationState.RESYNCHRONIZATION_SUSPENDED,
    }
)
"""While these hold, a replica that falls behind would lose data; after a failover it would not."""

_RECOVERIES: Final = {
    Operation.PLANNED_FAILOVER: Metric.RECOVERY_SECONDS,
    Operation.UNPLANNED_FAILOVER: Metric.RECOVERY_SECONDS,
    Operation.TEST_FAILOVER: Metric.TEST_RECOVERY_SECONDS,
}

_JOB: Final = "job"
"""The source of what the hub itself measured."""

_BEGIN: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Sample:
    """One observed value; `source` is what observed it, with a clock of its own."""

    metric: Metric
    at: datetime
    value: float
    source: str


@dataclass(frozen=True, slots=True)
class Figure:
    """What a stretch of time showed."""

    at: datetime
    lowest: float
    highest: float
    mean: float
    last: float
    count: int


def samples_of(view: ReplicationView | None, at: datetime, source: str) -> tuple[Sample, ...]:
    """Return what one end's view says: the replica how old it is, the primary what it must send."""
    if view is None or view.state not in _REPLICATING:
        return ()
    if view.mode is ReplicationMode.PRIMARY:
        return (Sample(Metric.BACKLOG_BYTES, at, float(view.pending_bytes), source),)
    if view.mode is ReplicationMode.REPLICA and view.last_replication_at is not None:
        age = max((at - view.last_replication_at).total_seconds(), 0.0)
        return (Sample(Metric.RPO_SECONDS, at, age, source),)
    return ()


def recovery_of(job: Job) -> Sample | None:
    """Return how long a failover took that ended well, or None."""
    metric = None if job.operation is None else _RECOVERIES.get(job.operation)
    if metric is None or job.state is not JobState.SUCCEEDED:
        return None
    if job.started_at is None or job.ended_at is None:
        return None
    took = max((job.ended_at - job.started_at).total_seconds(), 0.0)
    return Sample(metric, job.ended_at, took, _JOB)


def series_of(item_id: str, metric: Metric, resolution: Resolution) -> str:
    """Return the name of a series."""
    return f"{item_id}/{metric.value}/{resolution.value}"


def chunk_begin(at: datetime, resolution: Resolution) -> datetime:
    """Return when the chunk that a moment belongs to begins."""
    span = FORMS[resolution].chunk
    return _BEGIN + (at - _BEGIN) // span * span


def chunk_id(series: str, begins_at: datetime) -> str:
    """Return the id of a chunk."""
    return f"{series}/{begins_at:%Y-%m-%dT%H}"


def empty_chunk(
    item: ProtectedItem, metric: Metric, resolution: Resolution, at: datetime
) -> FigureChunk:
    """Return the chunk for a moment, with nothing in it."""
    series, begins_at = series_of(item.id, metric, resolution), chunk_begin(at, resolution)
    return FigureChunk(
        id=chunk_id(series, begins_at),
        vault_id=item.vault_id,
        series=series,
        item_id=item.id,
        begins_at=begins_at,
    )


def counts(chunk: FigureChunk, sample: Sample) -> bool:
    """Return whether a sample is new to the chunk of its minutes."""
    newest = chunk.newest.get(sample.source)
    return newest is None or sample.at > newest


def with_sample(chunk: FigureChunk, resolution: Resolution, sample: Sample) -> FigureChunk:
    """Return the chunk with one more sample."""
    place = (sample.at - chunk.begins_at) // FORMS[resolution].bucket
    value = sample.value
    buckets = {bucket.place: bucket for bucket in chunk.buckets}
    before = buckets.get(place)
    buckets[place] = (
        Bucket(place, value, value, value, 1, value)
        if before is None
        else Bucket(
            place,
            min(before.lowest, value),
            max(before.highest, value),
            before.total + value,
            before.sample_count + 1,
            value,
        )
    )
    newest = max(sample.at, chunk.newest.get(sample.source, sample.at))
    return chunk.model_copy(
        update={
            "buckets": tuple(buckets[each] for each in sorted(buckets)),
            "newest": {**chunk.newest, sample.source: newest},
        }
    )


def outlived(chunk: FigureChunk, resolution: Resolution, now: datetime) -> bool:
    """Return whether all of a chunk is older than what is kept of its resolution."""
    form = FORMS[resolution]
    return chunk.begins_at + form.chunk + form.kept <= now


def too_old(sample: Sample, now: datetime) -> bool:
    """Return whether a sample's minutes are not kept any more: its repetition would not show."""
    return sample.at + FORMS[Resolution.MINUTE].kept <= now


def sources(chunks: Sequence[FigureChunk]) -> list[Stamp]:
    """Return whose observations make up a series, each with the moment of its newest one."""
    newest: dict[str, datetime] = {}
    for chunk in chunks:
        for source, at in chunk.newest.items():
            provider_id = source.partition("/")[0]
            if source != _JOB:
                newest[provider_id] = max(at, newest.get(provider_id, at))
    return [Stamp(at, provider_id, "") for provider_id, at in sorted(newest.items())]


def figures(
    chunks: Sequence[FigureChunk], resolution: Resolution, begin: datetime, end: datetime
) -> list[Figure]:
    """Return what the buckets show that begin within [begin, end), oldest first."""
    width = FORMS[resolution].bucket
    found = [
        Figure(
            at=chunk.begins_at + bucket.place * width,
            lowest=bucket.lowest,
            highest=bucket.highest,
            mean=bucket.total / bucket.sample_count,
            last=bucket.last,
            count=bucket.sample_count,
        )
        for chunk in chunks
        for bucket in chunk.buckets
    ]
    return sorted((each for each in found if begin <= each.at < end), key=lambda each: each.at)
