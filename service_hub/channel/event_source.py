"""Signed events of one provider, for MQTT and for the pull alike.

What is stored is not signed: it is signed when it is first sent, since keys rotate and numbers
stay (design: channel, event stream).
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, Protocol

import structlog

from service_hub.channel.wakeups import Wakeups
from service_hub.domain.errors import NotFoundError
from service_hub.domain.records import OutboxEvent, ProviderStream
from service_hub.ports import Reader
from wire_contract.events import EventEnvelope
from wire_contract.vocabulary import EventType

POLL_SECONDS: Final = 2.0
"""A wake may be missed (another hub process committed): the database is asked this often."""

SIGNATURES_MAX: Final = 4096
SIGNATURE_BYTES_MAX: Final = 64 * 1024 * 1024
"""What the cache of signatures may hold together; the longest unused ones go first."""

log = structlog.get_logger(__name__)


class Signer(Protocol):
    """Signs one payload (certs.signing.EventSigner)."""

    def sign(self, payload: Mapping[str, object] | bytes) -> str:
        """Return the JWS in compact form; ValueError when it is larger than receivers take."""
        ...


class SignedEvents:
    """Stored events as signed ones; the same event gives the same bytes while its signer lives.

    Implements EventSource (ports).
    """

    def __init__(
        self,
        reader: Reader,
        signer: Signer,
        wakeups: Wakeups,
        *,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._reader = reader
        self._signer = signer
        self._wakeups = wakeups
        self._poll_seconds = poll_seconds
        self._signatures = _SignatureCache()

    async def signed_after(
        self, provider_id: str, seq: int, limit: int
    ) -> tuple[ProviderStream, list[tuple[int, str]]]:
        """Return the stream and (seq, compact JWS) above `seq`, in order.

        Raises NotFoundError for a provider without a stream.
        """
        stream = await self._reader.get(ProviderStream, provider_id)
        if stream is None:
            raise NotFoundError(provider_id)
        events = await self._reader.events_after(provider_id, seq, limit)
        # A stream may begin anew between the two reads: only events of this one belong here.
        present = [event for event in events if event.stream == stream.record.stream]
        return stream.record, [(event.seq, self._signed(event)) for event in present]

    async def wait(self, provider_id: str, seq: int, seconds: float) -> None:
        """Return when an event above `seq` or a new stream exists, or when the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wait(provider_id, seq)

    def sign_anew(self, provider_id: str, seq: int) -> None:
        """Forget a signature that a provider could not verify: the next one is fresh."""
        self._signatures.forget(provider_id, seq)
        self._wakeups.wake([provider_id])

    def replace_signer(self, signer: Signer) -> None:
        """Sign with another key from now on, also what was signed before."""
        self._signer = signer
        self._signatures = _SignatureCache()

    async def _wait(self, provider_id: str, seq: int) -> None:
        with self._wakeups.watching(provider_id) as woken:
            # Watched first, read then: a commit in between is not missed.
            began = await self._stream(provider_id)
            while not self._wakeups.is_closed:
                if await self._reader.events_after(provider_id, seq, 1):
                    return
                if await self._stream(provider_id) != began:
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_seconds):
                        await woken.wait()
                        woken.clear()

    async def _stream(self, provider_id: str) -> str | None:
        stream = await self._reader.get(ProviderStream, provider_id)
        return None if stream is None else stream.record.stream

    def _signed(self, event: OutboxEvent) -> str:
        signature = self._signatures.get(event)
        if signature is None:
            signature = self._sign(event)
            self._signatures.put(event, signature)
        return signature

    def _sign(self, event: OutboxEvent) -> str:
        envelope = _envelope(event)
        try:
            return self._signer.sign(envelope.model_dump(mode="json"))
        except ValueError as error:
            # Its number must not stay empty, or no later event would ever be taken in: it is
            # voided, and the job that waits for it ends with its deadline.
            log.error(  # noqa: TRY400 -- the cause says it all
                "event_voided",
                provider_id=event.provider_id,
                event_id=event.id,
                seq=event.seq,
                cause=str(error),
            )
            void = envelope.model_copy(update={"type": EventType.TOMBSTONE, "body": {}})
            return self._signer.sign(void.model_dump(mode="json"))


def _envelope(event: OutboxEvent) -> EventEnvelope:
    return EventEnvelope(
        id=event.id,
        vault=event.vault_id,
        aud=event.provider_id,
        stream=event.stream,
        seq=event.seq,
        issued_at=event.issued_at,
        expires_at=event.expires_at,
        type=event.type,
        body=event.body,
    )


class _SignatureCache:
    """The signatures used last, bounded in number and in bytes."""

    def __init__(self) -> None:
        self._entries: OrderedDict[tuple[str, int], tuple[OutboxEvent, str]] = OrderedDict()
        self._bytes = 0

    def get(self, event: OutboxEvent) -> str | None:
        """Return the signature of exactly this event."""
        entry = self._entries.get((event.provider_id, event.seq))
        if entry is None or not _same(entry[0], event):
            return None
        self._entries.move_to_end((event.provider_id, event.seq))
        return entry[1]

    def put(self, event: OutboxEvent, signature: str) -> None:
        """Keep a signature; the longest unused ones go when there are too many."""
        self.forget(event.provider_id, event.seq)
        self._entries[event.provider_id, event.seq] = (event, signature)
        self._bytes += len(signature)
        while len(self._entries) > SIGNATURES_MAX or self._bytes > SIGNATURE_BYTES_MAX:
            _, (_, oldest) = self._entries.popitem(last=False)
            self._bytes -= len(oldest)

    def forget(self, provider_id: str, seq: int) -> None:
        """Drop one."""
        entry = self._entries.pop((provider_id, seq), None)
        if entry is not None:
            self._bytes -= len(entry[1])


def _same(known: OutboxEvent, event: OutboxEvent) -> bool:
    """Whether the signed form is the same; what was reported meanwhile changes nothing in it."""
    unsigned = {
        "receipt": event.receipt,
        "unverifiable_reports": event.unverifiable_reports,
    }
    return known.model_copy(update=unsigned) == event
