"""A running hub follows `service-hub trust rotate-root` and `finish-rotation`.

Part of the composition root. Nobody is disconnected by a new root; when trust in the former one
ends, its certificates are revoked in the database, since a live TLS context cannot forget an
authority, and those who were left behind are cut.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from certs.identity import load_certificate
from certs.tls import trust_authority
from certs.trusted_chains import TrustedChains
from service_hub.domain.records import (
    Alert,
    ManagementCertificate,
    Provider,
    RegistrationKey,
)
from service_hub.ports.changes import NEW, Change, Save
from service_hub.ports.channel import Connections
from service_hub.ports.stores import Committer, Reader
from service_hub.ports.surroundings import Clock
from service_hub.root_files import settle, stamp
from service_hub.rotation import Rotation
from service_shell.errors import ProgramError

LOOK_SECONDS: Final = 2.0

_REGISTRATION_AUTHORITY: Final = "CN=Site Recovery Hub registration authority"

log = structlog.get_logger(__name__)


class RootWatch:
    """Takes up what the trust folder says."""

    def __init__(
        self,
        chains: TrustedChains,
        clock: Clock,
        *,
        directory: Path,
        reload: Callable[[datetime], TrustedChains],
        rotation: Rotation,
        provider_context: ssl.SSLContext,
        mqtt_context: ssl.SSLContext,
        reader: Reader,
        committer: Committer,
        connections: Connections,
    ) -> None:
        self._chains = chains
        self._clock = clock
        self._directory = directory
        self._reload = reload
        self._rotation = rotation
        self._provider_context = provider_context
        self._mqtt_context = mqtt_context
        self._reader = reader
        self._committer = committer
        self._connections = connections
        self._stamp = stamp(directory)

    async def look(self) -> None:
        """Take up a step of a rotation, if there was one since the last look."""
        if stamp(self._directory) == self._stamp:
            return
        settle(self._directory)
        loaded = self._reload(self._clock.now())
        # Only now: what could not be read is looked at again.
        self._stamp = stamp(self._directory)
        former = self._chains.present.root_thumbprint
        self._chains.become(loaded)
        trust_authority(self._provider_context, loaded.management_cas_pem)
        trust_authority(self._provider_context, loaded.registration_cas_pem)
        trust_authority(self._mqtt_context, loaded.management_cas_pem)
        if loaded.present.root_thumbprint == former:
            log.info("root_announced", root=loaded.newest.root_thumbprint, serial=loaded.serial)
            return
        self._rotation.replace_all()
        await self.end_former()
        log.warning("root_replaced", former=former, root=loaded.present.root_thumbprint)

    async def end_former(self) -> None:
        """Revoke what a former root's authorities have issued; may be repeated.

        Nothing is done before a root was replaced, nor while two are trusted.
        """
        if self._chains.serial == 0 or self._chains.successor is not None:
            return
        now, root = self._clock.now(), self._chains.present.root_thumbprint
        issued = await self._reader.find(ManagementCertificate)
        valid = [each for each in issued if _is_valid(each.record, now)]
        saves = [
            Save(each.record.model_copy(update={"revoked_at": now}), each.version)
            for each in valid
            if each.record.root != root
        ]
        kept = {each.record.provider_id for each in valid if each.record.root == root}
        behind = {each.record.provider_id for each in valid} - kept
        for provider_id in sorted(behind):
            found = await self._reader.get(Provider, provider_id)
            if found is not None:
                saves.append(Save(self._left_behind(found.record, now), NEW))
        saves += await self._former_keys(now)
        if saves:
            await self._committer.commit(Change(saves=tuple(saves)))
        for provider_id in sorted(behind):
            self._connections.kick(provider_id)
            log.warning("server_left_behind", provider_id=provider_id)

    async def _former_keys(self, now: datetime) -> list[Save]:
        """Return what revokes registration keys of a former chain; uploaded ones go on."""
        authority = load_certificate(self._chains.present.registration_ca_pem.encode())
        present = authority.subject.rfc4514_string()
        return [
            Save(each.record.model_copy(update={"revoked_at": now}), each.version)
            for each in await self._reader.find(RegistrationKey)
            if each.record.revoked_at is None
            and _REGISTRATION_AUTHORITY in each.record.issuer
            and each.record.issuer != present
        ]

    def _left_behind(self, provider: Provider, now: datetime) -> Alert:
        name = provider.friendly_name or provider.vmm_id
        return Alert(
            id=self._clock.new_id(),
            vault_id=provider.vault_id,
            provider_id=provider.id,
            code="ServerRevoked",
            message=f"{name} did not take over the hub's new root: register it again",
            raised_at=now,
        )

    async def run(self, look_seconds: float = LOOK_SECONDS) -> None:
        """Look for ever; what cannot be read is logged, and the hub goes on as it is."""
        failure = ""
        while True:
            try:
                await self.look()
                failure = ""
            except (ProgramError, OSError) as error:
                if str(error) != failure:
                    log.error("trust_not_taken_up", cause=str(error))  # noqa: TRY400 -- it says all
                failure = str(error)
            await asyncio.sleep(look_seconds)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look while the context is open."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.run())
            try:
                yield
            finally:
                task.cancel()


def _is_valid(certificate: ManagementCertificate, now: datetime) -> bool:
    if certificate.revoked_at is not None:
        return False
    return certificate.expires_at is None or now < certificate.expires_at
