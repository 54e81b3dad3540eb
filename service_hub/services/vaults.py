"""Vaults and their registration keys."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import structlog

from service_hub.domain.alert_mails import AlertMail, AlertSettings
from service_hub.domain.durations import duration_id
from service_hub.domain.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PreconditionFailedError,
)
from service_hub.domain.jobs import Job
from service_hub.domain.looker_records import LearningPlace, TaskReceipt, UsualDuration
from service_hub.domain.records import (
    Alert,
    ContainerMapping,
    ExtendedInfo,
    Provider,
    RegistrationKey,
    ReplicationPolicy,
    Vault,
)
from service_hub.domain.recovery_plans import RecoveryPlan
from service_hub.domain.scenarios import SCENARIOS
from service_hub.domain.servers import refusal_of_vault_deletion, title_of
from service_hub.ports.changes import NEW, Change, Delete, Save
from service_hub.ports.channel import RegistrationAuthority
from service_hub.ports.stores import Committer, Reader
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import UploadedKey
from service_hub.services.servers import Departures

log = structlog.get_logger(__name__)

VAULT_NUMBER_SPAN = 2**31
"""Vault numbers (int64 `resourceId` of the original) are drawn from a GUID, below this."""


_FORGOTTEN: Final = (
    RegistrationKey,
    ReplicationPolicy,
    ContainerMapping,
    RecoveryPlan,
    Job,
    Alert,
)
"""What goes with a vault; the rest goes with its servers."""


class VaultService:
    """The VaultUseCases of the hub's ports."""

    def __init__(
        self,
        *,
        reader: Reader,
        committer: Committer,
        clock: Clock,
        authority: RegistrationAuthority,
        departures: Departures,
        key_lifetime: timedelta,
        provider_url: str,
    ) -> None:
        self._reader = reader
        self._committer = committer
        self._clock = clock
        self._authority = authority
        self._departures = departures
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

    async def retag(self, vault: Vault, tags: dict[str, str], *, only_this: bool = False) -> Vault:
        """Replace the tags of a vault."""
        return await self._change(vault, {"tags": tags}, only_this=only_this)

    async def keep_info(
        self, vault: Vault, info: ExtendedInfo, *, only_this: bool = False
    ) -> Vault:
        """Keep a client's extended information with a vault."""
        return await self._change(vault, {"extended_info": info}, only_this=only_this)

    async def _change(self, vault: Vault, update: dict[str, Any], *, only_this: bool) -> Vault:
        found = await self._reader.get(Vault, vault.id)
        if found is None:
            raise NotFoundError(vault.name)
        if only_this and found.record != vault:
            raise PreconditionFailedError(
                f"The vault '{vault.name}' was changed in the meantime. Get it anew, and change"
                " that."
            )
        changed = found.record.model_copy(update=update)
        await self._committer.commit(Change(saves=(Save(changed, found.version),)))
        return changed

    async def delete(self, vault: Vault) -> None:
        """Delete a vault with all that it remembers; ConflictError lists its servers.

        A server that enrolled and never registered goes with it: its certificates are revoked.
        """
        providers = [found.record for found in await self._reader.find(Provider, vault_id=vault.id)]
        names = [title_of(each) for each in providers if each.registered_at is not None]
        refusal = refusal_of_vault_deletion(vault, names)
        if refusal is not None:
            raise ConflictError(refusal)
        for provider in providers:
            await self._departures.forget(provider.id)
        deletes = [Delete(Vault, vault.id)]
        for kind in _FORGOTTEN:
            found = await self._reader.find(kind, vault_id=vault.id)
            deletes += [Delete(kind, each.record.id) for each in found]
            if kind is Job:
                deletes += await self._receipts([each.record.id for each in found])
        letters = await self._reader.find(AlertMail, of_vault=vault.id)
        deletes += [Delete(AlertMail, each.record.id) for each in letters]
        await self._committer.commit(Change(deletes=[*deletes, *_learnt(vault)]))
        log.info("vault_deleted", vault_id=vault.id, name=vault.name)

    async def _receipts(self, job_ids: Sequence[str]) -> Sequence[Delete]:
        return [
            Delete(TaskReceipt, found.record.id)
            for job_id in job_ids
            for found in await self._reader.find(TaskReceipt, job_id=job_id)
        ]

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


def _learnt(vault: Vault) -> list[Delete]:
    """Return what was learnt in a vault; figures go with the items, of which none is left."""
    durations = [
        Delete(UsualDuration, duration_id(vault.id, key, spec.task_id))
        for key, scenario in SCENARIOS.items()
        for spec in scenario.tasks
    ]
    return [*durations, Delete(LearningPlace, vault.id), Delete(AlertSettings, vault.id)]
