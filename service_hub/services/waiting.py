"""Gathers everything of a vault that is not final."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from service_hub.domain.jobs import Job, JobState
from service_hub.domain.records import PendingApproval, ProtectedItem, Vault
from service_hub.domain.waiting import Waiting, of_approval, of_item, of_job
from service_hub.ports import Reader
from service_hub.services.durations import DurationService

OPEN_STATES: Final = (JobState.NOT_STARTED, JobState.IN_PROGRESS, JobState.SUSPENDED)

_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)


class WaitingService:
    """The WaitingUseCases of the hub's ports."""

    def __init__(self, *, reader: Reader) -> None:
        self._reader = reader
        self._durations = DurationService(reader=reader)

    async def list(self, vault: Vault) -> Sequence[Waiting]:
        """Return all that waits, what has waited longest first."""
        found = [
            *await self._jobs(vault),
            *await self._items(vault),
            *await self._approvals(vault),
        ]
        return sorted(found, key=lambda each: (each.since or _EARLIEST, each.id))

    async def _jobs(self, vault: Vault) -> Sequence[Waiting]:
        found: list[Waiting] = []
        for state in OPEN_STATES:
            for each in await self._reader.find(Job, state=state.value):
                job = each.record
                if job.vault_id != vault.id or job.parent_id is not None:
                    continue
                waiting = of_job(job, await self._durations.of_running(job))
                if waiting is not None:
                    found.append(waiting)
        return found

    async def _items(self, vault: Vault) -> Sequence[Waiting]:
        found = []
        for each in await self._reader.find(ProtectedItem, vault_id=vault.id):
            item = each.record
            left = None if item.left_by is None else await self._reader.get(Job, item.left_by)
            waiting = of_item(item, None if left is None else left.record.ended_at)
            if waiting is not None:
                found.append(waiting)
        return found

    async def _approvals(self, vault: Vault) -> Sequence[Waiting]:
        found = await self._reader.find(PendingApproval, vault_id=vault.id)
        waiting = (of_approval(each.record) for each in found)
        return [each for each in waiting if each is not None]
