"""What operators decide about servers' certificates; it acts on the next request at the latest."""

import structlog

from service_hub.domain.errors import NotFoundError
from service_hub.domain.records import Alert, ManagementCertificate, Provider, ProviderContact
from service_hub.ports.changes import NEW, Change, Save
from service_hub.ports.channel import Connections
from service_hub.ports.stores import Committer, Reader
from service_hub.ports.surroundings import Clock

log = structlog.get_logger(__name__)


class CertificateService:
    """The CertificateUseCases of the hub's ports."""

    def __init__(
        self, *, reader: Reader, committer: Committer, clock: Clock, connections: Connections
    ) -> None:
        self._reader = reader
        self._committer = committer
        self._clock = clock
        self._connections = connections

    async def revoke_server(self, vault_id: str, provider_id: str, principal: str) -> int:
        """Revoke all certificates of a server, then end its connections; return how many.

        The server stays registered: it comes back with a registration key and an approval. What
        is asked again revokes nothing more, but ends connections once more.
        """
        found = await self._reader.get(Provider, provider_id)
        if found is None or found.record.vault_id != vault_id:
            raise NotFoundError(provider_id)
        saves = await revocations(self._reader, provider_id, self._clock)
        count = len(saves)
        if saves:
            alert = Alert(
                id=self._clock.new_id(),
                vault_id=vault_id,
                provider_id=provider_id,
                code="ServerRevoked",
                message=f"{count} certificate(s) of {_name(found.record)} were revoked",
                raised_at=self._clock.now(),
                principal=principal,
            )
            cut_off = await self._cut_off(provider_id)
            await self._committer.commit(Change(saves=(*saves, *cut_off, Save(alert, NEW))))
        self._connections.kick(provider_id)
        log.warning(
            "server_revoked", provider_id=provider_id, certificates=count, principal=principal
        )
        return count

    async def _cut_off(self, provider_id: str) -> list[Save]:
        """Return what ends a server's lease until its next contact, with a new certificate."""
        found = await self._reader.get(ProviderContact, provider_id)
        if found is None:
            return []
        ended = found.record.model_copy(update={"cut_off_at": self._clock.now()})
        return [Save(ended, None)]

    async def alerts(self, vault_id: str) -> list[Alert]:
        """Return what was raised about the servers of a vault, oldest first."""
        return [each.record for each in await self._reader.find(Alert, vault_id=vault_id)]


async def revocations(reader: Reader, provider_id: str, clock: Clock) -> list[Save]:
    """Return what revokes every certificate of a server that is not revoked yet."""
    found = await reader.find(ManagementCertificate, provider_id=provider_id)
    return [
        Save(each.record.model_copy(update={"revoked_at": clock.now()}), each.version)
        for each in found
        if each.record.revoked_at is None
    ]


def _name(provider: Provider) -> str:
    return f"{provider.friendly_name or 'the server'} ({provider.vmm_id})"
