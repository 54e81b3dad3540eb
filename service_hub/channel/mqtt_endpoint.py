"""The hub's own MQTT 5 listener: it is the MQTT server of its providers, and no general broker.

Identity is the client certificate; there is no offline queue, since the database is the queue
(design: channel, back ends).
"""

import asyncio
import asyncio.sslproto
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from mqtt5 import DisconnectReasonCode as Disconnect

from certs.peers import PeerCertificates
from service_hub.channel.admission import Admission
from service_hub.channel.connection import Connection, Surroundings
from service_hub.channel.delivery import Publication
from service_hub.channel.limits import EndpointLimits
from service_hub.channel.registry import ConnectionRegistry
from service_hub.channel.session import End
from service_hub.channel.wakeups import Wakeups
from service_hub.ports.channel import PresenceSink

TLS_BUFFER_BYTES: Final = 16_384
"""One TLS record: what a connection needs at least under plain asyncio, which takes 256 KiB."""

log = structlog.get_logger(__name__)


class MqttEndpoint:
    """Delivery over connections of our own; see `open_endpoint`."""

    def __init__(
        self,
        registry: ConnectionRegistry[Connection],
        limits: EndpointLimits,
        new_connection: Callable[[], Connection],
    ) -> None:
        self._registry = registry
        self.limits = limits
        self.new_connection = new_connection
        """Gives the protocol of a connection that somebody else accepted (WebSocket)."""

    def stop(self) -> None:
        """Tell every provider that the hub stops, and take in nobody more; may be repeated."""
        for connection in self._registry.stop():
            # Without wills: it is the hub that goes, not the providers.
            connection.end(End("the hub stops", Disconnect.SERVER_SHUTTING_DOWN, with_will=False))

    def connections(self) -> Mapping[str, int]:
        """Return the providers that take events now, and the numbers of their connections."""
        numbers = self._registry.numbers()
        return {each: number for each, number in numbers.items() if self._takes_events(each)}

    def connected(self, provider_id: str) -> int | None:
        """Return the number of the connection that takes this provider's events, or None."""
        # One look: the pump asks this for every event.
        admitted = self._registry.numbered(provider_id)
        return (
            admitted.number if admitted is not None and admitted.connection.takes_events else None
        )

    def publish(self, provider_id: str, payload: bytes) -> Publication:
        """Send one signed event; that it was sent proves nothing."""
        connection = self._registry.admitted(provider_id)
        return Publication.ABSENT if connection is None else connection.publish(payload)

    def hint(self, provider_id: str) -> bool:
        """Tell the provider to pull; false when it cannot be told now."""
        connection = self._registry.admitted(provider_id)
        return connection is not None and connection.hint()

    def kick(self, provider_id: str) -> None:
        """End all connections with this provider's name, also those not admitted yet."""
        for connection in self._registry.all_of(provider_id):
            connection.end(End("the provider was kicked", Disconnect.ADMINISTRATIVE_ACTION))

    def _takes_events(self, provider_id: str) -> bool:
        connection = self._registry.admitted(provider_id)
        return connection is not None and connection.takes_events


@asynccontextmanager
async def open_endpoint(
    *,
    listener: socket.socket,
    tls: ssl.SSLContext,
    admission: Admission,
    presence: PresenceSink,
    wakeups: Wakeups,
    limits: EndpointLimits | None = None,
) -> AsyncIterator[MqttEndpoint]:
    """Serve MQTT on `listener` until the block is left; then every provider is told.

    `tls` must demand a client certificate of the management authority and no other.
    """
    if tls.verify_mode is not ssl.CERT_REQUIRED:
        raise ValueError("the MQTT listener's TLS context must demand client certificates")
    chosen = limits or EndpointLimits()
    loop = asyncio.get_running_loop()
    if isinstance(loop, asyncio.BaseEventLoop):
        limit_tls_buffers()
    registry: ConnectionRegistry[Connection] = ConnectionRegistry(chosen, loop.time)
    async with asyncio.TaskGroup() as group:

        def start(coroutine: Coroutine[Any, Any, None]) -> None:
            group.create_task(coroutine)

        surroundings = Surroundings(
            admission, PeerCertificates(), presence, wakeups, registry, chosen, start
        )
        endpoint = MqttEndpoint(registry, chosen, lambda: Connection(surroundings))
        server = await loop.create_server(
            endpoint.new_connection,
            sock=listener,
            ssl=tls,
            ssl_handshake_timeout=chosen.handshake_seconds,
            ssl_shutdown_timeout=chosen.close_seconds,
        )
        try:
            yield endpoint
        finally:
            server.close()
            endpoint.stop()


def limit_tls_buffers() -> None:
    """Let each TLS connection of plain asyncio take 16 KiB instead of 256 (hub only).

    Not needed under uvloop. The attribute is no public interface; a test watches that it exists.
    """
    asyncio.sslproto.SSLProtocol.max_size = TLS_BUFFER_BYTES
