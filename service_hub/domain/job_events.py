"""What may happen to a job, and what follows from that.

Times and ids come with the event. A task is named with the attempt that an event is about: what is
about another attempt than the present one changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from service_hub.domain.job_parts import JobError
from service_hub.domain.protection import ProtectionState
from wire_contract.vocabulary import Side, Verb

FAILED_ITEMS_MAX: Final = 20
"""How many failed items of a group an event names; the others are counted only."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The job may start, at once or when its `start_at` has come."""

    now: datetime


@dataclass(frozen=True, slots=True)
class TakenUp:
    """A hub has taken the job up under this fence, as its lease says."""

    fence: int


@dataclass(frozen=True, slots=True)
class EpochRaised:
    """A provider knows a higher epoch of the item than this hub did (after a restore)."""

    epoch: int


@dataclass(frozen=True, slots=True)
class CheckPassed:
    """The hub's own check found nothing against it."""

    now: datetime
    task_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class CheckFailed:
    """The hub's own check found a reason against it."""

    now: datetime
    task_id: str
    attempt: int
    error: JobError


@dataclass(frozen=True, slots=True)
class PartSucceeded:
    """A provider reported success, with what it read back."""

    now: datetime
    task_id: str
    side: Side
    attempt: int
    observed: dict[str, JsonValue]
    observed_at: datetime


@dataclass(frozen=True, slots=True)
class PartFailed:
    """A provider reported failure, or refused the event: the attempt has ended."""

    now: datetime
    task_id: str
    side: Side
    attempt: int
    error: JobError


@dataclass(frozen=True, slots=True)
class PartGivenUp:
    """A provider cannot be reached: the attempt may still have its effect."""

    now: datetime
    task_id: str
    side: Side
    attempt: int
    error: JobError


@dataclass(frozen=True, slots=True)
class PartProgressed:
    """A provider reported how far it is; `now` is when, `boot_id` which of its runs said so.

    Both are absent in logs from before they were kept.
    """

    task_id: str
    side: Side
    attempt: int
    percent: float | None
    now: datetime | None = None
    boot_id: str = ""


@dataclass(frozen=True, slots=True)
class ChildrenEnded:
    """The last child job of a group has ended; `failed` names the first failed items."""

    now: datetime
    task_id: str
    attempt: int
    succeeded_count: int
    failed: tuple[str, ...]
    failed_count: int


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """A person wants the job to stop, and what it did to be taken back.

    `operator_signature` is the header that the job carries from now on; None: the one that it has.
    `member_signatures`: what the running jobs of a plan carry from now on, by item.
    """

    now: datetime
    principal: str
    comments: str = ""
    operator_signature: str | None = field(default=None, repr=False)
    member_signatures: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class RestartRequested:
    """A person wants a failed job to go on from the task that failed.

    `epoch` is the item's present one, where that is higher than the job's; `began_in` its present
    state, where the job had not begun on it before. `operator_signature` as in CancelRequested,
    `member_signatures` what the jobs and scripts of a plan carry from now on.
    """

    now: datetime
    principal: str
    epoch: int = 0
    began_in: ProtectionState | None = None
    operator_signature: str | None = field(default=None, repr=False)
    member_signatures: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Resumed:
    """A person has done what a manual action asks for.

    `member_signatures`: what the jobs and scripts of a plan carry from now on.
    """

    now: datetime
    principal: str
    comments: str = ""
    member_signatures: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; `error` is what a task fails with whose deadline that was."""

    now: datetime
    error: JobError


Event = (
    Begun
    | TakenUp
    | EpochRaised
    | CheckPassed
    | CheckFailed
    | PartSucceeded
    | PartFailed
    | PartGivenUp
    | PartProgressed
    | ChildrenEnded
    | CancelRequested
    | RestartRequested
    | Resumed
    | Tick
)


# -------------------------------------------------------------------------------------- commands


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Send one assignment; `task_id` ends in UNDO_SUFFIX for a step of taking back."""

    task_id: str
    side: Side
    attempt: int
    verb: Verb
    deadline: datetime


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Tell a provider not to begin an attempt any more; `deadline` is until when it matters."""

    task_id: str
    side: Side
    attempt: int
    deadline: datetime


@dataclass(frozen=True, slots=True)
class RunCheck:
    """Have the hub's own check of this task made."""

    task_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class AskInventory:
    """Have one end send what it manages; the task ends when that has come."""

    task_id: str
    side: Side
    attempt: int
    deadline: datetime


@dataclass(frozen=True, slots=True)
class StartChildren:
    """Start the child job of each member that has none; let those that failed restart.

    The group is told once, by ChildrenEnded, when the last of them has ended.
    """

    task_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class CancelChildren:
    """Cancel the child jobs that run and start no more; ChildrenEnded still follows."""

    task_id: str
    attempt: int


Command = Dispatch | Withdraw | RunCheck | AskInventory | StartChildren | CancelChildren
