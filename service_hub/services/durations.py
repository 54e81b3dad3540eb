"""Learns from finished jobs how long tasks usually take, and how long failovers took.

Each vault's jobs are gone through in the order of their changes; how far is stored in the same
transaction as what was learnt, so that no job counts twice and none is left out, whatever dies.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from service_hub.domain.durations import Usual, duration_id, durations_of, learn, usual
from service_hub.domain.errors import StaleVersionError
from service_hub.domain.jobs import Job, TaskState
from service_hub.domain.looker_records import DurationSample, LearningPlace, UsualDuration
from service_hub.domain.records import ProtectedItem, Vault
from service_hub.domain.rollups import recovery_of
from service_hub.ports.changes import NEW, Change, Save, Versioned
from service_hub.ports.stores import Committer, Reader, WideReader
from service_hub.services.rollups import RollUpService

PAGE_MAX: Final = 200
"""Changes that are gone through in one transaction."""

ROUNDS_MAX: Final = 1000
"""Pages of one look: a hub that was away for long catches up in several looks."""

log = structlog.get_logger(__name__)


class DurationService:
    """Gives usual durations."""

    def __init__(self, *, reader: Reader) -> None:
        self._reader = reader

    async def usual(self, vault_id: str, scenario_key: str, task_id: str) -> Usual | None:
        """Return how long a task usually takes in a vault, or None where nothing was learnt."""
        place = duration_id(vault_id, scenario_key, task_id)
        found = await self._reader.get(UsualDuration, place)
        return usual(None if found is None else found.record)

    async def of_running(self, job: Job) -> Usual | None:
        """Return how long the task that runs now usually takes; None when none runs or is known."""
        for task in job.tasks:
            if task.state is TaskState.IN_PROGRESS and task.withdrawing is None:
                return await self.usual(job.vault_id, job.scenario_key, task.task_id)
        return None

    async def all_of(self, job: Job) -> Mapping[str, Usual]:
        """Return what was learnt of a job's tasks, by task id."""
        found = {
            task.task_id: await self.usual(job.vault_id, job.scenario_key, task.task_id)
            for task in job.tasks
        }
        return {task_id: each for task_id, each in found.items() if each is not None}


@dataclass(frozen=True, slots=True)
class _Page:
    jobs: list[Job]
    highest: int
    size: int


class Learning:
    """Goes through the jobs that have changed since it last looked."""

    def __init__(self, *, reader: WideReader, committer: Committer, rollups: RollUpService) -> None:
        self._reader = reader
        self._committer = committer
        self._rollups = rollups

    async def look(self) -> int:
        """Learn from what has finished in all vaults; return from how many jobs."""
        vaults = await self._reader.find(Vault)
        return sum([await self._vault(each.record.id) for each in vaults])

    async def _vault(self, vault_id: str) -> int:
        count = 0
        for _ in range(ROUNDS_MAX):
            found = await self._reader.get(LearningPlace, vault_id)
            place = found or Versioned(LearningPlace(id=vault_id, vault_id=vault_id), NEW)
            page = await self._page(vault_id, place.record.change)
            if not page.jobs and page.size < PAGE_MAX // 2:
                # Nothing to learn, and little to go through again: not worth a transaction.
                break
            try:
                for job in page.jobs:
                    await self._recovery(job)
                await self._committer.commit(await self._learnt(page, place))
            except StaleVersionError:
                # Another hub has learnt from these: look again.
                continue
            count += len(page.jobs)
        if count:
            log.info("durations_learnt", vault_id=vault_id, jobs=count)
        return count

    async def _page(self, vault_id: str, after: int) -> _Page:
        if after > await self._reader.last_number():
            # The hub was restored from a backup, and its numbers have begun again below.
            after = 0
        rows = await self._reader.changes_since(vault_id, after, PAGE_MAX)
        ids = [row.record_id for row in rows if row.kind == Job.kind and not row.deleted]
        present = await self._reader.get_many(Job, ids)
        jobs = [present[each].record for each in ids if each in present]
        highest = rows[-1].number if rows else after
        return _Page([job for job in jobs if job.finished], highest, len(rows))

    async def _learnt(self, page: _Page, place: Versioned[LearningPlace]) -> Change:
        samples: dict[tuple[str, str], list[DurationSample]] = {}
        for job in page.jobs:
            for task_id, sample in durations_of(job):
                samples.setdefault((job.scenario_key, task_id), []).append(sample)
        vault_id = place.record.id
        moved = place.record.model_copy(update={"change": page.highest})
        saves = [Save(moved, place.version)]
        for (scenario_key, task_id), found in samples.items():
            saves.append(await self._duration(vault_id, scenario_key, task_id, found))
        return Change(saves=saves)

    async def _duration(
        self, vault_id: str, scenario_key: str, task_id: str, samples: list[DurationSample]
    ) -> Save:
        place = duration_id(vault_id, scenario_key, task_id)
        found = await self._reader.get(UsualDuration, place)
        if found is None:
            first = UsualDuration(
                id=place, vault_id=vault_id, scenario_key=scenario_key, task_id=task_id
            )
            found = Versioned(first, NEW)
        return Save(learn(found.record, samples), found.version)

    async def _recovery(self, job: Job) -> None:
        """Count how long a failover took; what is counted already stays as it is."""
        sample = recovery_of(job)
        if sample is None or job.item_id is None:
            return
        item = await self._reader.get(ProtectedItem, job.item_id)
        if item is not None:
            await self._rollups.count([(item.record, sample)])
