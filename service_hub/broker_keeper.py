"""Keeps what an external broker needs fresh while the hub runs (deploy/mosquitto/README.md).

Part of the composition root: the hub's identity at the broker, the broker's own certificate, the
authorities of its clients, and the list of revoked certificates, which is written long before it
ends, since an expired one locks everybody out (design: channel, trust).
"""

import asyncio
import contextlib
import ssl
import stat
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import aiomqtt
import structlog

from certs.chain import IssuedCertificate
from certs.identity import new_private_key, private_key_pem
from certs.profiles import Profile
from certs.tls import client_context, load_certificate_chain, trust_authority
from service_hub.channel.mosquitto_files import (
    AUTHORITY_FILE,
    CERTIFICATE_FILE,
    HUB_IDENTITY,
    KEY_FILE,
    REVOKED_FILE,
)
from service_hub.config import BrokerSettings
from service_hub.domain.records import ManagementCertificate
from service_hub.ports.stores import Reader
from service_hub.ports.surroundings import Clock
from service_hub.rotation import due_at
from service_hub.trust import HubTrust
from service_shell.atomic_files import write_atomically
from service_shell.errors import ProgramError

LOOK_SECONDS: Final = 60.0
REVOKED_EVERY: Final = timedelta(days=1)
"""How often the list is written anew where nothing was revoked; it is valid for 30 days."""
RELOAD_SECONDS_MAX: Final = 30.0
EVICTION_HELD_SECONDS: Final = 2.0
"""A server that was put out must not come back for this long: the broker knows the list then."""
EVICTIONS_MAX: Final = 5
EVICTION_LIFETIME: Final = timedelta(minutes=10)
ANSWER_SECONDS_MAX: Final = 10.0
_OUTPUT_SHOWN_MAX: Final = 300

log = structlog.get_logger(__name__)


class BrokerKeeper:
    """Writes the broker's files in time, has it reload them, and puts revoked servers out."""

    def __init__(
        self, settings: BrokerSettings, trust: HubTrust, reader: Reader, clock: Clock
    ) -> None:
        self._settings = settings
        self._trust = trust
        self._reader = reader
        self._clock = clock
        self._work = asyncio.Event()
        self._evicted: set[str] = set()
        self._list_due_at: datetime | None = None
        issued, key_pem = self._identity(HUB_IDENTITY)
        self._due_at = due_at(issued.chain_pem)
        self._chains = self._known()
        self.tls = client_context(
            trust.chains.roots_pem, chain_pem=issued.chain_pem, key_pem=key_pem
        )
        """How the hub connects to the broker; a live context, whose certificate is replaced."""

    def kick(self, provider_id: str) -> None:
        """Tell the broker who was revoked, then end the connection that this server has there."""
        self._evicted.add(provider_id)
        self._work.set()

    async def run(self) -> None:
        """Look for ever, and at once after a revocation."""
        while True:
            self._work.clear()
            evicted, self._evicted = self._evicted, set()
            try:
                if await self.look(revoked=bool(evicted)):
                    await self._reload()
            except (ProgramError, OSError) as error:
                log.error("broker_files_not_written", cause=str(error))  # noqa: TRY400 -- all said
            for provider_id in sorted(evicted):
                await self._evict(provider_id)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._work.wait()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look while the context is open."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.run())
            try:
                yield
            finally:
                task.cancel()

    async def look(self, *, revoked: bool = False) -> bool:
        """Replace what is due; true when the broker has files to reload."""
        now = self._clock.now()
        has_new_chains = self._known() != self._chains
        if has_new_chains or now >= self._due_at:
            trust_authority(self.tls, self._trust.chains.roots_pem)
            issued, key_pem = self._identity(HUB_IDENTITY)
            load_certificate_chain(self.tls, issued.chain_pem, key_pem)
            self._due_at, self._chains = due_at(issued.chain_pem), self._known()
            log.info("broker_identity_replaced", next_at=self._due_at.isoformat())
        folder = self._settings.folder
        if folder is None:
            return False
        written = False
        if has_new_chains or _is_due(folder / CERTIFICATE_FILE, now):
            write_certificates(folder, self._settings, self._trust, now)
            written = True
        if written or revoked or self._list_due_at is None or now >= self._list_due_at:
            await write_revoked(folder, self._trust, self._reader, now)
            self._list_due_at = now + REVOKED_EVERY
            written = True
        return written

    def _known(self) -> tuple[str, ...]:
        return tuple(chain.root_thumbprint for chain in self._trust.chains.all)

    def _identity(
        self, name: str, lifetime: timedelta | None = None
    ) -> tuple[IssuedCertificate, bytes]:
        key, now = new_private_key(), self._clock.now()
        issued = self._trust.chain.issue(
            Profile.PROVIDER_MANAGEMENT, key.public_key(), name, now, lifetime=lifetime
        )
        return issued, private_key_pem(key)

    async def _reload(self) -> None:
        """Give the configured command; without one the operator sees to it (README)."""
        if not self._settings.reload_command:
            return
        try:
            async with asyncio.timeout(RELOAD_SECONDS_MAX):
                process = await asyncio.create_subprocess_exec(
                    *self._settings.reload_command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE,
                )
                _, said = await process.communicate()
        except (OSError, TimeoutError) as error:
            log.error("broker_not_reloaded", cause=str(error) or "it took too long")  # noqa: TRY400 -- all said
            return
        if process.returncode:
            cause = said.decode(errors="replace")[:_OUTPUT_SHOWN_MAX].strip()
            log.error("broker_not_reloaded", exit_code=process.returncode, cause=cause)
        else:
            log.info("broker_reloaded")

    async def _evict(self, provider_id: str) -> None:
        """Take the server's place at the broker, until it does not come back.

        A broker knows one connection per client id, which is the certificate's name: whoever comes
        later ends the earlier one. The certificate for it lives ten minutes, and the hub's own
        listeners do not know it.
        """
        issued, key_pem = self._identity(provider_id, EVICTION_LIFETIME)
        tls = client_context(
            self._trust.chains.roots_pem, chain_pem=issued.chain_pem, key_pem=key_pem
        )
        for _ in range(EVICTIONS_MAX):
            try:
                if await self._held(provider_id, tls):
                    log.info("broker_connection_ended", provider_id=provider_id)
                    return
            except (aiomqtt.MqttError, OSError) as error:
                log.warning("broker_eviction_failed", provider_id=provider_id, cause=str(error))
                return
        log.error(
            "broker_connection_not_ended",
            provider_id=provider_id,
            cause="it comes back: has the broker loaded the list of revoked certificates?",
        )

    async def _held(self, provider_id: str, tls: ssl.SSLContext) -> bool:
        """Connect as the server; false when it took its place back."""
        client = aiomqtt.Client(
            self._settings.host,
            self._settings.port,
            identifier=provider_id,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=True,
            timeout=ANSWER_SECONDS_MAX,
            tls_context=tls,
        )
        async with client:
            try:
                async with asyncio.timeout(EVICTION_HELD_SECONDS):
                    async for _ in client.messages:
                        continue  # nothing is subscribed to
            except TimeoutError:
                return True
            except aiomqtt.MqttError:
                return False
        return False


def write_certificates(
    folder: Path, settings: BrokerSettings, trust: HubTrust, now: datetime
) -> None:
    """Write the authorities of the broker's clients, and a fresh certificate of its own."""
    key, (names, addresses) = new_private_key(), settings.names
    issued = trust.chain.issue(
        Profile.HUB_SERVER,
        key.public_key(),
        settings.host,
        now,
        dns_names=names,
        ip_addresses=addresses,
    )
    chains = trust.chains
    write_file(folder, AUTHORITY_FILE, chains.management_cas_pem + chains.roots_pem)
    # The key first: a broker that reads in between has a pair that does not fit, and keeps the old.
    write_file(folder, KEY_FILE, private_key_pem(key).decode())
    write_file(folder, CERTIFICATE_FILE, issued.chain_pem)


async def write_revoked(folder: Path, trust: HubTrust, reader: Reader | None, now: datetime) -> int:
    """Write the list of revoked certificates; return how many are on it."""
    known = [] if reader is None else await reader.find(ManagementCertificate)
    revoked = {
        int(each.record.serial, 16): each.record.revoked_at
        for each in known
        if each.record.serial
        and each.record.revoked_at is not None
        and (each.record.expires_at is None or now < each.record.expires_at)
    }
    lists = [chain.revoked_pem(revoked, now) for chain in trust.chains.all]
    write_file(folder, REVOKED_FILE, "".join(lists))
    log.info("revoked_certificates_listed", certificates=len(revoked))
    return len(revoked)


def write_file(folder: Path, name: str, text: str) -> None:
    """Write one file: 0600, or 0640 where the folder passes its group on (set-group-id)."""
    shared = folder.stat().st_mode & stat.S_ISGID
    try:
        write_atomically(folder / name, text.encode(), mode=0o640 if shared else 0o600)
    except OSError as error:
        raise ProgramError(
            f"cannot write {folder / name}: {error.strerror}; make the folder writable for the hub"
        ) from error


def _is_due(path: Path, now: datetime) -> bool:
    try:
        return now >= due_at(path.read_text())
    except (OSError, ValueError, IndexError):
        return True  # missing or damaged: written anew
