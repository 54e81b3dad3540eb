"""Receives events over MQTT 5 as soon as they exist; what is missed here is pulled."""

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

import aiomqtt
import structlog

from provider_agent.domain.proxies import DIRECT, ProxyChoice
from provider_agent.domain.retries import RECONNECT, wait_seconds
from provider_agent.domain.transports import MqttTransport, TransportChoice
from provider_agent.hub_client import HubClient
from provider_agent.hub_https import HubBusyError, HubError, HubUnreachableError
from provider_agent.intake import EventIntake, Intake
from provider_agent.routed_mqtt import RoutedMqttClient
from provider_agent.session import Session
from service_shell.clock import Clock
from wire_contract.events import Presence
from wire_contract.paths import MQTT_WEBSOCKET
from wire_contract.topics import HINT_TOPIC, event_topic, presence_topic

HTTPS_PORT: Final = 443
KEEPALIVE_SECONDS: Final = 30
ANSWER_SECONDS_MAX: Final = 15.0
FAREWELL_SECONDS_MAX: Final = 2.0
MESSAGES_QUEUED_MAX: Final = 1000
"""Beyond this, messages are dropped: a gap, which is pulled."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class MqttAddresses:
    """Where the hub's MQTT listens, by transport: host and port."""

    tls: tuple[str, int]
    websocket: tuple[str, int]

    @classmethod
    def of(cls, mqtt_host: str, mqtt_port: int, provider_url: str) -> "MqttAddresses":
        """Return the addresses; MQTT over WebSocket shares the port of the provider URL."""
        parts = urlsplit(provider_url)
        return cls((mqtt_host, mqtt_port), (parts.hostname or mqtt_host, parts.port or HTTPS_PORT))


class Subscriber:
    """One MQTT connection, made again and again; `connected` while it holds."""

    def __init__(
        self,
        hub: HubClient,
        intake: EventIntake,
        session: Session,
        clock: Clock,
        *,
        provider_id: str,
        addresses: MqttAddresses,
        transport: MqttTransport,
        tls: ssl.SSLContext,
        route: ProxyChoice = DIRECT,
    ) -> None:
        self._hub = hub
        self._intake = intake
        self._session = session
        self._clock = clock
        self._provider_id = provider_id
        self._addresses = addresses
        self._choice = TransportChoice(transport)
        self._tls = tls
        self._route = route
        self._conversation: asyncio.Timeout | None = None
        self.connected = asyncio.Event()

    def change(self, tls: ssl.SSLContext) -> None:
        """Use another certificate; a connection under the former one is left and made anew."""
        self._tls = tls
        if self._conversation is not None and not self._conversation.expired():
            self._conversation.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Connect for ever; a loss asks for a new session, since events may have been missed."""
        failures = 0
        while True:
            await self._session.connected.wait()
            retry_after = None
            try:
                await self._converse()
            except (aiomqtt.MqttError, HubError, OSError) as error:
                _end_if_cancelled()
                transport = self._choice.present.value
                if self.connected.is_set():
                    failures = 0
                    self._choice.lost()
                    self._session.renew()
                elif _is_unreachable(error) and self._choice.unreachable():
                    log.info("mqtt_over_websocket_next", cause=str(error))
                    continue
                failures += 1
                if isinstance(error, HubUnreachableError):
                    retry_after = error.retry_after
                log.warning("mqtt_lost", cause=str(error), failures=failures, transport=transport)
            finally:
                self.connected.clear()
                # The long poll takes over at once.
                self._session.events_due.set()
            chance = self._clock.jitter(0, RECONNECT.bound_seconds(failures))
            await asyncio.sleep(wait_seconds(chance, retry_after))

    async def _converse(self) -> None:
        token = await self._hub.access_token()
        client = self._client(token)
        try:
            await client.__aenter__()
        except aiomqtt.MqttCodeError as error:
            if client.retry_after is not None:
                raise HubBusyError(
                    "the hub takes no more MQTT connections at this moment", client.retry_after
                ) from error
            # A refused CONNECT: the token may have ended with the key that signed it.
            await self._hub.replace_token(token)
            raise
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_exit(client.__aexit__)
            await client.subscribe([(event_topic(self._provider_id), 1), (HINT_TOPIC, 0)])
            await self._say(client, "online", ANSWER_SECONDS_MAX)
            _end_if_cancelled()
            self.connected.set()
            # Between the last pull and the subscription events may have been published.
            self._session.events_due.set()
            log.info("mqtt_connected", transport=self._choice.present.value)
            try:
                async with asyncio.timeout(None) as self._conversation:
                    await self._listen(client)
            except (asyncio.CancelledError, TimeoutError) as error:
                # DISCONNECT suppresses the will (MQTT 5, 3.14): the farewell is said by hand.
                with contextlib.suppress(aiomqtt.MqttError):
                    await self._say(client, "offline", FAREWELL_SECONDS_MAX)
                if not isinstance(error, TimeoutError):
                    raise
                log.info("mqtt_left", cause="the certificate has changed")
            finally:
                self._conversation = None

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            topic, payload = message.topic.value, message.payload
            if topic != event_topic(self._provider_id) or not isinstance(payload, bytes):
                self._session.events_due.set()
                continue
            match await self._intake.receive_message(payload):
                case Intake.GAP:
                    self._session.events_due.set()
                case Intake.OTHER_STREAM:
                    self._session.renew()

    async def _say(
        self, client: aiomqtt.Client, state: Literal["online", "offline"], seconds_max: float
    ) -> None:
        await client.publish(
            presence_topic(self._provider_id),
            self._presence(state),
            qos=1,
            retain=True,
            timeout=seconds_max,
        )

    def _presence(self, state: Literal["online", "offline"]) -> bytes:
        presence = Presence(
            state=state, boot_id=self._session.boot_id, session=self._session.number
        )
        return presence.model_dump_json().encode()

    def _client(self, token: str) -> RoutedMqttClient:
        over_websocket = self._choice.present is MqttTransport.WEBSOCKET
        host, port = self._addresses.websocket if over_websocket else self._addresses.tls
        return RoutedMqttClient(
            host,
            port,
            self._route,
            transport="websockets" if over_websocket else "tcp",
            websocket_path=MQTT_WEBSOCKET if over_websocket else None,
            identifier=self._provider_id,
            username=self._provider_id,
            password=token,
            protocol=aiomqtt.ProtocolVersion.V5,
            will=aiomqtt.Will(
                presence_topic(self._provider_id), self._presence("offline"), qos=1, retain=True
            ),
            clean_start=True,
            keepalive=KEEPALIVE_SECONDS,
            timeout=ANSWER_SECONDS_MAX,
            max_queued_incoming_messages=MESSAGES_QUEUED_MAX,
            tls_context=self._tls,
        )


def _end_if_cancelled() -> None:
    """Raise the CancelledError that came together with an answer and was lost.

    asyncio.wait_for of Python 3.11, which aiomqtt uses, drops a cancellation in that moment
    (python/cpython#86296): an agent that stops would then wait for this task for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _is_unreachable(error: Exception) -> bool:
    """Whether no MQTT server answered at all; one that answered "no" was reached."""
    return not isinstance(error, aiomqtt.MqttCodeError | HubError)
