"""What whoever looks on asks of the hub, and what stands behind it (see ports)."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from service_hub.domain.durations import Usual
from service_hub.domain.jobs import Job, JobError
from service_hub.domain.liveness import Freshness, Stamp
from service_hub.domain.looker_records import TaskReceipt
from service_hub.domain.plans import PlanGroup
from service_hub.domain.preview import ExpectedLoss, ForeseenEffect, ForeseenTask
from service_hub.domain.records import ProtectedItem, Vault
from service_hub.domain.rollups import Figure, Metric, Resolution
from service_hub.ports.stores import Changed
from wire_contract.vmm_interface import MachineView
from wire_contract.vocabulary import Side


@dataclass(frozen=True, slots=True)
class ChangePage:
    """What changed, complete up to `highest`: the number to ask with next.

    `restarted`: the caller's number is above the hub's own, which was restored from a backup: what
    is known must be read anew.
    """

    changes: Sequence[Changed]
    highest: int
    restarted: bool


class ChangeUseCases(Protocol):
    """What changed since a number."""

    async def since(
        self, vault_id: str, number: int, *, limit: int, wait_seconds: float
    ) -> ChangePage:
        """Return what changed; when nothing did, once something does or the time is over."""


@dataclass(frozen=True, slots=True)
class SeenMachine:
    """A copy as its site last showed it: by whom, when, and whether that is stale."""

    machine: MachineView
    stamp: Stamp
    freshness: Freshness


@dataclass(frozen=True, slots=True)
class SeenServer:
    """A server's inventory: by whom and when it was told, and whether that is stale."""

    provider_id: str
    server: str
    stamp: Stamp
    freshness: Freshness
    machine_count: int


@dataclass(frozen=True, slots=True)
class SeenItem:
    """A protected item with both copies; None: that copy was never observed."""

    item: ProtectedItem
    copies: Mapping[Side, SeenMachine | None]


@dataclass(frozen=True, slots=True)
class SeenReceipt:
    """A receipt, and whether what it says may have changed since."""

    receipt: TaskReceipt
    freshness: Freshness


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """A task of a job beside how long it usually takes; `words` is None when nothing is known.

    `percent` is that of the end that is least far, `percent_seen` whose word that is, and when.
    """

    task_id: str
    state: str
    started_at: datetime | None
    percent: float | None
    percent_seen: tuple[Stamp, Freshness] | None
    usual: Usual | None
    words: str | None


@dataclass(frozen=True, slots=True)
class SeenFigures:
    """Figures of one series; `observed` says whose observations they are, and the newest of each.

    Empty: the hub's own jobs were timed, no site was observed.
    """

    figures: Sequence[Figure]
    observed: Sequence[tuple[Stamp, Freshness]]


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is, and for whom it waits.

    `remaining_seconds` is what its tasks usually still take; None when one of them is not known.
    """

    job: Job
    tasks: Sequence[TaskProgress]
    remaining_seconds: float | None


class ObservationUseCases(Protocol):
    """Facts about sites, each with who saw it when."""

    async def servers(self, vault: Vault) -> list[SeenServer]:
        """Return the inventories of a vault's servers."""

    async def machines(self, vault: Vault) -> list[SeenMachine]:
        """Return the newest views of all machines of a vault's servers."""

    async def items(self, vault: Vault) -> list[SeenItem]:
        """Return all protected items of a vault."""

    async def item(self, vault: Vault, item_id: str) -> SeenItem:
        """Return one; NotFoundError."""

    async def receipts(self, vault: Vault, job_id: str, task_id: str | None) -> list[SeenReceipt]:
        """Return what was read back for a job, or for one task of it; NotFoundError."""

    async def progress(self, vault: Vault, job_id: str) -> JobProgress:
        """Return how far a job is, beside how long its tasks usually take; NotFoundError."""


class FigureUseCases(Protocol):
    """Figures of protected items over time."""

    async def figures(
        self,
        vault: Vault,
        item_id: str,
        metric: Metric,
        resolution: Resolution,
        between: tuple[datetime | None, datetime | None],
    ) -> SeenFigures:
        """Return what was observed in a stretch of time; NotFoundError for the item."""


@dataclass(frozen=True, slots=True)
class PreviewTask:
    """A task as it would go, and how long that usually takes."""

    task: ForeseenTask
    usual: Usual | None


@dataclass(frozen=True, slots=True)
class ExpectedDuration:
    """How long the job would take; None where nothing was learnt of `unknown` tasks."""

    median_seconds: float | None
    p90_seconds: float | None
    unknown: tuple[str, ...]
    words: str


@dataclass(frozen=True, slots=True)
class Preview:
    """What an operation would do now; `refusal` is the error that its job would show.

    `members`: what becomes of each machine of a plan, or what partners of a server do. `notes` say
    what else there is to know. `copies`: who saw the copies that all this is told from, and when.
    `operator_orders`: what an operator signs for a plan.
    """

    operation: str
    scenario: str
    direction: str
    target: str
    target_name: str
    refusal: JobError | None
    signature_required: bool
    servers: Mapping[Side, str]
    tasks: Sequence[PreviewTask]
    effects: Sequence[ForeseenEffect]
    loss: ExpectedLoss
    loss_freshness: Freshness | None
    duration: ExpectedDuration
    copies: Mapping[Side, tuple[Stamp, Freshness]] = field(default_factory=dict)
    members: Sequence["Preview"] = ()
    operator_orders: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()


class PreviewUseCases(Protocol):
    """What operations would do."""

    async def preview(
        self, vault: Vault, operation: str, target: str, arguments: Mapping[str, Any]
    ) -> Preview:
        """Return it without changing anything; NotFoundError, InvalidRequestError.

        Of a job: its target is the job's id, the operation Cancel, Restart or Resume.
        """

    async def preview_plan(
        self,
        vault: Vault,
        operation: str,
        name: str,
        groups: tuple[PlanGroup, ...],
        arguments: Mapping[str, Any],
    ) -> Preview:
        """Return the same for an operation on the machines of groups, one after the other."""

    async def preview_saved_plan(
        self, vault: Vault, operation: str, name: str, arguments: Mapping[str, Any]
    ) -> Preview:
        """Return the same for a saved plan, with its actions; NotFoundError."""


@dataclass(frozen=True, slots=True)
class ExportFilter:
    """Which jobs: started within [begin, end), in this state; None: any."""

    begin: datetime | None = None
    end: datetime | None = None
    state: str | None = None


class ExportUseCases(Protocol):
    """Jobs, one after the other."""

    def jobs(self, vault: Vault, wanted: ExportFilter) -> AsyncIterator[Job]:
        """Yield the jobs that are wanted, those that changed last at the end."""


class ArchiveBusyError(Exception):
    """Another process writes the archive now."""


class ArchiveUnusableError(Exception):
    """The archive cannot be written; the message names the cause and the remedy."""


@dataclass(frozen=True, slots=True)
class ArchivedJob:
    """A finished job with all that goes with it, as JSON."""

    job_id: str
    ended_at: datetime
    content: Mapping[str, Any]


class JobArchive(Protocol):
    """Where finished jobs go."""

    async def append(self, jobs: Sequence[ArchivedJob]) -> None:
        """Keep these, each run once; durable when it returns.

        ArchiveBusyError, ArchiveUnusableError: nothing or a part is kept, repeat it later.
        """
