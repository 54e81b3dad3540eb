"""Gathers everything of a vault that is not final."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from service_hub.domain.jobs import Job, JobState
from service_hub.domain.records import (
    Alert,
    ContainerMapping,
    ManagementCertificate,
    PendingApproval,
    ProtectedItem,
    Provider,
    ProviderContact,
    Vault,
)
from service_hub.domain.root_rotation import NewRoot, progress
from service_hub.domain.waiting import (
    Waiting,
    of_approval,
    of_item,
    of_job,
    of_job_standing_still,
    of_new_root,
    of_pairing,
    of_server,
    standing_alert_id,
)
from service_hub.ports.running import Liveness
from service_hub.ports.stores import Reader
from service_hub.ports.surroundings import Clock
from service_hub.services.durations import DurationService

OPEN_STATES: Final = (JobState.NOT_STARTED, JobState.IN_PROGRESS, JobState.SUSPENDED)

_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)


class WaitingService:
    """The WaitingUseCases of the hub's ports.

    `standing_still` gives the jobs that this hub holds and cannot decide on, with the reasons;
    `new_root` the root that is to replace the present one, None where none is.
    """

    def __init__(
        self,
        *,
        reader: Reader,
        liveness: Liveness,
        clock: Clock,
        standing_still: Callable[[], Mapping[str, str]],
        new_root: Callable[[], NewRoot | None],
    ) -> None:
        self._reader = reader
        self._liveness = liveness
        self._clock = clock
        self._standing_still = standing_still
        self._new_root = new_root
        self._durations = DurationService(reader=reader)

    async def list(self, vault: Vault) -> Sequence[Waiting]:
        """Return all that waits, what has waited longest first."""
        found = [
            *await self._jobs(vault),
            *await self._items(vault),
            *await self._approvals(vault),
            *await self._pairings(vault),
            *await self._servers(vault),
            *await self._root(vault),
        ]
        return sorted(found, key=lambda each: (each.since or _EARLIEST, each.id))

    async def _jobs(self, vault: Vault) -> Sequence[Waiting]:
        found: list[Waiting] = []
        standing = self._standing_still()
        for state in OPEN_STATES:
            for each in await self._reader.find(Job, state=state.value):
                job = each.record
                if job.vault_id != vault.id:
                    continue
                if job.id in standing:
                    # Also the job of a group: that of the plan does not know of it.
                    found.append(await self._standing(job, standing[job.id]))
                    continue
                if job.parent_id is not None:
                    continue
                waiting = of_job(job, await self._durations.of_running(job))
                if waiting is not None:
                    found.append(waiting)
        return found

    async def _standing(self, job: Job, reason: str) -> Waiting:
        alert = await self._reader.get(Alert, standing_alert_id(job.id))
        since = job.started_at if alert is None else alert.record.raised_at
        return of_job_standing_still(job, reason, since)

    async def _root(self, vault: Vault) -> Sequence[Waiting]:
        root = self._new_root()
        if root is None:
            return ()
        providers = await self._reader.find(Provider, vault_id=vault.id)
        issued = await self._reader.find(ManagementCertificate, vault_id=vault.id)
        servers = progress(
            [each.record for each in providers],
            [each.record for each in issued],
            root.thumbprint,
            self._clock.now(),
        )
        return (of_new_root(root, servers),)

    async def _items(self, vault: Vault) -> Sequence[Waiting]:
        found = []
        for each in await self._reader.find(ProtectedItem, vault_id=vault.id):
            item = each.record
            left = None if item.left_by is None else await self._reader.get(Job, item.left_by)
            waiting = of_item(item, None if left is None else left.record.ended_at)
            if waiting is not None:
                found.append(waiting)
        return found

    async def _pairings(self, vault: Vault) -> Sequence[Waiting]:
        found = []
        for each in await self._reader.find(ContainerMapping, vault_id=vault.id):
            job_id = each.record.job_id
            job = None if job_id is None else await self._reader.get(Job, job_id)
            waiting = of_pairing(each.record, None if job is None else job.record.ended_at)
            if waiting is not None:
                found.append(waiting)
        return found

    async def _servers(self, vault: Vault) -> Sequence[Waiting]:
        found = []
        for each in await self._reader.find(Provider, vault_id=vault.id):
            provider = each.record
            contact = await self._reader.get(ProviderContact, provider.id)
            is_there = provider.registered_at is not None
            waiting = of_server(
                provider,
                None if contact is None else contact.record,
                connected=is_there and await self._liveness.connected(provider.id),
            )
            if waiting is not None:
                found.append(waiting)
        return found

    async def _approvals(self, vault: Vault) -> Sequence[Waiting]:
        found = await self._reader.find(PendingApproval, vault_id=vault.id)
        waiting = (of_approval(each.record) for each in found)
        return [each for each in waiting if each is not None]
