"""What lookers are answered, as models: see shapes.py, which says what they are for."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import Field, RootModel

from service_hub.domain.jobs import JobState
from service_hub.hub_api.shapes import MaybeStamped, Shape, Stamped
from wire_contract.vocabulary import Health, ReplicationMode, RunState, Side


class ChangeShown(Shape):
    """A record that changed."""

    kind: str
    id: str
    change: int
    deleted: bool


class Changes(Shape):
    """What changed, and the number to go on from."""

    changes: list[ChangeShown]
    highest: int
    restarted: bool


class InventoryShown(Stamped):
    """When a server's inventory was told."""

    provider_id: str
    server: str
    machine_count: int


class Inventories(Shape):
    """Of all servers."""

    inventories: list[InventoryShown]


class ReplicationShown(Shape):
    """One end of a relationship."""

    mode: ReplicationMode
    state: str
    health: Health
    last_replication_at: datetime | None
    pending_bytes: int | None
    progress_percent: float | None


class MachineShown(Stamped):
    """A copy as its site showed it."""

    machine_id: str
    name: str
    cloud_id: str | None
    host: str | None
    run_state: RunState
    epoch: int | None
    fenced: bool
    protected_item: str | None
    replication: ReplicationShown | None


class Machines(Shape):
    """The newest view of every machine."""

    machines: list[MachineShown]


class ItemShown(Shape):
    """A protected item with both copies as they were last seen."""

    item_id: str
    friendly_name: str
    state: str
    active_location: Side
    epoch: int
    current_job: str | None
    copies: Mapping[Side, MachineShown | None]


class Items(Shape):
    """All protected items."""

    items: list[ItemShown]


class FigureShown(Shape):
    """What a stretch of time showed."""

    at: datetime
    min: float
    max: float
    mean: float
    last: float
    count: int


class Figures(Shape):
    """Figures of an item over time."""

    item_id: str
    metric: str
    resolution: str
    figures: list[FigureShown]
    observed: list[Stamped]


class UsualShown(Shape):
    """How long something usually takes."""

    count: int
    median_seconds: float
    p90_seconds: float


class TaskProgressShown(MaybeStamped):
    """How far a task is."""

    task_id: str
    state: str
    started_at: datetime | None
    percent: float | None
    usual: UsualShown | None
    words: str | None
    receipts: str


class OrderShown(Shape):
    """What an operator signs."""

    operation: str
    item: str
    direction: str | None


class Progress(Shape):
    """How far a job is."""

    job_id: str
    scenario: str
    state: JobState
    waiting_for: str | None
    remaining_seconds: float | None
    words: str | None
    receipts: str
    operator_order: OrderShown | None
    operator_orders: Mapping[str, Any] | None
    tasks: list[TaskProgressShown]


class ReceiptShown(Stamped):
    """What a provider read back after an attempt."""

    task_id: str
    side: Side
    attempt: int
    succeeded: bool
    observed: Mapping[str, Any]
    received_at: datetime


class Receipts(Shape):
    """Of a job, or of one of its tasks."""

    receipts: list[ReceiptShown]


class ExportedTask(Shape):
    """A task of an exported job."""

    task_id: str
    state: str
    attempt: int
    started_at: datetime | None
    ended_at: datetime | None


class ExportedJob(Shape):
    """A job as it is exported."""

    job_id: str
    scenario: str
    friendly_name: str
    state: JobState
    target: str
    target_name: str
    item_id: str | None
    activity_id: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    tasks: list[ExportedTask]
    error_codes: list[str]
    error_messages: list[str]


class Export(Shape):
    """Jobs with tasks and errors."""

    jobs: list[ExportedJob]


class PreviewTaskShown(Shape):
    """A task as it would run."""

    task_id: str
    name: str
    friendly_name: str
    course: str
    sides: list[Side]
    verb: str | None
    usual: UsualShown | None


class EffectShown(Shape):
    """What an operation does to a machine."""

    action: str
    side: Side
    server: str
    machine_id: str | None
    words: str


class LossShown(MaybeStamped):
    """What would be lost."""

    seconds: float | None
    pending_bytes: int | None
    words: str


class DurationShown(Shape):
    """How long it would take."""

    median_seconds: float | None
    p90_seconds: float | None
    unknown_tasks: list[str]
    words: str


class JobErrorShown(Shape):
    """Why an operation would be refused, as its job would show it."""

    code: str
    message: str
    possible_causes: str
    recommended_action: str
    task_id: str | None


class PreviewShown(Shape):
    """What an operation would do."""

    operation: str
    scenario: str
    direction: str | None
    target: str
    target_name: str
    allowed: bool
    refusal: JobErrorShown | None
    operator_signature_required: bool
    servers: Mapping[Side, str]
    tasks: list[PreviewTaskShown]
    effects: list[EffectShown]
    expected_loss: LossShown
    copies: Mapping[Side, Stamped]
    expected_duration: DurationShown
    members: "list[PreviewShown]"
    operator_orders: Mapping[str, Any] | None
    notes: list[str]


class GroupWanted(Shape):
    """A group of a plan that is to be previewed."""

    members: list[str] = Field(max_length=1000)
    name: str = Field(default="", max_length=256)
    manual_action: str | None = Field(default=None, max_length=4096)
    go_on_past_errors: bool = False


class PreviewWanted(Shape):
    """What shall be previewed: of `target`, or of a saved `plan`."""

    operation: str = Field(max_length=256)
    target: str | None = Field(default=None, max_length=256)
    direction: str | None = Field(default=None, max_length=256)
    source_operations_required: bool | None = None
    network_id: str | None = Field(default=None, max_length=256)
    logical_network_id: str | None = Field(default=None, max_length=256)
    policy: str | None = Field(default=None, max_length=256)
    reason: str | None = Field(default=None, max_length=256)
    other_copy_lost: bool | None = None
    plan: str | None = Field(default=None, max_length=256)
    groups: list[GroupWanted] | None = Field(default=None, max_length=100)


class SiteTask(Shape):
    """A task of an event at a site."""

    taskId: str  # noqa: N815 -- as it is written
    name: str
    friendlyName: str  # noqa: N815 -- as it is written


class SiteForeseen(Shape):
    """What an event at a site would do."""

    target: str
    tasks: list[SiteTask]


class Foreseen(RootModel[SiteForeseen | PreviewShown]):
    """What an injected event would do."""
