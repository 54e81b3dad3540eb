"""Delivery through an external MQTT 5 broker; latency only, as with the hub's own listener.

Who is connected is known from presence topics, which a broker could forge: a hint. A revoked
provider is published nothing more; the broker is told of it by a list of revoked certificates
(service_hub.broker_keeper).
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import aiomqtt
import structlog

from service_hub.channel.delivery import Publication
from service_hub.channel.mosquitto_files import HUB_IDENTITY
from service_hub.channel.session import read_presence
from service_hub.channel.wakeups import Wakeups
from service_hub.ports.channel import PresenceSink
from wire_contract.events import Presence
from wire_contract.topics import HINT_TOPIC, event_topic, presence_topic

QUEUED_MAX: Final = 10_000
ANSWER_SECONDS_MAX: Final = 10.0
RECONNECT_SECONDS: Final = 1.0
PRESENCE_SECONDS_MAX: Final = 10.0
_EVERYBODY: Final = "+"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the broker listens."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class _Known:
    number: int
    presence: Presence


class BrokerDelivery:
    """Publishes what the pump hands over, in order; see `open_broker`."""

    def __init__(
        self, presence: PresenceSink, wakeups: Wakeups, kicked: Callable[[str], None] | None = None
    ) -> None:
        self._kicked = kicked
        self._presence = presence
        self._wakeups = wakeups
        self._queue: asyncio.Queue[tuple[str, bytes, int]] = asyncio.Queue(QUEUED_MAX)
        self._known: dict[str, _Known] = {}
        self._last_number = 0
        self.connected_to_broker = asyncio.Event()

    def connections(self) -> Mapping[str, int]:
        """Return the providers whose presence says online, and the numbers of their sessions."""
        if not self.connected_to_broker.is_set():
            return {}
        return {
            provider_id: known.number
            for provider_id, known in self._known.items()
            if known.presence.state == "online"
        }

    def connected(self, provider_id: str) -> int | None:
        """Return the number of the provider's session, or None."""
        return self.connections().get(provider_id)

    def publish(self, provider_id: str, payload: bytes) -> Publication:
        """Queue one signed event; that it was sent proves nothing."""
        if self.connected(provider_id) is None:
            return Publication.ABSENT
        if not self._put(event_topic(provider_id), payload, 1):
            return Publication.BUSY
        return Publication.SENT

    def hint(self, provider_id: str) -> bool:
        """Tell everybody to pull: a broker's hint topic is one for all."""
        return self.connected(provider_id) is not None and self._put(HINT_TOPIC, b"", 0)

    def kick(self, provider_id: str) -> None:
        """Publish nothing more for this provider until it comes again, and have it put out."""
        self._known.pop(provider_id, None)
        if self._kicked is not None:
            self._kicked(provider_id)

    async def run(self, address: BrokerAddress, tls: ssl.SSLContext) -> None:
        """Stay connected until cancelled; the pump sends again what a loss has cost."""
        while True:
            try:
                async with self._client(address, tls) as client, asyncio.TaskGroup() as group:
                    await client.subscribe(presence_topic(_EVERYBODY), qos=1)
                    self.connected_to_broker.set()
                    log.info("broker_connected", host=address.host, port=address.port)
                    group.create_task(self._send(client))
                    async for message in client.messages:
                        await self._hear(message.topic.value, message.payload)
            except* (aiomqtt.MqttError, OSError) as errors:
                log.warning("broker_lost", cause=str(errors.exceptions[0]))
            finally:
                self.connected_to_broker.clear()
                self._known.clear()
            await asyncio.sleep(RECONNECT_SECONDS)

    def _client(self, address: BrokerAddress, tls: ssl.SSLContext) -> aiomqtt.Client:
        return aiomqtt.Client(
            address.host,
            address.port,
            identifier=HUB_IDENTITY,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=True,
            timeout=ANSWER_SECONDS_MAX,
            max_queued_incoming_messages=QUEUED_MAX,
            tls_context=tls,
        )

    async def _send(self, client: aiomqtt.Client) -> None:
        while True:
            topic, payload, quality = await self._queue.get()
            await client.publish(topic, payload, qos=quality)

    async def _hear(self, topic: str, payload: object) -> None:
        provider_id = topic.split("/")[1] if topic.count("/") else ""
        presence = read_presence(payload if isinstance(payload, bytes) else None)
        if presence is None or topic != presence_topic(provider_id):
            log.warning("presence_not_usable", topic=topic[:100])
            return
        known = self._known.get(provider_id)
        if known is not None and _is_older(presence, known.presence):
            return
        self._last_number += 1
        self._known[provider_id] = _Known(self._last_number, presence)
        async with asyncio.timeout(PRESENCE_SECONDS_MAX):
            await self._presence.presence(provider_id, presence)
        if presence.state == "online":
            self._wakeups.wake([provider_id])

    def _put(self, topic: str, payload: bytes, quality: int) -> bool:
        try:
            self._queue.put_nowait((topic, payload, quality))
        except asyncio.QueueFull:
            return False
        return True


def _is_older(heard: Presence, known: Presence) -> bool:
    """Whether it is a late word of an earlier session: sessions rise over all boots."""
    return heard.session < known.session


@contextlib.asynccontextmanager
async def open_broker(
    *,
    address: BrokerAddress,
    tls: ssl.SSLContext,
    presence: PresenceSink,
    wakeups: Wakeups,
    kicked: Callable[[str], None] | None = None,
) -> AsyncIterator[BrokerDelivery]:
    """Deliver through the broker until the block is left; `kicked` puts a revoked server out."""
    delivery = BrokerDelivery(presence, wakeups, kicked)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(delivery.run(address, tls))
        try:
            yield delivery
        finally:
            task.cancel()
