"""Signatures of stored events: made when they are first needed, kept while they are.

What is stored is not signed: keys rotate and numbers stay (design: channel, event stream).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Protocol

import structlog
from pydantic_core import to_json

from service_hub.domain.records import OutboxEvent
from service_hub.ports.changes import NewEvent, NumberedEvent
from wire_contract.vocabulary import EventType

SIGNATURES_MAX: Final = 4096
SIGNATURE_BYTES_MAX: Final = 64 * 1024 * 1024
"""What the cache of signatures may hold together; the longest unused ones go first."""

MADE_AT_ONCE: Final = 64
"""After so many the loop's other work has its turn; each costs it about 40 µs. Another thread would
cost more than it takes off: a signature holds the interpreter's lock."""

log = structlog.get_logger(__name__)


class Signer(Protocol):
    """Signs one payload (certs.signing.EventSigner)."""

    def sign(self, payload: bytes) -> str:
        """Return the JWS in compact form; ValueError when it is larger than receivers take."""
        ...


class Signatures:
    """The same event gives the same bytes while its signer lives; bounded in number and bytes."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._entries: OrderedDict[tuple[str, int], tuple[bytes, str]] = OrderedDict()
        self._bytes = 0

    async def of(self, events: Sequence[OutboxEvent] | Sequence[NumberedEvent]) -> list[str]:
        """Return the JWS of each event, in the same order; lets others in between."""
        signed, made = [], 0
        for event in events:
            fields = _fields(event)
            place, payload = (str(fields["aud"]), event.seq), to_json(fields)
            jws = self._get(place, payload)
            if jws is None:
                jws = self._sign(fields, payload)
                self._put(place, payload, jws)
                made += 1
                if made % MADE_AT_ONCE == 0:
                    await asyncio.sleep(0)
            signed.append(jws)
        return signed

    def forget(self, provider_id: str, seq: int) -> None:
        """Drop one: the next is fresh."""
        entry = self._entries.pop((provider_id, seq), None)
        if entry is not None:
            self._bytes -= _size(entry)

    def replace_signer(self, signer: Signer) -> None:
        """Sign with another key from now on, also what was signed before."""
        self._signer = signer
        self._entries.clear()
        self._bytes = 0

    def _get(self, place: tuple[str, int], payload: bytes) -> str | None:
        entry = self._entries.get(place)
        # Another event may stand under the number: what is signed must be what is asked for.
        if entry is None or entry[0] != payload:
            return None
        self._entries.move_to_end(place)
        return entry[1]

    def _put(self, place: tuple[str, int], payload: bytes, signature: str) -> None:
        self.forget(*place)
        entry = self._entries[place] = (payload, signature)
        self._bytes += _size(entry)
        while len(self._entries) > SIGNATURES_MAX or self._bytes > SIGNATURE_BYTES_MAX:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= _size(oldest)

    def _sign(self, fields: dict[str, object], payload: bytes) -> str:
        try:
            return self._signer.sign(payload)
        except ValueError as error:
            # Its number must not stay empty, or no later event would ever be taken in: it is
            # voided, and the task that waits for it ends when the receipt of the tombstone comes.
            log.error(  # noqa: TRY400 -- the cause says it all
                "event_voided",
                provider_id=fields["aud"],
                event_id=fields["id"],
                seq=fields["seq"],
                cause=str(error),
            )
            return self._signer.sign(to_json({**fields, "type": EventType.TOMBSTONE, "body": {}}))


def _fields(event: OutboxEvent | NumberedEvent) -> dict[str, object]:
    """Return what `EventEnvelope` would write, without making one: this is done for every event."""
    if isinstance(event, OutboxEvent):
        said: OutboxEvent | NewEvent = event
        event_id = event.id
    else:
        said = event.event
        event_id = event.event.event_id
    return {
        "id": event_id,
        "vault": said.vault_id,
        "aud": said.provider_id,
        "stream": event.stream,
        "seq": event.seq,
        "issued_at": said.issued_at,
        "expires_at": said.expires_at,
        "type": said.type,
        "body": said.body,
    }


def _size(entry: tuple[bytes, str]) -> int:
    return len(entry[0]) + len(entry[1])
