"""Registration keys that the hub makes: what a new server enrols with (channel.md, trust)."""

import re
from datetime import datetime, timedelta
from typing import Final

import structlog

from service_hub.domain.errors import ConflictError, InvalidRequestError, NotFoundError
from service_hub.domain.records import Provider, RegistrationKey, Vault
from service_hub.operator_ports import CreatedKey, KeyFacts, KeyState, RegistrationIssuer
from service_hub.ports.changes import NEW, Change, Save
from service_hub.ports.stores import Committer, Reader
from service_hub.ports.surroundings import Clock

KEY_NAME: Final = re.compile(r"[\w .=()-]{1,128}")
KEYS_MAX: Final = 1_000
"""Registration keys that a vault keeps; expired ones make room for new ones."""

log = structlog.get_logger(__name__)


class RegistrationKeyService:
    """The RegistrationKeyUseCases of the operator ports."""

    def __init__(
        self,
        *,
        reader: Reader,
        committer: Committer,
        clock: Clock,
        issuer: RegistrationIssuer,
        key_lifetime: timedelta,
    ) -> None:
        self._reader = reader
        self._committer = committer
        self._clock = clock
        self._issuer = issuer
        self._key_lifetime = key_lifetime

    async def create(self, vault: Vault, name: str | None) -> CreatedKey:
        """Make a new key; the hub keeps its public half and thumbprint alone."""
        now = self._clock.now()
        # The recorded form of the original's names (arm-api.md, section 4).
        chosen = name or f"CB_{vault.name}-{now.day}-{now:%m-%Y}-vaultcredentials"
        if not KEY_NAME.fullmatch(chosen):
            raise InvalidRequestError(
                "the name of a registration key has 1 to 128 letters, digits, spaces and _.=()-",
                "name",
            )
        if len(await self._reader.find(RegistrationKey, vault_id=vault.id)) >= KEYS_MAX:
            raise ConflictError(
                f"the vault '{vault.name}' has {KEYS_MAX} registration keys: use one that is valid"
            )
        issued = self._issuer.issue(vault, now)
        certificate = issued.certificate
        key = RegistrationKey(
            id=certificate.thumbprint,
            vault_id=vault.id,
            name=chosen,
            certificate_pem=certificate.pem,
            subject=certificate.subject,
            issuer=certificate.issuer,
            sha1_thumbprint=certificate.sha1_thumbprint,
            resource_number=vault.resource_number,
            created_at=now,
            valid_from=now,
            expires_at=min(now + self._key_lifetime, certificate.not_after),
        )
        await self._committer.commit(Change(saves=(Save(key, NEW),)))
        log.info("registration_key_created", vault_id=vault.id, thumbprint=key.id)
        file_name = f"{vault.name}_{now:%Y-%m-%dT%H-%M-%S}.VaultCredentials"
        facts = KeyFacts(key, state_of(key, now), 0)
        return CreatedKey(facts, file_name, issued.credentials_file)

    async def list(self, vault: Vault) -> list[KeyFacts]:
        """Return all keys of a vault, oldest first, with how many servers enrolled by each."""
        providers = await self._reader.find(Provider, vault_id=vault.id)
        found = await self._reader.find(RegistrationKey, vault_id=vault.id)
        now = self._clock.now()
        used = [
            each.record.registration_key
            for each in providers
            if each.record.registered_at is not None
        ]
        return [
            KeyFacts(each.record, state_of(each.record, now), used.count(each.record.id))
            for each in found
        ]

    async def revoke(self, vault: Vault, thumbprint: str) -> KeyFacts:
        """Let a key enrol nobody any more; servers that it let in stay."""
        found = await self._reader.get(RegistrationKey, thumbprint.lower())
        if found is None or found.record.vault_id != vault.id:
            raise NotFoundError(thumbprint)
        if found.record.revoked_at is None:
            revoked = found.record.model_copy(update={"revoked_at": self._clock.now()})
            await self._committer.commit(Change(saves=(Save(revoked, found.version),)))
            log.info("registration_key_revoked", vault_id=vault.id, thumbprint=found.record.id)
        facts = await self.list(vault)
        return next(each for each in facts if each.key.id == found.record.id)


def state_of(key: RegistrationKey, now: datetime) -> KeyState:
    """Return whether a key may enrol a server now."""
    if key.revoked_at is not None:
        return KeyState.REVOKED
    return KeyState.VALID if now < key.expires_at else KeyState.EXPIRED
