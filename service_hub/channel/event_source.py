"""Signed events of one provider or of many, for MQTT and for the pull alike."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from service_hub.channel.reading_desk import ReadingDesk
from service_hub.channel.signatures import Signatures, Signer
from service_hub.channel.wakeups import Wakeups
from service_hub.domain.errors import NotFoundError
from service_hub.domain.records import OutboxEvent, ProviderStream
from service_hub.ports.changes import NumberedEvent
from service_hub.ports.stores import OutboxReader, StreamPage
from service_hub.ports.surroundings import NO_FAULTS, FaultPoints

POLL_SECONDS: Final = 2.0
"""A wake may be missed (another hub process committed): the database is asked this often."""

POLL_SECONDS_MAX: Final = 30.0
"""Longest one poll may take; the next one asks again."""

Signed = tuple[ProviderStream, list[tuple[int, str]]]
"""A stream, and (seq, compact JWS) of events in it, in order."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, eq=False, slots=True)
class _Waiting:
    """A long poll: what it has."""

    provider_id: str
    stream: str
    seq: int

    def is_behind(self, page: StreamPage | None) -> bool:
        """Whether there is something to answer."""
        if page is None or page.stream.stream != self.stream:
            return True
        return max(self.seq, page.stream.acknowledged_seq) + 1 < page.stream.next_seq


class SignedEvents:
    """Stored events as signed ones; the same event gives the same bytes while its signer lives.

    Implements EventSource (ports). Who waits is found by wakes, and by the one poll that `polling`
    makes for all.
    """

    def __init__(
        self,
        reader: OutboxReader,
        signer: Signer,
        wakeups: Wakeups,
        *,
        poll_seconds: float = POLL_SECONDS,
        faults: FaultPoints = NO_FAULTS,
    ) -> None:
        self._faults = faults
        self._reader = reader
        self._desk = ReadingDesk(reader)
        self._wakeups = wakeups
        self._poll_seconds = poll_seconds
        self._signatures = Signatures(signer)
        self._waiting: set[_Waiting] = set()

    @asynccontextmanager
    async def polling(self) -> AsyncIterator[None]:
        """Find what no wake told, for everybody who waits, until the block is left."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._poll())
            try:
                yield
            finally:
                task.cancel()

    async def signed_after(self, provider_id: str, seq: int, limit: int) -> Signed:
        """Return the stream and (seq, compact JWS) above `seq`, in order.

        Raises NotFoundError for a provider without a stream.
        """
        return await self._signed(await self._page(provider_id, seq, limit))

    async def signed_when_there(
        self, provider_id: str, stream: str, seq: int, limit: int, seconds: float
    ) -> Signed:
        """Return as signed_after does, once there is an event or a stream other than `stream`.

        At the latest when the time is over.
        """
        with (
            self._noted(_Waiting(provider_id, stream, seq)),
            self._wakeups.watching(provider_id) as woken,
        ):
            # Watched first, read then: a commit in between is not missed.
            page = await self._page(provider_id, seq, limit)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while page.stream.stream == stream and not page.events:
                        if self._wakeups.is_closed:
                            break
                        await woken.wait()
                        woken.clear()
                        page = await self._page(provider_id, seq, limit)
        return await self._signed(page)

    async def signed(self, events: Sequence[NumberedEvent]) -> list[str]:
        """Return the compact JWS of each event, in the same order; nothing is read."""
        if events:
            await self._faults.reach("channel.before_sign")
        return await self._signatures.of(events)

    async def signed_waiting(self, provider_ids: Sequence[str], limit: int) -> Mapping[str, Signed]:
        """Return for each provider its stream and what it has not acknowledged, at most `limit`.

        One read and one round of signatures for all; who has no stream is not in the answer, and
        neither is who had to be left out since all together were too large.
        """
        pages = await self._reader.pages(dict.fromkeys(provider_ids, 0), limit)
        events = {each: _present(page) for each, page in pages.items()}
        flat = [event for each in events.values() for event in each]
        if flat:
            await self._faults.reach("channel.before_sign")
        signatures = iter(await self._signatures.of(flat))
        return {
            each: (pages[each].stream, [(event.seq, next(signatures)) for event in mine])
            for each, mine in events.items()
        }

    def sign_anew(self, provider_id: str, seq: int) -> None:
        """Forget a signature that a provider could not verify: the next one is fresh."""
        self._signatures.forget(provider_id, seq)
        self._wakeups.wake([provider_id])

    def replace_signer(self, signer: Signer) -> None:
        """Sign with another key from now on, also what was signed before."""
        self._signatures.replace_signer(signer)

    async def _page(self, provider_id: str, seq: int, limit: int) -> StreamPage:
        page = await self._desk.page(provider_id, seq, limit)
        if page is None:
            raise NotFoundError(provider_id)
        return StreamPage(page.stream, _present(page))

    async def _signed(self, page: StreamPage) -> Signed:
        if page.events:
            await self._faults.reach("channel.before_sign")
        signatures = await self._signatures.of(page.events)
        numbers = [event.seq for event in page.events]
        return page.stream, list(zip(numbers, signatures, strict=True))

    @contextlib.contextmanager
    def _noted(self, waiting: _Waiting) -> Iterator[None]:
        self._waiting.add(waiting)
        try:
            yield
        finally:
            self._waiting.discard(waiting)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._poll_seconds)
            behind = await self._behind()
            if behind:
                self._wakeups.wake(sorted(behind))

    async def _behind(self) -> set[str]:
        """Return who of those that wait could be answered, with one read for all."""
        waiting = list(self._waiting)
        if not waiting:
            return set()
        try:
            async with asyncio.timeout(POLL_SECONDS_MAX):
                pages = await self._reader.pages({each.provider_id: 0 for each in waiting}, 0)
        except Exception:
            # The next poll asks again: an unreachable database must not end the polls for ever.
            log.exception("event_poll_failed")
            return set()
        return {each.provider_id for each in waiting if each.is_behind(pages.get(each.provider_id))}


def _present(page: StreamPage) -> list[OutboxEvent]:
    """Return the events of the present stream: one may have begun anew."""
    return [event for event in page.events if event.stream == page.stream.stream]
