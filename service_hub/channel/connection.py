"""One TLS connection of the hub's MQTT listener: bytes, timers and the order of things.

What a packet means is decided in `session`, who is admitted in `admission`.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, cast

import mqtt5
import structlog
from mqtt5 import DisconnectReasonCode as Disconnect

from certs.peers import PeerCertificate, PeerCertificates
from service_hub.channel.admission import Admission
from service_hub.channel.delivery import Publication
from service_hub.channel.limits import EndpointLimits
from service_hub.channel.packets import MalformedPacketError, PacketReader, PacketTooLargeError
from service_hub.channel.registry import ConnectionRegistry, Peer
from service_hub.channel.session import End, Outcome, ProviderSession, Reply
from service_hub.channel.wakeups import Wakeups
from service_hub.ports.channel import PresenceSink
from wire_contract.events import Presence
from wire_contract.topics import RETRY_AFTER

PRESENCE_SECONDS_MAX: Final = 10.0
EXPIRY_LOOK_SECONDS_MAX: Final = 600.0
"""How often a connection's certificate is looked at, at least."""

BUSY_SECONDS: Final = 1.0
"""When to look again whether a peer is silent whose last words the hub is still busy with."""

RECEIVE_MAX: Final = 16
"""Presences that a provider may publish without waiting for the acknowledgement."""

Written = Reply | mqtt5.ConnAckPacket | mqtt5.PublishPacket | mqtt5.DisconnectPacket

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every connection of one listener works with; `start` owns its task."""

    admission: Admission
    peers: PeerCertificates
    presence: PresenceSink
    wakeups: Wakeups
    registry: ConnectionRegistry["Connection"]
    limits: EndpointLimits
    start: Callable[[Coroutine[Any, Any, None]], None]


class Connection(asyncio.Protocol):
    """From the end of the TLS handshake to the end of the connection.

    Packets are handled one after the other; while one is, the peer can send no more than fits the
    buffers. `gone` is set when the transport is.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        self._around = surroundings
        self._limits = surroundings.limits
        self._loop = asyncio.get_running_loop()
        self._reader = PacketReader(self._limits.packet_bytes)
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._gone = asyncio.Event()
        self._is_paused = False
        self._is_waiting = False
        self._heard_at = 0.0
        self._stall: asyncio.TimerHandle | None = None
        self._closing: asyncio.TimerHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._silence: asyncio.TimerHandle | None = None
        self._silence_seconds_max = 0.0
        self._session: ProviderSession | None = None
        self._end: End | None = None
        self._transport: asyncio.Transport
        self._certificate: PeerCertificate
        self._provider_id = ""

    # ------------------------------------------------------------------------ what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection in; the handshake is done and the certificate verified."""
        self._transport = cast("asyncio.Transport", transport)
        certificate = self._around.peers.of(transport)
        if certificate is None:
            # The context demands one: a plain connection is a mistake in the composition.
            log.error("mqtt_connection_refused", cause="the connection has no certificate")
            self._transport.abort()
            return
        self._certificate = certificate
        self._provider_id = certificate.common_name
        self._transport.set_write_buffer_limits(high=self._limits.write_buffer_bytes)
        peer = Peer(self._provider_id, certificate.thumbprint)
        refusal = self._around.registry.open(peer, self)
        if refusal is not None:
            log.warning("mqtt_connection_refused", provider_id=self._provider_id, cause=refusal)
            self._transport.abort()
            return
        self._around.start(self._run())

    def data_received(self, data: bytes) -> None:
        """Buffer what came; pause when more than a packet waits to be handled."""
        self._reader.feed(data)
        if self._is_waiting and self._session is not None:
            self._take_acknowledgements(self._session)
            if self._reader.is_empty:
                return
        if self._reader.is_full and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._arrived.set()

    def _take_acknowledgements(self, session: ProviderSession) -> None:
        """Note them without waking the task: after a fan-out there are thousands at once."""
        while (number := self._reader.next_short_acknowledgement()) is not None:
            session.acknowledged(number)
            self._heard_at = self._loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end; the task sees it when it has handled what had arrived."""
        del exc  # the peer is gone whatever the reason; the log says what was going on
        for timer in (self._stall, self._closing, self._expiry, self._silence):
            if timer is not None:
                timer.cancel()
        self._around.registry.close(self)
        self._gone.set()
        self._arrived.set()
        self._writable.set()

    def pause_writing(self) -> None:
        """Publish nothing more; drop the peer when this lasts."""
        self._writable.clear()
        self._stall = self._loop.call_later(self._limits.write_stalled_seconds, self._drop_stalled)

    def resume_writing(self) -> None:
        """Go on; the peer takes again."""
        if self._stall is not None:
            self._stall.cancel()
        self._writable.set()

    # --------------------------------------------------------------------- what the endpoint calls

    @property
    def takes_events(self) -> bool:
        """Whether events would reach the provider now."""
        return self._end is None and self._session is not None and self._session.takes_events

    def publish(self, payload: bytes) -> Publication:
        """Send a signed event if the peer can take it now."""
        if self._end is not None or self._session is None:
            return Publication.ABSENT
        if not self._writable.is_set():
            return Publication.BUSY
        packet = self._session.event(payload)
        if isinstance(packet, Publication):
            return packet
        self._write(packet)
        return Publication.SENT

    def hint(self) -> bool:
        """Tell the provider to pull if it can take that now."""
        if self._end is not None or self._session is None or not self._writable.is_set():
            return False
        packet = self._session.hint()
        if packet is not None:
            self._write(packet)
        return packet is not None

    def end(self, end: End) -> None:
        """End the connection now; what comes first counts."""
        if self._end is not None or self._gone.is_set():
            return
        if end.reason is not None and self._session is not None:
            self._write(mqtt5.DisconnectPacket(reason_code=end.reason))
        self._end = end
        self._transport.close()
        # close() waits until all is written: a peer that reads nothing would stay for ever.
        self._closing = self._loop.call_later(self._limits.close_seconds, self._transport.abort)
        self._arrived.set()
        self._writable.set()

    # ------------------------------------------------------------------------------------ the task

    async def _run(self) -> None:
        end = End("the hub failed", None)
        try:
            end = await self._converse()
            self.end(end)
        except Exception:
            # The edge of this connection: its trouble must not end those of other providers.
            log.exception("mqtt_connection_failed", provider_id=self._provider_id)
            self._transport.abort()
        await self._gone.wait()
        # What the endpoint said (kick, takeover) came first, whatever the peer did meanwhile.
        end = self._end or end
        if self._session is None:
            log.info("mqtt_closed", provider_id=self._provider_id, cause=end.words)
            return
        log.info("mqtt_disconnected", provider_id=self._provider_id, cause=end.words)
        if end.with_will and self._session.will is not None:
            await self._note(self._session.will)

    async def _converse(self) -> End:
        try:
            try:
                async with asyncio.timeout(self._limits.connect_seconds):
                    connect = await self._admitted_connect()
            except TimeoutError:
                return End("no CONNECT was admitted in time", None)
            if isinstance(connect, End):
                return connect
            return await self._serve(self._open_session(connect))
        except PacketTooLargeError as error:
            return self._malformed(error, Disconnect.PACKET_TOO_LARGE)
        except MalformedPacketError as error:
            return self._malformed(error, Disconnect.MALFORMED_PACKET)

    async def _admitted_connect(self) -> mqtt5.ConnectPacket | End:
        packet = await self._next_packet()
        if isinstance(packet, End):
            return packet
        if not isinstance(packet, mqtt5.ConnectPacket):
            raise MalformedPacketError(f"the first packet is {type(packet).__name__}, not CONNECT")
        refusal = await self._around.admission.check(self._certificate, packet)
        if self._end is not None or self._gone.is_set():
            return End("the connection ended while it was checked", None)
        if refusal is None:
            return packet
        log.warning(
            "mqtt_connection_refused",
            provider_id=self._provider_id,
            reason=refusal.reason.name.lower(),
            cause=refusal.words,
        )
        properties = (
            [] if refusal.retry_after is None else [(RETRY_AFTER, str(refusal.retry_after))]
        )
        self._write(
            mqtt5.ConnAckPacket(
                reason_code=refusal.reason,
                reason_str=refusal.words,
                user_properties=properties,
            )
        )
        return End(refusal.words, None)

    def _open_session(self, connect: mqtt5.ConnectPacket) -> ProviderSession:
        replaced = self._around.registry.admit(self)
        if replaced is not None:
            # Without its will: the provider has not gone, it has come again.
            replaced.end(
                End("the provider connected anew", Disconnect.SESSION_TAKEN_OVER, with_will=False)
            )
        session = self._session = ProviderSession(self._provider_id, connect)
        keep_alive = self._keep_alive(connect)
        self._write(
            mqtt5.ConnAckPacket(
                session_expiry_interval=0,
                server_keep_alive=None if keep_alive == connect.keep_alive else keep_alive,
                receive_max=RECEIVE_MAX,
                max_qos=mqtt5.QoS.AT_LEAST_ONCE,
                max_packet_size=self._limits.packet_bytes,
                wildcard_subscription_available=False,
                subscription_id_available=False,
                shared_subscription_available=False,
            )
        )
        log.info("mqtt_connected", provider_id=self._provider_id)
        self._look_at_expiry()
        self._silence_seconds_max = keep_alive * self._limits.keep_alive_factor
        self._heard_at = self._loop.time()
        self._listen_until(self._heard_at + self._silence_seconds_max)
        return session

    def _keep_alive(self, connect: mqtt5.ConnectPacket) -> int:
        longest = self._limits.keep_alive_seconds
        return min(connect.keep_alive, longest) if connect.keep_alive else longest

    async def _serve(self, session: ProviderSession) -> End:
        while True:
            packet = await self._next_packet()
            self._heard_at = self._loop.time()
            if isinstance(packet, End):
                return packet
            end = await self._act_on(session.handle(packet))
            if end is not None:
                return end
            # Who does not read its answers gets no further ones; the stall timer bounds this.
            await self._writable.wait()

    async def _act_on(self, outcome: Outcome) -> End | None:
        if outcome.refused is not None:
            log.warning("mqtt_packet_refused", provider_id=self._provider_id, cause=outcome.refused)
        if outcome.presence is not None and not await self._note(outcome.presence):
            return End("the presence could not be noted", Disconnect.UNSPECIFIED_ERROR)
        for reply in outcome.replies:
            self._write(reply)
        if outcome.takes_events:
            self._around.wakeups.wake([self._provider_id])
        return outcome.end

    async def _next_packet(self) -> mqtt5.Packet | End:
        """Return the next packet, or how the connection ended; what had arrived comes first."""
        while self._end is None:
            packet = self._reader.next_packet()
            if packet is not None:
                return packet
            if self._gone.is_set():
                return End("the connection was lost", None)
            self._arrived.clear()
            if self._is_paused:
                self._is_paused = False
                self._transport.resume_reading()
            self._is_waiting = True
            try:
                await self._arrived.wait()
            finally:
                self._is_waiting = False
        return self._end

    async def _note(self, presence: Presence) -> bool:
        try:
            async with asyncio.timeout(PRESENCE_SECONDS_MAX):
                await self._around.presence.presence(self._provider_id, presence)
        except Exception:
            # Presence is a hint: that it was lost must not hide how the connection ended.
            log.exception("mqtt_presence_failed", provider_id=self._provider_id)
            return False
        return True

    def _malformed(self, error: MalformedPacketError, reason: Disconnect) -> End:
        log.warning("mqtt_packet_malformed", provider_id=self._provider_id, cause=str(error))
        self._around.registry.hold_off(self)
        return End(str(error), reason)

    def _look_at_expiry(self) -> None:
        """End with the certificate: TLS looks at it once, and a connection may last for months."""
        left = self._around.admission.seconds_left(self._certificate)
        if left <= 0:
            self.end(End("the certificate has expired", Disconnect.NOT_AUTHORIZED))
            return
        # Looked at again and again: the clock may be set meanwhile.
        self._expiry = self._loop.call_later(
            min(left, EXPIRY_LOOK_SECONDS_MAX), self._look_at_expiry
        )

    def _listen_until(self, moment: float) -> None:
        self._silence = self._loop.call_at(moment, self._look_at_silence)

    def _look_at_silence(self) -> None:
        """End when nothing was heard for too long; one timer, whatever is heard meanwhile."""
        now, silent_at = self._loop.time(), self._heard_at + self._silence_seconds_max
        if now < silent_at:
            self._listen_until(silent_at)
        elif not self._is_waiting:
            # The hub has not yet taken what the peer may have said: that is no silence.
            self._listen_until(now + BUSY_SECONDS)
        else:
            self.end(End("nothing was heard for too long", Disconnect.KEEP_ALIVE_TIMEOUT))

    def _drop_stalled(self) -> None:
        log.warning("mqtt_peer_too_slow", provider_id=self._provider_id)
        if self._end is None:
            self._end = End("the peer took nothing for too long", None)
        self._transport.abort()

    def _write(self, packet: Written) -> None:
        if not self._transport.is_closing():
            self._transport.write(packet.write())
