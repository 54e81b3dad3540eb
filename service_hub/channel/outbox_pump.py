"""Moves stored events to the providers that are connected (design: channel, event stream).

The database is the queue. A wake makes it quick, the poll makes it certain, and a new connection
is sent again whatever its provider has not acknowledged.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import structlog

from service_hub.channel.delivery import Delivery, Publication
from service_hub.channel.flight import IN_FLIGHT_MAX, FlightLog, Hint, Step
from service_hub.channel.wakeups import Wakeups
from service_hub.domain.records import ProviderStream
from service_hub.ports import EventSource, Reader

POLL_SECONDS: Final = 2.0
PASS_SECONDS_MAX: Final = 30.0
"""Longest one look at one provider may take; it is tried again at the next poll."""

log = structlog.get_logger(__name__)


class OutboxPump:
    """Sends what is stored, unacknowledged and not in flight, in order; an Outbox (ports)."""

    def __init__(
        self,
        *,
        reader: Reader,
        source: EventSource,
        delivery: Delivery,
        wakeups: Wakeups,
        monotonic: Callable[[], float],
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._reader = reader
        self._source = source
        self._delivery = delivery
        self._wakeups = wakeups
        self._monotonic = monotonic
        self._poll_seconds = poll_seconds
        self._logs: dict[str, tuple[int, FlightLog]] = {}

    def wake(self, provider_ids: Sequence[str]) -> None:
        """Send what is there; never blocks."""
        self._wakeups.wake(provider_ids)

    async def run(self) -> None:
        """Pump until cancelled."""
        poll_at = self._monotonic()
        while True:
            woken = await self._wakeups.take(self._pause(poll_at))
            now = self._monotonic()
            due = {each for each, (_, flights) in self._logs.items() if _is_due(flights, now)}
            if now >= poll_at:
                poll_at = now + self._poll_seconds
                due |= await self._behind()
            for provider_id in sorted(woken | due):
                await self._look_at(provider_id)

    def _pause(self, poll_at: float) -> float:
        times = [flights.due_at() for _, flights in self._logs.values()]
        next_at = min([poll_at, *(each for each in times if each is not None)])
        return max(0.0, next_at - self._monotonic())

    async def _behind(self) -> set[str]:
        """Return the connected providers that have not acknowledged everything."""
        connections = self._delivery.connections()
        for gone in self._logs.keys() - connections.keys():
            del self._logs[gone]
        if not connections:
            return set()
        try:
            async with asyncio.timeout(PASS_SECONDS_MAX):
                streams = await self._reader.find(ProviderStream)
        except Exception:
            # The next poll asks again: an unreachable database must not end the delivery for ever.
            log.exception("outbox_poll_failed")
            return set()
        return {
            stream.record.id
            for stream in streams
            if stream.record.id in connections
            and stream.record.acknowledged_seq + 1 < stream.record.next_seq
        }

    async def _look_at(self, provider_id: str) -> None:
        connection = self._delivery.connected(provider_id)
        if connection is None:
            self._logs.pop(provider_id, None)
            return
        known, flights = self._logs.get(provider_id, (None, FlightLog()))
        if known != connection:
            flights = FlightLog()
        self._logs[provider_id] = (connection, flights)
        try:
            async with asyncio.timeout(PASS_SECONDS_MAX):
                await self._send(provider_id, flights)
        except Exception:
            # As in _behind: one provider's trouble must not end the delivery to the others.
            log.exception("outbox_pass_failed", provider_id=provider_id)
            del self._logs[provider_id]

    async def _send(self, provider_id: str, flights: FlightLog) -> None:
        stream = await self._reader.get(ProviderStream, provider_id)
        if stream is None:
            return
        acknowledged = stream.record.acknowledged_seq
        flights.acknowledge(stream.record.stream, acknowledged)
        if acknowledged + 1 >= stream.record.next_seq:
            flights.steps((), self._monotonic())
            return
        present, events = await self._source.signed_after(
            provider_id, acknowledged, IN_FLIGHT_MAX + 1
        )
        if present.stream != stream.record.stream:
            self.wake([provider_id])
            return
        payloads = {seq: jws.encode("ascii") for seq, jws in events}
        waiting = [(seq, len(payload)) for seq, payload in payloads.items()]
        for step in flights.steps(waiting, self._monotonic()):
            if not self._take(provider_id, step, payloads):
                flights.hold(self._monotonic())
                return
            flights.done(step, self._monotonic())

    def _take(self, provider_id: str, step: Step, payloads: dict[int, bytes]) -> bool:
        """Return whether the step was taken; if not, the rest waits for the next look."""
        if isinstance(step, Hint):
            return self._delivery.hint(provider_id)
        publication = self._delivery.publish(provider_id, payloads[step.seq])
        if publication is Publication.TOO_LARGE:
            # The peer takes less than MQTT allows: as with every event that is too large.
            return self._delivery.hint(provider_id)
        return publication is Publication.SENT


@asynccontextmanager
async def open_pump(
    *,
    reader: Reader,
    source: EventSource,
    delivery: Delivery,
    wakeups: Wakeups,
    poll_seconds: float = POLL_SECONDS,
) -> AsyncIterator[OutboxPump]:
    """Give a pump that runs until the block is left."""
    pump = OutboxPump(
        reader=reader,
        source=source,
        delivery=delivery,
        wakeups=wakeups,
        monotonic=asyncio.get_running_loop().time,
        poll_seconds=poll_seconds,
    )
    async with asyncio.TaskGroup() as group:
        task = group.create_task(pump.run())
        try:
            yield pump
        finally:
            task.cancel()


def _is_due(flights: FlightLog, now: float) -> bool:
    due_at = flights.due_at()
    return due_at is not None and now >= due_at
