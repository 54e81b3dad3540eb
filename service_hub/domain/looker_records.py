"""What the hub remembers for whoever looks on: receipts, figures, usual durations."""

from datetime import datetime
from typing import ClassVar, NamedTuple

from pydantic import Field, JsonValue

from service_hub.domain.records import Record
from wire_contract.vocabulary import Side


class TaskReceipt(Record):
    """What a provider read back after an attempt of a task; kept once, never changed.

    `id` = job, task, side, attempt. `boot_id` is the provider's run that said so.
    """

    kind: ClassVar[str] = "task_receipt"

    job_id: str
    task_id: str
    side: Side
    attempt: int
    succeeded: bool
    observed: dict[str, JsonValue]
    observed_at: datetime
    provider_id: str
    boot_id: str
    received_at: datetime


class Bucket(NamedTuple):
    """Samples of one stretch of time, `place` counts from the chunk's beginning."""

    place: int
    lowest: float
    highest: float
    total: float
    sample_count: int
    last: float


class FigureChunk(Record):
    """Neighbouring buckets of one series (item, metric, resolution).

    `newest` is by source the moment of the newest sample: one that is not newer is a repetition.
    """

    kind: ClassVar[str] = "figure_chunk"

    series: str
    item_id: str
    begins_at: datetime
    buckets: tuple[Bucket, ...] = ()
    newest: dict[str, datetime] = Field(default_factory=dict)


class DurationSample(NamedTuple):
    """How long one attempt took; `key` tells it from all others."""

    key: str
    seconds: float


class UsualDuration(Record):
    """The newest durations of one task of one scenario; `id` = vault, scenario, task."""

    kind: ClassVar[str] = "usual_duration"

    scenario_key: str
    task_id: str
    count: int = 0
    samples: tuple[DurationSample, ...] = ()


class LearningPlace(Record):
    """Up to which change a vault's finished jobs have been learnt from; `id` is the vault's."""

    kind: ClassVar[str] = "learning_place"

    change: int = 0


class ArchiveTurn(Record):
    """Which process archives finished jobs now: one at a time; there is one such record."""

    kind: ClassVar[str] = "archive_turn"

    holder: str
    until: datetime
