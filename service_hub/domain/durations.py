"""How long tasks usually take, learnt from the attempts that succeeded; pure.

The newest attempts alone are kept, so that an estate which became faster is believed; median and
90th percentile of those are not moved by a single one that took very long.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from service_hub.domain.jobs import Job, JobState, TaskState
from service_hub.domain.looker_records import DurationSample, UsualDuration

SAMPLES_MAX: Final = 64
"""Newest attempts that an estimate is made from."""

_MINUTE: Final = 60
_HOUR: Final = 3600


@dataclass(frozen=True, slots=True)
class Usual:
    """An estimate: `count` attempts were seen in all, the newest of them count."""

    count: int
    median_seconds: float
    p90_seconds: float


def duration_id(vault_id: str, scenario_key: str, task_id: str) -> str:
    """Return where the durations of a task are kept."""
    return f"{vault_id}/{scenario_key}/{task_id}"


def durations_of(job: Job) -> list[tuple[str, DurationSample]]:
    """Return (task id, duration) of every attempt of a finished job that did its work."""
    if not job.finished:
        return []
    found = []
    for task in job.tasks:
        done = task.state is TaskState.SUCCEEDED and task.attempt > 0
        if done and task.started_at is not None and task.ended_at is not None:
            seconds = max((task.ended_at - task.started_at).total_seconds(), 0.0)
            key = f"{job.id}/{task.attempt}"
            found.append((task.task_id, DurationSample(key, seconds)))
    return found


def learn(known: UsualDuration, samples: Iterable[DurationSample]) -> UsualDuration:
    """Return the durations with these attempts; one that is known already counts once."""
    present = list(known.samples)
    keys = {sample.key for sample in present}
    count = known.count
    for sample in samples:
        if sample.key in keys:
            continue
        keys.add(sample.key)
        present.append(sample)
        count += 1
    return known.model_copy(update={"samples": tuple(present[-SAMPLES_MAX:]), "count": count})


def usual(known: UsualDuration | None) -> Usual | None:
    """Return the estimate, or None where nothing was learnt."""
    if known is None or not known.samples:
        return None
    ordered = sorted(sample.seconds for sample in known.samples)
    return Usual(known.count, _quantile(ordered, 0.5), _quantile(ordered, 0.9))


def remaining_seconds(job: Job, learnt: Mapping[str, Usual], now: datetime) -> float | None:
    """Return what a job's tasks usually still take, or None when one of them is not known.

    Nobody knows how long a person takes, or a provider that is gone.
    """
    if job.finished or job.undoing or job.state is JobState.SUSPENDED:
        return None
    seconds = 0.0
    for task in job.tasks:
        if task.state is TaskState.NOT_STARTED and job.spec(task.task_id).skipped_if in job.flags:
            continue
        if task.state not in {TaskState.NOT_STARTED, TaskState.IN_PROGRESS}:
            continue
        known = learnt.get(task.task_id)
        if known is None or task.withdrawing is not None:
            return None
        ran = 0.0
        if task.state is TaskState.IN_PROGRESS and task.started_at is not None:
            ran = max((now - task.started_at).total_seconds(), 0.0)
        seconds += max(known.median_seconds - ran, 0.0)
    return seconds


def in_words(seconds: float) -> str:
    """Return a duration as people say it: "40 s", "3 min", "1 h 20 min"."""
    whole = round(seconds)
    if whole < 1:
        return "less than a second"
    if whole < 2 * _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{round(whole / _MINUTE)} min"
    hours, minutes = divmod(round(whole / _MINUTE), _MINUTE)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile between the nearest two values."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
