"""What a job consists of: its tasks, their ends, what is taken back, and what went wrong."""

from datetime import datetime
from typing import Final, Literal

from pydantic import Field, JsonValue

from service_hub.domain.immutable import Immutable
from wire_contract.vocabulary import Side, Verb, Word

UNDO_SUFFIX: Final = "!undo"
"""Ends the task name of an assignment that takes a task back."""


class JobState(Word):
    """ARM `state` of a job."""

    NOT_STARTED = "NotStarted"
    IN_PROGRESS = "InProgress"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    SUSPENDED = "Suspended"


class TaskState(Word):
    """State of a task; SKIPPED shows as Other / Skipped on the ARM surface.

    CANCELLED: it ran when the job was cancelled, and did not end of itself.
    """

    NOT_STARTED = "NotStarted"
    IN_PROGRESS = "InProgress"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SKIPPED = "Skipped"
    CANCELLED = "Cancelled"


Action = Literal["Cancel", "Restart", "Resume"]
"""What a person may ask of a job, as the ARM surface spells it."""


class Part(Immutable):
    """The base of all that a job consists of."""


class JobError(Part):
    """An error as the job shows it: the service's part and, where there is one, the provider's."""

    code: str
    message: str
    possible_causes: str = ""
    recommended_action: str = ""
    task_id: str | None = None
    created_at: datetime
    provider_code: int = 0
    provider_message: str | None = None
    provider_causes: str = ""
    provider_action: str = ""


class Request(Part):
    """What a person asked of the job itself, and when it was decided on."""

    action: Action
    at: datetime
    principal: str
    comments: str = ""


class Withdrawing(Part):
    """An attempt that was given up: what follows waits until it can have no effect any more.

    That is its final report, or `gone_at`, when also a provider that is gone has long ended it
    (design: channel, deadlines). `cause` is why it was given up; None: a person cancelled the job.
    """

    since: datetime
    gone_at: datetime
    cause: JobError | None


class TaskPart(Part):
    """A task's work on one end; `side` is the real end.

    `percent` was told at `percent_at` by the run `percent_boot_id` of the end's provider.
    """

    side: Side
    state: TaskState = TaskState.NOT_STARTED
    observed_at: datetime | None = None
    observed: dict[str, JsonValue] = Field(default_factory=dict)
    percent: float | None = None
    percent_at: datetime | None = None
    percent_boot_id: str = ""


class TaskRun(Part):
    """A task of a job; tasks of the hub itself have no parts.

    `attempt` goes on counting over retries and restarts, since a command id is never used twice;
    `tries` begins anew with each restart. `retry_at`: between two attempts. `taken_back`: its undo
    succeeded after its last attempt; `undo_attempt` counts the takings back.
    The children figures are those of a group that has ended, `failed_items` the first of them.
    """

    task_id: str
    state: TaskState = TaskState.NOT_STARTED
    attempt: int = 0
    tries: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    deadline: datetime | None = None
    retry_at: datetime | None = None
    parts: tuple[TaskPart, ...] = ()
    withdrawing: Withdrawing | None = None
    taken_back: bool = False
    undo_attempt: int = 0
    comments: str = ""
    succeeded_count: int = 0
    failed_count: int = 0
    failed_items: tuple[str, ...] = ()

    @property
    def may_hold(self) -> bool:
        """Whether it was sent and may have an effect that was not taken back."""
        return self.attempt > 0 and bool(self.parts) and not self.taken_back


class UndoRun(Part):
    """One step of taking back: `task_id` is the undone task's; `retry_at`: between two attempts."""

    task_id: str
    verb: Verb
    side: Side
    state: TaskState = TaskState.NOT_STARTED
    attempt: int = 0
    tries: int = 0
    started_at: datetime | None = None
    deadline: datetime | None = None
    retry_at: datetime | None = None
    withdrawing: Withdrawing | None = None
