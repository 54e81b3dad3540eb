"""Moves stored events to the providers that are connected (design: channel, event stream).

The database is the queue. A commit hands over what it stored, a wake makes it quick, the poll makes
it certain, and a new connection is sent again whatever its provider has not acknowledged.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import structlog

from service_hub.channel.delivery import Delivery, Publication
from service_hub.channel.due_times import DueTimes
from service_hub.channel.flight import IN_FLIGHT_MAX, FlightLog, Hint, Publish, Step
from service_hub.channel.handed_over import HandedOver, handed_over
from service_hub.channel.wakeups import Wakeups
from service_hub.domain.records import ProviderStream
from service_hub.ports.changes import NOTHING_STORED, Stored
from service_hub.ports.channel import EventSource
from service_hub.ports.stores import OutboxReader
from service_hub.ports.surroundings import NO_FAULTS, FaultPoints
from wire_contract.topics import EVENT_BYTES_MAX

POLL_SECONDS: Final = 2.0
PASS_SECONDS_MAX: Final = 30.0
"""Longest one read may take; it is tried again at the next poll."""

PART_MAX: Final = 200
"""Providers whose events are read, signed and sent together: more would hold the loop up."""

HANDED_AT_ONCE: Final = 32
"""After so many events the loop's other work has its turn."""

PARTS_AT_ONCE: Final = 2
"""While one part is signed and sent, another is read in another thread."""

LOOKS_APART_SECONDS: Final = 0.02
"""Outboxes are read at most so often: of many that are asked for one by one, as when a crowd
connects, many are then read together. Who is asked for alone is read at once."""

log = structlog.get_logger(__name__)


class OutboxPump:
    """Sends what is stored, unacknowledged and not in flight, in order; an Outbox (ports)."""

    def __init__(
        self,
        *,
        reader: OutboxReader,
        source: EventSource,
        delivery: Delivery,
        wakeups: Wakeups,
        monotonic: Callable[[], float],
        poll_seconds: float = POLL_SECONDS,
        may_send: Callable[[], bool] = lambda: True,
        faults: FaultPoints = NO_FAULTS,
    ) -> None:
        self._may_send = may_send
        self._faults = faults
        self._reader = reader
        self._source = source
        self._delivery = delivery
        self._wakeups = wakeups
        self._monotonic = monotonic
        self._poll_seconds = poll_seconds
        self._logs: dict[str, tuple[int, FlightLog]] = {}
        self._due = DueTimes()

    def wake(self, provider_ids: Sequence[str], stored: Stored = NOTHING_STORED) -> None:
        """Send what is there; never blocks."""
        self._wakeups.wake(provider_ids, stored)

    async def run(self) -> None:
        """Pump until cancelled."""
        poll_at = look_at = self._monotonic()
        unread: set[str] = set()
        while True:
            woken = await self._wakeups.take(
                self._pause(min(poll_at, look_at) if unread else poll_at)
            )
            unread |= woken.provider_ids | await self._send_stored(woken.stored)
            now = self._monotonic()
            unread |= self._due.take(now)
            if now >= poll_at:
                poll_at = now + self._poll_seconds
                unread |= await self._behind()
            if unread and now >= look_at:
                look_at = now + LOOKS_APART_SECONDS
                looked_at, unread = sorted(unread), set()
                await self._look_at(looked_at)

    def _pause(self, until: float) -> float:
        next_at = self._due.next_at()
        return max(0.0, min(until, until if next_at is None else next_at) - self._monotonic())

    # ------------------------------------------------------------------- what commits handed over

    async def _send_stored(self, stored: Sequence[Stored]) -> set[str]:
        """Send what was handed over; return the providers whose outbox must be read for that."""
        unread: set[str] = set()
        ready: list[tuple[str, HandedOver]] = []
        for provider_id, handed in handed_over(stored).items():
            flights = self._flights(provider_id)
            if flights is None:
                continue
            if not handed.is_whole() or not _goes_on(flights, handed):
                unread.add(provider_id)
            elif handed.events:
                ready.append((provider_id, handed))
            else:
                self._due.note(provider_id, flights.due_at())
        for at in range(0, len(ready), HANDED_AT_ONCE):
            unread |= await self._send_some(ready[at : at + HANDED_AT_ONCE])
            await asyncio.sleep(0)
        return unread

    async def _send_some(self, ready: Sequence[tuple[str, HandedOver]]) -> set[str]:
        """Sign and send; return whose outbox must be read after all."""
        if not self._may_send():
            return {provider_id for provider_id, _ in ready}
        try:
            async with asyncio.timeout(PASS_SECONDS_MAX):
                signed = await self._source.signed(
                    [event for _, handed in ready for event in handed.events]
                )
        except Exception:
            # Read and signed again like all that was not handed over.
            log.exception("hand_over_failed", providers=len(ready))
            return {provider_id for provider_id, _ in ready}
        unread: set[str] = set()
        signatures = iter(signed)
        for provider_id, handed in ready:
            payloads = {each.seq: next(signatures).encode("ascii") for each in handed.events}
            flights = self._flights(provider_id)
            if flights is None:
                continue
            # Another connection may have come while it was signed.
            if max(map(len, payloads.values())) > EVENT_BYTES_MAX or not _goes_on(flights, handed):
                unread.add(provider_id)
                continue
            await self._take_all(provider_id, flights, [Publish(seq) for seq in payloads], payloads)
        return unread

    # ------------------------------------------------------------------------- what must be read

    async def _behind(self) -> set[str]:
        """Return the connected providers that have not acknowledged everything."""
        connections = self._delivery.connections()
        for gone in self._logs.keys() - connections.keys():
            self._forget(gone)
        if not connections:
            return set()
        try:
            async with asyncio.timeout(PASS_SECONDS_MAX):
                pages = await self._reader.pages(dict.fromkeys(connections, 0), 0)
        except Exception:
            # The next poll asks again: an unreachable database must not end the delivery for ever.
            log.exception("outbox_poll_failed")
            return set()
        return {
            each
            for each, page in pages.items()
            if page.stream.acknowledged_seq + 1 < page.stream.next_seq
        }

    async def _look_at(self, provider_ids: Sequence[str]) -> None:
        """Send each what it is due, part after part: one is read while another is sent."""
        if not self._may_send():
            # Others may decide on what this hub read before it was held up; the next poll asks.
            log.warning("sending_held_back", providers=len(provider_ids))
            return
        here = []
        for provider_id in provider_ids:
            if self._delivery.connected(provider_id) is None:
                self._forget(provider_id)
            else:
                here.append(provider_id)
        parts = iter([here[at : at + PART_MAX] for at in range(0, len(here), PART_MAX)])

        async def work() -> None:
            for part in parts:
                await self._send_to(part)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(PARTS_AT_ONCE, -(-len(here) // PART_MAX))):
                group.create_task(work())

    async def _send_to(self, provider_ids: Sequence[str]) -> None:
        try:
            async with asyncio.timeout(PASS_SECONDS_MAX):
                waiting = await self._source.signed_waiting(provider_ids, IN_FLIGHT_MAX + 1)
        except Exception as error:  # noqa: BLE001 -- told for each provider whose events cannot be read
            await self._read_failed(provider_ids, error)
            return
        handed = 0
        for provider_id, (stream, events) in waiting.items():
            handed += len(events)
            if handed > HANDED_AT_ONCE:
                handed = 0
                await asyncio.sleep(0)
            await self._send(provider_id, stream, events)
        left_out = [each for each in provider_ids if each not in waiting]
        if waiting and left_out:
            # All together were too large for one read.
            await self._send_to(left_out)

    async def _read_failed(self, provider_ids: Sequence[str], error: Exception) -> None:
        """Let those be served whose events can be read; the others are tried again later."""
        if len(provider_ids) > 1 and not isinstance(error, TimeoutError):
            middle = len(provider_ids) // 2
            await self._send_to(provider_ids[:middle])
            await self._send_to(provider_ids[middle:])
            return
        log.error("outbox_pass_failed", provider_ids=provider_ids, exc_info=error)
        for provider_id in provider_ids:
            flights = self._flights(provider_id)
            if flights is not None:
                flights.hold(self._monotonic(), self._poll_seconds)
                self._due.note(provider_id, flights.due_at())

    def _forget(self, provider_id: str) -> None:
        self._logs.pop(provider_id, None)
        self._due.note(provider_id, None)

    def _flights(self, provider_id: str) -> FlightLog | None:
        """Return what is in flight on the provider's present connection; None: it has none."""
        connection = self._delivery.connected(provider_id)
        if connection is None:
            self._forget(provider_id)
            return None
        known, flights = self._logs.get(provider_id, (None, FlightLog()))
        if known != connection:
            flights = FlightLog()
        self._logs[provider_id] = (connection, flights)
        return flights

    async def _send(
        self, provider_id: str, stream: ProviderStream, events: Sequence[tuple[int, str]]
    ) -> None:
        """Send what was read, as far as it is due."""
        flights = self._flights(provider_id)
        if flights is None:
            return
        flights.acknowledge(stream.stream, stream.acknowledged_seq)
        payloads = {seq: jws.encode("ascii") for seq, jws in events}
        waiting = [(seq, len(payload)) for seq, payload in payloads.items()]
        steps = flights.steps(waiting, self._monotonic())
        await self._take_all(provider_id, flights, steps, payloads)

    async def _take_all(
        self,
        provider_id: str,
        flights: FlightLog,
        steps: Sequence[Step],
        payloads: Mapping[int, bytes],
    ) -> None:
        """Take the steps in order; the first that cannot be taken now, and the rest, wait."""
        try:
            if payloads:
                await self._faults.reach("channel.before_publish")
            now = self._monotonic()
            for step in steps:
                if not self._take(provider_id, step, payloads):
                    flights.hold(now)
                    break
                flights.done(step, now)
            self._due.note(provider_id, flights.due_at())
            if payloads:
                await self._faults.reach("channel.after_publish")
        except Exception:
            # One provider's trouble must not end the delivery to the others.
            log.exception("outbox_pass_failed", provider_id=provider_id)
            self._forget(provider_id)

    def _take(self, provider_id: str, step: Step, payloads: Mapping[int, bytes]) -> bool:
        """Return whether the step was taken; if not, the rest waits for the next look."""
        if isinstance(step, Hint):
            return self._delivery.hint(provider_id)
        publication = self._delivery.publish(provider_id, payloads[step.seq])
        if publication is Publication.TOO_LARGE:
            # The peer takes less than MQTT allows: as with every event that is too large.
            return self._delivery.hint(provider_id)
        return publication is Publication.SENT


def _goes_on(flights: FlightLog, handed: HandedOver) -> bool:
    stream = handed.stream
    return flights.goes_on(stream.stream, stream.acknowledged_seq, handed.first, stream.next_seq)


@asynccontextmanager
async def open_pump(
    *,
    reader: OutboxReader,
    source: EventSource,
    delivery: Delivery,
    wakeups: Wakeups,
    poll_seconds: float = POLL_SECONDS,
    may_send: Callable[[], bool] = lambda: True,
    faults: FaultPoints = NO_FAULTS,
) -> AsyncIterator[OutboxPump]:
    """Give a pump that runs until the block is left."""
    pump = OutboxPump(
        reader=reader,
        source=source,
        delivery=delivery,
        wakeups=wakeups,
        monotonic=asyncio.get_running_loop().time,
        poll_seconds=poll_seconds,
        may_send=may_send,
        faults=faults,
    )
    async with asyncio.TaskGroup() as group:
        task = group.create_task(pump.run())
        try:
            yield pump
        finally:
            task.cancel()
