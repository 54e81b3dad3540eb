"""Jobs, for whoever looks on."""

from service_hub.domain.errors import NotFoundError
from service_hub.domain.jobs import Job
from service_hub.domain.records import Vault
from service_hub.ports import Reader


class JobService:
    """The JobUseCases of the hub's ports."""

    def __init__(self, *, reader: Reader) -> None:
        self._reader = reader

    async def find(self, vault: Vault, job_id: str) -> Job:
        """Return one job of the vault."""
        found = await self._reader.get(Job, job_id.lower())
        if found is None or found.record.vault_id != vault.id:
            raise NotFoundError(job_id)
        return found.record

    async def list(self, vault: Vault) -> list[Job]:
        """Return all jobs of the vault, newest first."""
        found = await self._reader.find(Job, vault_id=vault.id)
        return sorted((each.record for each in found), key=lambda job: job.created_at, reverse=True)
