"""Vaults and their registration keys."""

from datetime import timedelta

from service_hub.domain.errors import InvalidRequestError, NotFoundError
from service_hub.domain.records import RegistrationKey, Vault
from service_hub.ports import (
    NEW,
    Change,
    Clock,
    Committer,
    Reader,
    RegistrationAuthority,
    Save,
    UploadedKey,
)

VAULT_NUMBER_SPAN = 2**31
"""Vault numbers (int64 `resourceId` of the original) are drawn from a GUID, below this."""


class VaultService:
    """The VaultUseCases of the hub's ports."""

    def __init__(
        self,
        *,
        reader: Reader,
        committer: Committer,
        clock: Clock,
        authority: RegistrationAuthority,
        key_lifetime: timedelta,
        provider_url: str,
    ) -> None:
        self._reader = reader
        self._committer = committer
        self._clock = clock
        self._authority = authority
        self._key_lifetime = key_lifetime
        self._provider_url = provider_url

    async def create(
        self,
        subscription_id: str,
        resource_group: str,
        name: str,
        *,
        location: str,
        tags: dict[str, str],
    ) -> Vault:
        """Create a vault, or set the tags of the one that exists."""
        found = await self._reader.find(
            Vault, subscription_id=subscription_id, resource_group=resource_group, name=name
        )
        if found:
            vault = found[0].record.model_copy(update={"tags": tags})
            expected = found[0].version
        else:
            vault_id = self._clock.new_id()
            vault = Vault(
                id=vault_id,
                vault_id=vault_id,
                subscription_id=subscription_id,
                resource_group=resource_group,
                name=name,
                location=location,
                resource_number=int(vault_id.replace("-", ""), 16) % VAULT_NUMBER_SPAN,
                created_at=self._clock.now(),
                tags=tags,
            )
            expected = NEW
        await self._committer.commit(Change(saves=(Save(vault, expected),)))
        return vault

    async def find(self, subscription_id: str, resource_group: str, name: str) -> Vault:
        """Return a vault, names compared without case."""
        found = await self._reader.find(
            Vault, subscription_id=subscription_id, resource_group=resource_group, name=name
        )
        if not found:
            raise NotFoundError(name)
        return found[0].record

    async def list_all(self) -> list[Vault]:
        """Return every vault of this hub."""
        return [found.record for found in await self._reader.find(Vault)]

    async def list(self, subscription_id: str, resource_group: str | None) -> list[Vault]:
        """Return the vaults of a subscription or of one of its resource groups."""
        columns = {"subscription_id": subscription_id}
        if resource_group is not None:
            columns["resource_group"] = resource_group
        return [found.record for found in await self._reader.find(Vault, **columns)]

    async def upload_certificate(self, vault: Vault, name: str, certificate: bytes) -> UploadedKey:
        """Take a self-signed registration certificate; valid 120 h from now, whatever it says.

        Whoever holds its key may enrol a new server into this vault until then (channel.md).
        """
        now = self._clock.now()
        uploaded = self._authority.inspect(certificate)
        if uploaded.not_after <= now:
            raise InvalidRequestError("the certificate has expired", "properties.certificate")
        present = await self._reader.get(RegistrationKey, uploaded.thumbprint)
        if present is not None and present.record.vault_id != vault.id:
            raise InvalidRequestError(
                "the certificate was uploaded to another vault: make a new key pair",
                "properties.certificate",
            )
        key = RegistrationKey(
            id=uploaded.thumbprint,
            vault_id=vault.id,
            name=name,
            certificate_pem=uploaded.pem,
            subject=uploaded.subject,
            issuer=uploaded.issuer,
            sha1_thumbprint=uploaded.sha1_thumbprint,
            resource_number=vault.resource_number,
            created_at=now,
            valid_from=now,
            expires_at=min(now + self._key_lifetime, uploaded.not_after),
        )
        if present is not None:
            key = present.record
        else:
            await self._committer.commit(Change(saves=(Save(key, NEW),)))
        self._authority.admit(key.certificate_pem)
        return UploadedKey(key, self._provider_url)
