"""A running hub changes its own certificates in time: event signer and server certificate.

Part of the composition root, as `trust` is. Certificates of event signers travel in each event
(x5c), so that a new one needs no announcement, and what the former one signed can be verified until
its certificate ends: a third of its life after the change.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

import structlog
from cryptography import x509

from certs.signing import EventSigner
from certs.tls import load_certificate_chain
from service_hub.channel.event_source import SignedEvents
from service_hub.ports.surroundings import Clock

LIFE_USED: Final = 2 / 3
"""A certificate is replaced when this part of its life is over (design: channel, trust)."""

LOOK_SECONDS: Final = 60.0

log = structlog.get_logger(__name__)


def due_at(chain_pem: str) -> datetime:
    """Return when two thirds of the life of a chain's leaf are over."""
    leaf = x509.load_pem_x509_certificates(chain_pem.encode())[0]
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    return leaf.not_valid_before_utc + life * LIFE_USED


class Rotation:
    """Replaces what is due; nobody is disconnected by it."""

    def __init__(
        self,
        *,
        clock: Clock,
        source: SignedEvents,
        signer: EventSigner,
        make_signer: Callable[[datetime], EventSigner],
        server_chain_pem: str,
        make_server: Callable[[datetime], tuple[str, bytes]],
        contexts: Sequence[ssl.SSLContext],
    ) -> None:
        self._clock = clock
        self._source = source
        self._make_signer = make_signer
        self._make_server = make_server
        self._contexts = tuple(contexts)
        self._signer_due_at = due_at(signer.chain_pem)
        self._server_due_at = due_at(server_chain_pem)

    def look(self) -> None:
        """Replace what is due now."""
        now = self._clock.now()
        if now >= self._signer_due_at:
            signer = self._make_signer(now)
            self._source.replace_signer(signer)
            self._signer_due_at = due_at(signer.chain_pem)
            log.info("event_signer_replaced", next_at=self._signer_due_at.isoformat())
        if now >= self._server_due_at:
            chain_pem, key_pem = self._make_server(now)
            for context in self._contexts:
                # On the live context: new handshakes use it, open connections go on.
                load_certificate_chain(context, chain_pem, key_pem)
            self._server_due_at = due_at(chain_pem)
            log.info("server_certificate_replaced", next_at=self._server_due_at.isoformat())

    def replace_all(self) -> None:
        """Replace both now, whatever their age: the chain above them has changed."""
        self._signer_due_at = self._server_due_at = self._clock.now()
        self.look()

    async def run(self, look_seconds: float = LOOK_SECONDS) -> None:
        """Look for ever."""
        while True:
            self.look()
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
