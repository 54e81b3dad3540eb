"""One simulated provider: real mutual TLS, real MQTT 5, the real provider API, a light journal.

The journal is a line in a file, written before the time is taken; what a real agent adds to that
(verification, SQLite) is measured with one provider, where a machine does it for itself alone.
"""

import asyncio
import base64
import contextlib
import json
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import IO, Final

import aiohttp
import mqtt5

from benchmarks.channel.provision import HEARTBEAT_SECONDS, HOST, Credentials
from certs.tls import client_context
from service_shell.clock import SystemClock
from wire_contract import paths
from wire_contract.events import EventPage, Presence
from wire_contract.reports import (
    Heartbeat,
    HeartbeatAnswer,
    Receipt,
    ReportBatch,
    StreamPosition,
)
from wire_contract.topics import HINT_TOPIC, event_topic, presence_topic
from wire_contract.vocabulary import ReceiptKind

READ_BYTES: Final = 65_536
KEEP_ALIVE_SECONDS: Final = 120
LONG_POLL_SECONDS: Final = 25
ANSWER_SECONDS_MAX: Final = 60.0
RECONNECT_SECONDS_MAX: Final = 30.0

Deep = Callable[[bytes], Awaitable[None]]
"""Journals an event as a real agent does."""


@dataclass(slots=True)
class Simulator:
    """A provider; `journal` holds when each number was first written down."""

    credentials: Credentials
    context: ssl.SSLContext
    port: int
    url: str
    file: IO[bytes]
    deep: Deep | None = None
    drops: bool = False
    reports: bool = True
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    journal: dict[int, float] = field(default_factory=dict)
    deliveries: int = 0
    gaps: int = 0
    reconnects: int = 0
    unreported: int = 0
    _cursor: int = 0
    _writer: asyncio.StreamWriter | None = None
    _session: aiohttp.ClientSession | None = None
    _receipts: list[Receipt] = field(default_factory=list)
    _receipts_due: asyncio.Event = field(default_factory=asyncio.Event)
    _reading: tuple[asyncio.StreamReader, bytearray] | None = None

    @property
    def name(self) -> str:
        """The provider's id."""
        return self.credentials.provider_id

    # -------------------------------------------------------------------------------------- MQTT

    async def connect(self) -> float:
        """Open the MQTT connection up to its subscription; return how many seconds it took."""
        started = time.monotonic()
        reader, writer = await asyncio.open_connection(HOST, self.port, ssl=self.context)
        self._writer = writer
        writer.write(self._connect_packet().write())
        buffer = bytearray()
        self._reading = (reader, buffer)
        acknowledged = await _next_packet(reader, buffer)
        if not isinstance(acknowledged, mqtt5.ConnAckPacket) or acknowledged.reason_code != 0:
            raise ConnectionRefusedError(f"{self.name}: {acknowledged}")
        seconds = time.monotonic() - started
        topics = [mqtt5.TopicFilter(topic) for topic in (event_topic(self.name), HINT_TOPIC)]
        writer.write(mqtt5.SubscribePacket(1, topics).write())
        while not isinstance(await self._handled(reader, buffer), mqtt5.SubAckPacket):
            continue
        self.connected.set()
        return seconds

    async def listen(self) -> None:
        """Take in what comes until the connection ends."""
        assert self._reading is not None
        reader, buffer = self._reading
        try:
            while True:
                await self._handled(reader, buffer)
        except (OSError, asyncio.IncompleteReadError):
            self.connected.clear()

    async def stay(self) -> None:
        """Listen, and connect again with full jitter whenever the connection ends."""
        bound, clock = 1.0, SystemClock()
        while True:
            if self.connected.is_set():
                await self.listen()
                bound = 1.0
            await asyncio.sleep(clock.jitter(0.0, bound))
            bound = min(RECONNECT_SECONDS_MAX, bound * 2)
            try:
                await self.connect()
            except (OSError, asyncio.IncompleteReadError):
                continue  # the next turn waits longer
            self.reconnects += 1

    def ping(self) -> None:
        """Show that the connection lives."""
        if self._writer is not None and self.connected.is_set():
            self._writer.write(mqtt5.PingReqPacket().write())

    async def publish(self, topics: Sequence[str], payload: bytes) -> float:
        """Publish to each topic in one go; return when that was begun."""
        assert self._writer is not None
        started = time.monotonic()
        for number, topic in enumerate(topics, start=1):
            packet = mqtt5.PublishPacket(
                topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=number
            )
            self._writer.write(packet.write())
        await self._writer.drain()
        return started

    def disconnect(self) -> None:
        """Cut the MQTT connection."""
        self.connected.clear()
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None

    async def _handled(self, reader: asyncio.StreamReader, buffer: bytearray) -> mqtt5.Packet:
        packet = await _next_packet(reader, buffer)
        if isinstance(packet, mqtt5.PublishPacket):
            if packet.topic == event_topic(self.name) and not self.drops:
                await self.take(packet.payload)
            if packet.packet_id is not None and self._writer is not None:
                self._writer.write(mqtt5.PubAckPacket(packet.packet_id).write())
        return packet

    def _connect_packet(self) -> mqtt5.ConnectPacket:
        gone = Presence(state="offline", boot_id="bench", session=1).model_dump_json().encode()
        return mqtt5.ConnectPacket(
            client_id=self.name,
            username=self.name,
            password=self.credentials.token.encode(),
            keep_alive=KEEP_ALIVE_SECONDS,
            clean_start=True,
            will=mqtt5.Will(
                presence_topic(self.name),
                payload=gone,
                qos=mqtt5.QoS.AT_LEAST_ONCE,
                retain=True,
            ),
        )

    # ----------------------------------------------------------------------------------- journal

    async def take(self, jws: bytes) -> None:
        """Write an event down if it is the next one; the receipt follows over HTTPS."""
        self.deliveries += 1
        payload = json.loads(_unpadded(jws.split(b".")[1]))
        seq = int(payload["seq"])
        if seq <= self._cursor:
            return
        if seq > self._cursor + 1:
            self.gaps += 1
            return
        if self.deep is not None:
            await self.deep(jws)
        else:
            self.file.write(f"{self.name} {seq}\n".encode())
        self._cursor = seq
        self.journal[seq] = time.monotonic()
        receipt = Receipt(
            report_id=SystemClock().new_id(),
            stream=self.credentials.stream,
            seq=seq,
            event_id=payload["id"],
            receipt=ReceiptKind.ACCEPTED,
        )
        self._receipts.append(receipt)
        self.unreported += 1
        self._receipts_due.set()

    async def report(self) -> None:
        """Send receipts as they come, for ever."""
        while True:
            await self._receipts_due.wait()
            self._receipts_due.clear()
            told, self._receipts = self._receipts[:100], self._receipts[100:]
            if self._receipts:
                self._receipts_due.set()
            self.unreported = len(told) + len(self._receipts)
            body = ReportBatch(journal_id="bench", reports=tuple(told)).model_dump_json()
            while not await self._sent("POST", paths.REPORTS, body):  # noqa: ASYNC110 -- a retry, no flag
                await asyncio.sleep(SystemClock().jitter(0.2, 1.0))
            self.unreported = len(self._receipts)

    # ------------------------------------------------------------------------------------- HTTPS

    async def poll(self) -> None:
        """Pull by long poll, for ever."""
        while True:
            await self.pull(LONG_POLL_SECONDS)

    async def beat(self) -> None:
        """Send heartbeats at the default interval, from a random moment on; pull when behind."""
        await asyncio.sleep(SystemClock().jitter(0.0, float(HEARTBEAT_SECONDS)))
        while True:
            position = StreamPosition(stream=self.credentials.stream, seq=self._cursor)
            body = Heartbeat(boot_id="bench", last=position).model_dump_json()
            answer = await self._sent("POST", paths.HEARTBEAT, body)
            if answer and HeartbeatAnswer.model_validate_json(answer).highest.seq > self._cursor:
                await self.pull(0)
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def pull(self, wait_seconds: int) -> None:
        """Pull what follows the cursor."""
        query = f"?stream={self.credentials.stream}&after={self._cursor}&wait={wait_seconds}"
        answer = await self._sent("GET", paths.EVENTS + query)
        if not answer:
            await asyncio.sleep(SystemClock().jitter(0.1, 1.0))
            return
        for event in EventPage.model_validate_json(answer).events:
            await self.take(event.jws.encode())

    async def close(self) -> None:
        """Let go of everything."""
        self.disconnect()
        if self._session is not None:
            await self._session.close()

    async def _sent(self, method: str, path: str, body: str | None = None) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self.context, limit=2),
                headers={"Authorization": f"Bearer {self.credentials.token}"},
                timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS_MAX),
            )
        headers = {"Content-Type": "application/json"} if body is not None else {}
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):  # the caller asks again
            async with self._session.request(
                method, f"{self.url}{path}", data=body, headers=headers
            ) as response:
                return await response.read() if response.ok else b""
        return b""


def context_of(credentials: Credentials, root_pem: str, key_pem: str) -> ssl.SSLContext:
    """Return the TLS context of one provider."""
    return client_context(root_pem, chain_pem=credentials.chain_pem, key_pem=key_pem.encode())


async def _next_packet(reader: asyncio.StreamReader, buffer: bytearray) -> mqtt5.Packet:
    while True:
        if buffer:
            try:
                packet, length = mqtt5.read(memoryview(bytes(buffer)))
            except IndexError:
                pass  # the packet is not complete yet
            else:
                del buffer[:length]
                return packet
        data = await reader.read(READ_BYTES)
        if not data:
            raise ConnectionResetError("the hub closed the connection")
        buffer += data


def _unpadded(text: bytes) -> bytes:
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
