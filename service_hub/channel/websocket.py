"""MQTT over WebSocket: the same connection logic behind the HTTPS port (MQTT 5.0, chapter 6).

For sites whose firewall or proxy lets port 443 alone through. The client certificate is that of the
HTTPS connection below; who may do what is decided where it is for raw TLS.
"""

import asyncio
from collections import deque
from typing import Any, Final

from aiohttp import WSMessage, WSMsgType, web

from service_hub.channel.connection import Connection
from service_hub.channel.mqtt_endpoint import MqttEndpoint
from service_hub.domain.errors import InvalidRequestError
from wire_contract.paths import MQTT_SUBPROTOCOL

FRAME_BYTES_MAX: Final = 65_536
"""Largest message of a peer; packets may lie across messages, so their own bound holds too."""

_LOW_WATER_PARTS: Final = 4


class WebSocketTransport(asyncio.Transport):
    """What `Connection` knows of a transport, over one WebSocket; `run` owns its reads and writes.

    Writes are queued and sent in order; above the high water mark the protocol is told to pause.
    """

    def __init__(self, socket: web.WebSocketResponse, below: asyncio.BaseTransport) -> None:
        super().__init__()
        self._socket = socket
        self._below = below
        self._outgoing: deque[bytes] = deque()
        self._outgoing_bytes = 0
        self._high = FRAME_BYTES_MAX
        self._has_work = asyncio.Event()
        self._readable = asyncio.Event()
        self._readable.set()
        self._is_closing = False
        self._is_paused = False
        self._protocol: Connection

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the TLS connection below knows."""
        return self._below.get_extra_info(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the high water mark; the low one follows from it."""
        del low
        self._high = FRAME_BYTES_MAX if high is None else high

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queue bytes for one binary message."""
        if self._is_closing:
            return
        self._outgoing.append(bytes(data))
        self._outgoing_bytes += len(data)
        self._has_work.set()
        if self._outgoing_bytes > self._high and not self._is_paused:
            self._is_paused = True
            self._protocol.pause_writing()

    def is_closing(self) -> bool:
        """Whether nothing more will be sent."""
        return self._is_closing

    def close(self) -> None:
        """End the WebSocket when everything queued is written."""
        self._is_closing = True
        self._has_work.set()
        self._readable.set()

    def abort(self) -> None:
        """Drop the connection now."""
        self._is_closing = True
        self._outgoing.clear()
        self._has_work.set()
        self._readable.set()
        if isinstance(self._below, asyncio.WriteTransport):
            self._below.abort()

    def pause_reading(self) -> None:
        """Take no further message."""
        self._readable.clear()

    def resume_reading(self) -> None:
        """Take messages again."""
        self._readable.set()

    async def run(self, protocol: Connection) -> None:
        """Serve `protocol` until the WebSocket has ended."""
        self._protocol = protocol
        protocol.connection_made(self)
        async with asyncio.TaskGroup() as group:
            sender = group.create_task(self._send())
            try:
                await self._receive()
                if self._is_closing:
                    # What the protocol said last is still to be sent; its own timer bounds this.
                    await sender
            finally:
                sender.cancel()
                self._is_closing = True
                protocol.connection_lost(None)

    async def _receive(self) -> None:
        while True:
            await self._readable.wait()
            if self._is_closing:
                break
            message: WSMessage = await self._socket.receive()
            if message.type is not WSMsgType.BINARY:
                # MQTT 5.0, 6.0.0-1: a frame that is not binary ends the connection; so do CLOSE,
                # CLOSED and ERROR.
                break
            self._protocol.data_received(message.data)

    async def _send(self) -> None:
        try:
            while not (self._is_closing and not self._outgoing):
                self._has_work.clear()
                await self._send_queued()
                if not self._is_closing:
                    await self._has_work.wait()
            await self._socket.close()
        except ConnectionError:
            # The peer is gone; the receiving side sees the end and says so.
            self._is_closing = True

    async def _send_queued(self) -> None:
        while self._outgoing:
            data = self._outgoing.popleft()
            await self._socket.send_bytes(data)
            self._outgoing_bytes = sum(map(len, self._outgoing))
            if self._is_paused and self._outgoing_bytes <= self._high // _LOW_WATER_PARTS:
                self._is_paused = False
                self._protocol.resume_writing()


class WebSocketDoor:
    """Lets MQTT in on the provider HTTPS port."""

    def __init__(self, endpoint: MqttEndpoint) -> None:
        self._endpoint = endpoint

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Serve one WebSocket until it ends; InvalidRequestError when it is no MQTT."""
        below = request.transport
        offered = request.headers.get("Sec-WebSocket-Protocol", "")
        if below is None or MQTT_SUBPROTOCOL not in {each.strip() for each in offered.split(",")}:
            raise InvalidRequestError(
                f"the WebSocket subprotocol {MQTT_SUBPROTOCOL} is needed", "Sec-WebSocket-Protocol"
            )
        socket = web.WebSocketResponse(
            protocols=(MQTT_SUBPROTOCOL,),
            timeout=self._endpoint.limits.close_seconds,
            max_msg_size=FRAME_BYTES_MAX,
            compress=False,
        )
        await socket.prepare(request)
        await WebSocketTransport(socket, below).run(self._endpoint.new_connection())
        return socket
