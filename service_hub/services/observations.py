"""Facts about sites as they were last seen: by whom, when, and whether that is stale by now."""

from datetime import datetime, timedelta
from operator import itemgetter

from service_hub.domain.durations import Usual, in_words, remaining_seconds
from service_hub.domain.errors import NotFoundError
from service_hub.domain.jobs import Job, TaskRun, TaskState
from service_hub.domain.liveness import Stamp, freshness
from service_hub.domain.looker_records import TaskReceipt
from service_hub.domain.records import (
    FabricInventory,
    MachineObservation,
    ProtectedItem,
    Provider,
    Vault,
)
from service_hub.domain.servers import title_of
from service_hub.looker_ports import (
    JobProgress,
    SeenItem,
    SeenMachine,
    SeenReceipt,
    SeenServer,
    TaskProgress,
)
from service_hub.ports.stores import Reader
from service_hub.ports.surroundings import Clock
from service_hub.services.durations import DurationService
from wire_contract.vocabulary import Side


class ObservationService:
    """The ObservationUseCases of the looker ports."""

    def __init__(
        self, *, reader: Reader, clock: Clock, durations: DurationService, interval: timedelta
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._durations = durations
        self._interval = interval

    async def servers(self, vault: Vault) -> list[SeenServer]:
        """Return the inventories of a vault's servers."""
        now = self._clock.now()
        names = {
            each.record.id: title_of(each.record)
            for each in await self._reader.find(Provider, vault_id=vault.id)
        }
        found = await self._reader.find(FabricInventory, vault_id=vault.id)
        return [
            SeenServer(
                provider_id=each.record.id,
                server=names.get(each.record.id, each.record.id),
                stamp=Stamp(each.record.observed_at, each.record.id, each.record.boot_id),
                freshness=freshness(each.record.observed_at, self._interval, now),
                machine_count=len(each.record.view.machines),
            )
            for each in found
        ]

    async def machines(self, vault: Vault) -> list[SeenMachine]:
        """Return the newest views of all machines of a vault's servers."""
        now = self._clock.now()
        found = [
            each.record
            for provider in await self._reader.find(Provider, vault_id=vault.id)
            for each in await self._reader.find(MachineObservation, provider_id=provider.record.id)
        ]
        return [self._seen(each, now) for each in found]

    async def items(self, vault: Vault) -> list[SeenItem]:
        """Return all protected items of a vault."""
        found = await self._reader.find(ProtectedItem, vault_id=vault.id)
        return [await self._item(each.record) for each in found]

    async def item(self, vault: Vault, item_id: str) -> SeenItem:
        """Return one; NotFoundError."""
        found = await self._reader.get(ProtectedItem, item_id.lower())
        if found is None or found.record.vault_id != vault.id:
            raise NotFoundError(item_id)
        return await self._item(found.record)

    async def receipts(self, vault: Vault, job_id: str, task_id: str | None) -> list[SeenReceipt]:
        """Return what was read back for a job, or for one task of it, in the order it came."""
        job = await self._job(vault, job_id)
        if task_id is not None and job.run(task_id) is None:
            raise NotFoundError(task_id)
        now = self._clock.now()
        found = [each.record for each in await self._reader.find(TaskReceipt, job_id=job.id)]
        return [
            SeenReceipt(each, freshness(each.observed_at, self._interval, now))
            for each in found
            if task_id is None or each.task_id.partition("!")[0] == task_id
        ]

    async def progress(self, vault: Vault, job_id: str) -> JobProgress:
        """Return how far a job is, beside how long its tasks usually take; NotFoundError."""
        job = await self._job(vault, job_id)
        learnt = await self._durations.all_of(job)
        now = self._clock.now()
        tasks = [self._progress(job, run, learnt.get(run.task_id), now) for run in job.tasks]
        return JobProgress(job, tasks, remaining_seconds(job, learnt, now))

    def _progress(self, job: Job, run: TaskRun, usual: Usual | None, now: datetime) -> TaskProgress:
        told = [(part.percent, part) for part in run.parts if part.percent is not None]
        percent, part = min(told, key=itemgetter(0), default=(None, None))
        seen = None
        if part is not None and part.percent_at is not None:
            stamp = Stamp(part.percent_at, job.providers[part.side], part.percent_boot_id)
            seen = stamp, freshness(part.percent_at, self._interval, now)
        return TaskProgress(
            task_id=run.task_id,
            state=run.state.value,
            started_at=run.started_at,
            percent=percent,
            percent_seen=seen,
            usual=usual,
            words=_words(run, usual, now),
        )

    async def _job(self, vault: Vault, job_id: str) -> Job:
        found = await self._reader.get(Job, job_id.lower())
        if found is None or found.record.vault_id != vault.id:
            raise NotFoundError(job_id)
        return found.record

    async def _item(self, item: ProtectedItem) -> SeenItem:
        now, copies = self._clock.now(), {}
        for side in Side:
            place = f"{item.provider_at(side)}/{item.machine_at(side)}"
            found = await self._reader.get(MachineObservation, place)
            copies[side] = None if found is None else self._seen(found.record, now)
        return SeenItem(item, copies)

    def _seen(self, observation: MachineObservation, now: datetime) -> SeenMachine:
        at = observation.observed_at
        return SeenMachine(
            machine=observation.machine,
            stamp=Stamp(at, observation.provider_id, observation.boot_id),
            freshness=freshness(at, self._interval, now),
        )


def _words(run: TaskRun, usual: Usual | None, now: datetime) -> str | None:
    """Return how long a task that has not ended usually takes, and how long it has run."""
    if usual is None or run.state not in {TaskState.NOT_STARTED, TaskState.IN_PROGRESS}:
        return None
    usually = f"usually {in_words(usual.median_seconds)}"
    if run.state is TaskState.NOT_STARTED or run.started_at is None:
        return usually
    seconds = max((now - run.started_at).total_seconds(), 0.0)
    late = seconds > usual.p90_seconds and seconds >= 1
    since = f"running for {in_words(seconds)}"
    return f"{usually}, {since}{', longer than nine of ten' if late else ''}"
