"""Signatures of stored events: made when they are first needed, kept while they are.

What is stored is not signed: keys rotate and numbers stay (design: channel, event stream).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import structlog

from service_hub.domain.records import OutboxEvent
from wire_contract.events import EventEnvelope
from wire_contract.vocabulary import EventType

SIGNATURES_MAX: Final = 4096
SIGNATURE_BYTES_MAX: Final = 64 * 1024 * 1024
"""What the cache of signatures may hold together; the longest unused ones go first."""

MADE_AT_ONCE: Final = 64
"""After so many the loop's other work has its turn; each costs it about 50 µs. Another thread would
cost more than it takes off: most of a signature holds the interpreter's lock."""

log = structlog.get_logger(__name__)


class Signer(Protocol):
    """Signs one payload (certs.signing.EventSigner)."""

    def sign(self, payload: Mapping[str, object] | bytes) -> str:
        """Return the JWS in compact form; ValueError when it is larger than receivers take."""
        ...


class Signatures:
    """The same event gives the same bytes while its signer lives; bounded in number and bytes."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._entries: OrderedDict[tuple[str, int], tuple[OutboxEvent, str]] = OrderedDict()
        self._bytes = 0

    async def of(self, events: Sequence[OutboxEvent]) -> list[str]:
        """Return the JWS of each event, in the same order; lets others in between."""
        signed, made = [], 0
        for event in events:
            jws = self._get(event)
            if jws is None:
                jws = _sign(self._signer, event)
                self._put(event, jws)
                made += 1
                if made % MADE_AT_ONCE == 0:
                    await asyncio.sleep(0)
            signed.append(jws)
        return signed

    def forget(self, provider_id: str, seq: int) -> None:
        """Drop one: the next is fresh."""
        entry = self._entries.pop((provider_id, seq), None)
        if entry is not None:
            self._bytes -= len(entry[1])

    def replace_signer(self, signer: Signer) -> None:
        """Sign with another key from now on, also what was signed before."""
        self._signer = signer
        self._entries.clear()
        self._bytes = 0

    def _get(self, event: OutboxEvent) -> str | None:
        entry = self._entries.get((event.provider_id, event.seq))
        if entry is None or not _same(entry[0], event):
            return None
        self._entries.move_to_end((event.provider_id, event.seq))
        return entry[1]

    def _put(self, event: OutboxEvent, signature: str) -> None:
        self.forget(event.provider_id, event.seq)
        self._entries[event.provider_id, event.seq] = (event, signature)
        self._bytes += len(signature)
        while len(self._entries) > SIGNATURES_MAX or self._bytes > SIGNATURE_BYTES_MAX:
            _, (_, oldest) = self._entries.popitem(last=False)
            self._bytes -= len(oldest)


def _sign(signer: Signer, event: OutboxEvent) -> str:
    envelope = _envelope(event)
    try:
        return signer.sign(envelope.model_dump(mode="json"))
    except ValueError as error:
        # Its number must not stay empty, or no later event would ever be taken in: it is voided,
        # and the task that waits for it ends when the receipt of the tombstone comes.
        log.error(  # noqa: TRY400 -- the cause says it all
            "event_voided",
            provider_id=event.provider_id,
            event_id=event.id,
            seq=event.seq,
            cause=str(error),
        )
        void = envelope.model_copy(update={"type": EventType.TOMBSTONE, "body": {}})
        return signer.sign(void.model_dump(mode="json"))


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


def _same(known: OutboxEvent, event: OutboxEvent) -> bool:
    """Whether the signed form is the same; what was reported meanwhile changes nothing in it."""
    if known is event or known == event:
        return True
    unsigned = {
        "receipt": event.receipt,
        "unverifiable_reports": event.unverifiable_reports,
    }
    return known.model_copy(update=unsigned) == event
