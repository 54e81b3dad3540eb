"""Renews the management certificate in time, while everything goes on (design: channel, trust)."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509

from certs.enrolment import EnrolmentDamagedError, decode_certs_only, encode_request_body
from certs.identity import certificate_request, common_name, new_private_key
from certs.tls import client_context
from provider_agent import credentials
from provider_agent.credentials import Identity
from provider_agent.domain.retries import Backoff
from provider_agent.hub_client import AccessToken, HubClient, HubLine
from provider_agent.hub_https import HubError, HubHttps
from provider_agent.pinned_roots import PinnedRoots
from provider_agent.registration import trusted_chain
from provider_agent.subscriber import Subscriber
from service_shell.clock import Clock
from service_shell.errors import ProgramError

LIFE_USED: Final = 2 / 3
"""A certificate is renewed when this part of its life is over."""

LOOK_SECONDS_MAX: Final = 3600.0
"""How often the clock is looked at: it may be set, and machines sleep."""

RETRY: Final = Backoff(first_seconds=30.0, cap_seconds=600.0)
"""There are days left: a hub that restarts is not pressed."""

LEAVE_SECONDS_MAX: Final = 120.0
"""How long requests on the former connections may take; the longest is a long poll."""

log = structlog.get_logger(__name__)

Connect = Callable[[ssl.SSLContext], AbstractAsyncContextManager[HubHttps]]


def renewal_at(chain_pem: str) -> datetime:
    """Return when two thirds of a certificate's life are over."""
    leaf = x509.load_pem_x509_certificates(chain_pem.encode())[0]
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    return leaf.not_valid_before_utc + life * LIFE_USED


class Renewal:
    """Keeps the identity valid: new key, new certificate, new token, the same provider."""

    def __init__(
        self,
        hub: HubClient,
        subscriber: Subscriber,
        identity: Identity,
        clock: Clock,
        *,
        data_directory: Path,
        connect: Connect,
        roots: PinnedRoots,
    ) -> None:
        self._roots = roots
        self._hub = hub
        self._subscriber = subscriber
        self.identity = identity
        self._clock = clock
        self._data_directory = data_directory
        self._connect = connect
        self._due = roots.renewal_due

    async def run(self) -> None:
        """Renew for ever; a hub that is away or refuses is asked again until the end."""
        async with AsyncExitStack() as lines:
            while True:
                await self._until_due()
                if self._roots.pem != self.identity.root_pem:
                    self.identity = self._roots.pinned(self.identity)
                    await self._leave(await self.reconnect(lines))
                if self._is_due():
                    await self._leave(await self._insist(lines))

    async def _insist(self, lines: AsyncExitStack) -> HubLine:
        failures = 0
        while True:
            try:
                return await self._renew(lines)
            except (HubError, ProgramError) as error:
                failures += 1
                end = self._end().isoformat()
                log.warning("renewal_failed", cause=str(error), certificate_ends_at=end)
            await asyncio.sleep(self._clock.jitter(0, RETRY.bound_seconds(failures)))

    async def _until_due(self) -> None:
        while True:
            self._drop_former()
            if self._is_due():
                return
            left = (renewal_at(self.identity.chain_pem) - self._clock.now()).total_seconds()
            if await self._due.wait(min(max(left, 0), LOOK_SECONDS_MAX)):
                return

    def _is_due(self) -> bool:
        """Whether two thirds of the certificate's life are over, or its root is being replaced."""
        if self._roots.renewal_wanted and self._roots.is_newest(self.identity.chain_pem):
            self._roots.renewal_wanted = False
        old = self._clock.now() >= renewal_at(self.identity.chain_pem)
        return old or self._roots.renewal_wanted

    def _drop_former(self) -> None:
        try:
            dropped = credentials.drop_former(self._data_directory, self._clock.now())
        except (ProgramError, ValueError, IndexError, OSError) as error:
            # A former key that stays too long harms nobody; the present one goes on.
            log.warning("former_keys_not_dropped", cause=str(error))
            return
        if dropped:
            log.info("former_keys_dropped", keys=dropped)

    async def _renew(self, lines: AsyncExitStack) -> HubLine:
        """Return the line that is no longer used; what is stored is stored before it is used."""
        provider_id = self.identity.facts.provider_id
        key = credentials.renewal_key(self._data_directory, new_private_key)
        body = encode_request_body(certificate_request(key, provider_id))
        try:
            issued = decode_certs_only(await self._hub.reenrol(body))
        except EnrolmentDamagedError as error:
            raise ProgramError(f"the hub's answer holds no certificate: {error}") from error
        chain_pem = trusted_chain(issued, key, self._roots.pem)
        leaf = x509.load_pem_x509_certificates(chain_pem.encode())[0]
        if common_name(leaf) != provider_id:
            raise ProgramError(f"the hub renewed {common_name(leaf)}, not this provider")
        # Roots may have been pinned while the hub was asked: what is written holds them too.
        renewed = replace(self._roots.pinned(self.identity), key=key, chain_pem=chain_pem)
        self._roots.renewal_wanted = False  # one try per session: a hub may know better
        credentials.save_renewed(self._data_directory, renewed)
        self.identity = renewed
        log.info("certificate_renewed", ends_at=leaf.not_valid_after_utc.isoformat())
        return await self.reconnect(lines)

    async def reconnect(self, lines: AsyncExitStack) -> HubLine:
        """Use the identity as it is now, for HTTPS and MQTT; return the line used before."""
        tls = client_context(
            self.identity.root_pem,
            chain_pem=self.identity.chain_pem,
            key_pem=self.identity.key_pem,
        )
        https = await lines.enter_async_context(self._connect(tls))
        former = self._hub.change(https, AccessToken(https, self.identity.key, self._clock.now))
        self._subscriber.change(tls)
        return former

    async def _leave(self, former: HubLine) -> None:
        try:
            async with asyncio.timeout(LEAVE_SECONDS_MAX):
                await former.until_idle()
        except TimeoutError:
            log.warning("former_connections_cut", seconds=LEAVE_SECONDS_MAX)
        await former.https.close()

    def _end(self) -> datetime:
        leaf = x509.load_pem_x509_certificates(self.identity.chain_pem.encode())[0]
        return leaf.not_valid_after_utc
