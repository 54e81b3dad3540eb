"""Providers on their way in: who holds a registration key becomes a registered server."""

import hashlib
from datetime import datetime, timedelta

from service_hub.domain.errors import ConflictError, NotFoundError
from service_hub.domain.records import (
    FabricInventory,
    ManagementCertificate,
    Provider,
    ProviderStream,
    RegistrationKey,
    Vault,
)
from service_hub.ports import (
    NEW,
    CertificateOffice,
    Change,
    Clock,
    Committer,
    IssuedPem,
    Reader,
    Save,
)
from wire_contract.reports import Registration, RegistrationAnswer


class EnrolmentService:
    """The EnrolmentUseCases of the hub's ports."""

    def __init__(
        self,
        *,
        reader: Reader,
        committer: Committer,
        clock: Clock,
        office: CertificateOffice,
        mqtt: tuple[str, int],
        heartbeat: timedelta,
    ) -> None:
        self._reader = reader
        self._committer = committer
        self._clock = clock
        self._office = office
        self._mqtt = mqtt
        self._heartbeat = heartbeat

    async def registration_key(self, thumbprint: str) -> RegistrationKey | None:
        """Return the key behind a presented certificate when it is valid now."""
        found = await self._reader.get(RegistrationKey, thumbprint)
        if found is None or not _valid(found.record, self._clock.now()):
            return None
        return found.record

    async def enrol(self, key: RegistrationKey, request: bytes) -> IssuedPem:
        """Issue a management certificate for a new server.

        A key enrols new servers only: a server id is not inherited by it (channel.md, trust). What
        was enrolled and never registered is replaced.
        """
        vmm_id = self._office.requested_name(request)
        now = self._clock.now()
        for found in await self._reader.find(Provider, vault_id=key.vault_id, vmm_id=vmm_id):
            if found.record.registered_at is not None:
                raise ConflictError(
                    f"the server {found.record.friendly_name} ({vmm_id}) is registered already: "
                    "a registration key enrols new servers only"
                )
        provider_id = self._clock.new_id()
        issued = self._office.issue_provider(request, provider_id, now)
        provider = Provider(
            id=provider_id,
            vault_id=key.vault_id,
            vmm_id=vmm_id,
            fabric_name=hashlib.sha256(f"{key.vault_id}/{vmm_id}".encode()).hexdigest(),
            enrolled_at=now,
        )
        stream = ProviderStream(id=provider_id, vault_id=key.vault_id, stream=self._clock.new_id())
        certificate = ManagementCertificate(
            id=issued.thumbprint,
            vault_id=key.vault_id,
            provider_id=provider_id,
            issued_at=now,
        )
        saves = tuple(Save(record, NEW) for record in (provider, stream, certificate))
        await self._committer.commit(Change(saves=saves))
        return issued

    async def provider_of(self, thumbprint: str) -> Provider | None:
        """Return the provider that a management certificate belongs to, if it is not revoked."""
        certificate = await self._reader.get(ManagementCertificate, thumbprint)
        if certificate is None or certificate.record.revoked_at is not None:
            return None
        found = await self._reader.get(Provider, certificate.record.provider_id)
        return None if found is None else found.record

    async def token(self, provider: Provider, certificate_pem: str) -> tuple[str, int]:
        """Return an encrypted token and its life in seconds."""
        return self._office.provider_token(provider, certificate_pem, self._clock.now())

    async def register(self, provider: Provider, registration: Registration) -> RegistrationAnswer:
        """Take the server into the vault; repeating it changes nothing but names and versions."""
        vault = await self._reader.get(Vault, provider.vault_id)
        present = await self._reader.get(Provider, provider.id)
        if vault is None or present is None:
            raise NotFoundError(provider.vault_id)
        if registration.vmm_id != present.record.vmm_id:
            raise ConflictError(
                f"the certificate was issued for server {present.record.vmm_id}, "
                f"not for {registration.vmm_id}"
            )
        registered = present.record.model_copy(
            update={
                "vmm_fqdn": registration.vmm_fqdn,
                "friendly_name": registration.friendly_name,
                "provider_version": registration.provider_version,
                "vmm_version": registration.vmm_version,
                "registered_at": present.record.registered_at or self._clock.now(),
            }
        )
        await self._committer.commit(Change(saves=(Save(registered, present.version),)))
        host, port = self._mqtt
        return RegistrationAnswer(
            provider_id=provider.id,
            vault_id=vault.record.id,
            vault_name=vault.record.name,
            mqtt_host=host,
            mqtt_port=port,
            heartbeat_seconds=int(self._heartbeat.total_seconds()),
        )

    async def issue_host(self, provider: Provider, host: str, request: bytes) -> IssuedPem:
        """Issue a host certificate for a host of this provider's inventory, and for no other."""
        inventory = await self._reader.get(FabricInventory, provider.id)
        hosts = () if inventory is None else inventory.record.view.hosts
        if host not in {each.fqdn for each in hosts}:
            raise NotFoundError(host)
        return self._office.issue_host(request, host, self._clock.now())


def _valid(key: RegistrationKey, now: datetime) -> bool:
    return key.revoked_at is None and key.valid_from <= now < key.expires_at
