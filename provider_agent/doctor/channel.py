"""The last steps of the walk: certificate, token, clock, MQTT, and an event there and back."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
import aiomqtt
from paho.mqtt.reasoncodes import ReasonCode

from certs.signing import EventVerifier, UnverifiableError
from provider_agent.credentials import Identity
from provider_agent.doctor.network import HopFailedError
from provider_agent.domain.diagnosis import (
    Fault,
    certificate_fault,
    clock_fault,
    mqtt_fault,
    token_fault,
)
from provider_agent.domain.proxies import ProxyChoice
from provider_agent.domain.transports import MqttTransport
from provider_agent.hub_client import AccessToken, HubClient
from provider_agent.hub_https import (
    HubAnswerError,
    HubError,
    HubHttps,
    HubRefusedError,
    HubRequest,
    HubUnreachableError,
)
from provider_agent.routed_mqtt import RoutedMqttClient
from provider_agent.subscriber import MqttAddresses
from service_shell.clock import Clock
from wire_contract import paths
from wire_contract.events import EventPage
from wire_contract.paths import MQTT_WEBSOCKET
from wire_contract.reports import EchoAnswer
from wire_contract.topics import event_topic

MQTT_SECONDS_MAX: Final = 10.0
MQTT_EVENT_SECONDS_MAX: Final = 3.0
EVENT_SECONDS_MAX: Final = 20.0
PULL_WAIT_SECONDS: Final = 2
NO_STREAM: Final = "doctor"
"""No stream has this name: the pull then answers at once where the present one ends."""


@dataclass
class ChannelWalk:
    """Each method is a step and returns what it found; nothing of the provider's state changes."""

    identity: Identity
    https: HubHttps
    route: ProxyChoice
    tls: ssl.SSLContext
    clock: Clock
    transport: MqttTransport
    _hub: HubClient | None = None
    _mqtt: aiomqtt.Client | None = None
    _stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    async def close(self) -> None:
        """Close what is open."""
        with contextlib.suppress(aiomqtt.MqttError):  # the running provider took its place back
            await self._stack.aclose()

    async def show_certificate(self) -> str:
        """Have the hub see this server's certificate."""
        with _judged(certificate_fault):
            await self.https.send(HubRequest("POST", paths.TOKEN))
        return f"{self.identity.facts.provider_id}, known to the hub"

    async def open_token(self) -> str:
        """Open an access token with the private key, and use it once."""
        hub = HubClient(self.https, AccessToken(self.https, self.identity.key, self.clock.now))
        try:
            await hub.access_token()
        except HubAnswerError as error:
            raise HopFailedError(Fault.TOKEN_SEALED, str(error)) from error
        except HubError as error:
            raise HopFailedError(Fault.HUB_FAILS, str(error)) from error
        with _judged(token_fault):
            page = await hub.events(NO_STREAM, 0, 0)
        self._hub = hub
        return f"opened and accepted; {len(page.events)} events wait for the provider"

    async def compare_clocks(self) -> str:
        """Compare this clock with the hub's."""
        asked_at = self.clock.now()
        with _judged(certificate_fault):
            answer = await self.https.send(HubRequest("GET", paths.PROVIDER_HEALTH))
        middle = asked_at + (self.clock.now() - asked_at) / 2
        ahead = (middle - _hub_time(answer)).total_seconds()
        words = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} the hub"
        if (fault := clock_fault(ahead)) is not None:
            raise HopFailedError(fault, words)
        return words

    async def connect_mqtt(self) -> str:
        """Connect and subscribe over the first transport that is reached."""
        transports: Sequence[MqttTransport] = (self.transport,)
        if self.transport is MqttTransport.AUTO:
            transports = (MqttTransport.TLS, MqttTransport.WEBSOCKET)
        failures: list[str] = []
        for transport in transports:
            try:
                await self._subscribe(transport)
            except aiomqtt.MqttError as error:
                if (reason := _reason_code(error)) is not None:
                    raise HopFailedError(mqtt_fault(reason), str(error)) from error
                failures.append(f"{transport.value}: {error}")
            else:
                tried = f" (not over {'; '.join(failures)})" if failures else ""
                return f"subscribed over {transport.value}{tried}"
        raise HopFailedError(mqtt_fault(None), "; ".join(failures))

    async def await_event(self) -> str:
        """Have the hub send an event without effect, and see it arrive."""
        hub = self._hub
        assert hub is not None, "the token was fetched before"
        try:
            echo = await hub.echo()
        except HubError as error:
            raise HopFailedError(Fault.EVENT_NOT_TAKEN, str(error)) from error
        try:
            async with asyncio.timeout(EVENT_SECONDS_MAX):
                return await self._by_mqtt(echo) or await self._by_pull(hub, echo)
        except TimeoutError as error:
            raise HopFailedError(
                Fault.EVENT_LOST, f"not after {EVENT_SECONDS_MAX:.0f} s, above {echo.after.seq}"
            ) from error

    async def _by_mqtt(self, echo: EchoAnswer) -> str | None:
        """Return once MQTT has delivered the event; null when it does not for a while."""
        assert self._mqtt is not None, "connected before"
        # One connection per provider: the running one may take its place back meanwhile.
        with contextlib.suppress(aiomqtt.MqttError, TimeoutError):
            async with asyncio.timeout(MQTT_EVENT_SECONDS_MAX):
                async for message in self._mqtt.messages:
                    payload = message.payload
                    text = payload.decode("ascii", "replace") if isinstance(payload, bytes) else ""
                    if self._is_echo(text, echo):
                        return "delivered over MQTT, signature verified"
        return None

    async def _by_pull(self, hub: HubClient, echo: EchoAnswer) -> str:
        """Return once the pull shows the event, or that the running provider has taken it."""
        while True:
            try:
                page = await hub.events(echo.after.stream, echo.after.seq, PULL_WAIT_SECONDS)
            except HubError as error:
                raise HopFailedError(Fault.EVENT_LOST, str(error)) from error
            if page.stream != echo.after.stream:
                raise HopFailedError(Fault.EVENT_LOST, "the hub began a new stream meanwhile")
            if any(self._is_echo(each.jws, echo) for each in page.events):
                return "pulled over HTTPS, signature verified"
            if _is_acknowledged(page, echo):
                return "taken and acknowledged by the running provider"
            await asyncio.sleep(0.05)

    def _is_echo(self, jws: str, echo: EchoAnswer) -> bool:
        try:
            payload = EventVerifier(self.identity.root_pem).verify(jws, self.clock.now())
        except UnverifiableError as error:
            raise HopFailedError(Fault.EVENT_FOREIGN, error.reason) from error
        return payload.get("id") == echo.event_id

    async def _subscribe(self, transport: MqttTransport) -> None:
        assert self._hub is not None, "the token was fetched before"
        facts = self.identity.facts
        addresses = MqttAddresses.of(facts.mqtt_host, facts.mqtt_port, facts.provider_url)
        over_websocket = transport is MqttTransport.WEBSOCKET
        host, port = addresses.websocket if over_websocket else addresses.tls
        options: dict[str, Any] = {"transport": "websockets", "websocket_path": MQTT_WEBSOCKET}
        client = RoutedMqttClient(
            host,
            port,
            self.route,
            identifier=facts.provider_id,
            username=facts.provider_id,
            password=await self._hub.access_token(),
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=True,
            timeout=MQTT_SECONDS_MAX,
            tls_context=self.tls,
            **(options if over_websocket else {}),
        )
        await self._stack.enter_async_context(client)
        await client.subscribe(event_topic(facts.provider_id), 1)
        self._mqtt = client


@contextlib.contextmanager
def _judged(fault_of: Callable[[int], Fault]) -> Iterator[None]:
    """Turn what the hub, or the way to it, did with a request into a fault."""
    try:
        yield
    except HubRefusedError as error:
        raise HopFailedError(fault_of(error.status), str(error)) from error
    except HubUnreachableError as error:
        closed = isinstance(
            error.__cause__, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError
        )
        fault = Fault.CERTIFICATE_CLOSED if closed else Fault.HUB_FAILS
        raise HopFailedError(fault, str(error)) from error
    except HubError as error:
        raise HopFailedError(Fault.HUB_FAILS, str(error)) from error


def _hub_time(answer: bytes) -> datetime:
    try:
        told = datetime.fromisoformat(json.loads(answer)["time"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise HopFailedError(Fault.HUB_FAILS, "it does not tell its time") from error
    return told if told.tzinfo is not None else told.replace(tzinfo=UTC)


def _reason_code(error: aiomqtt.MqttError) -> int | None:
    """Return why a server refused, null where none has answered."""
    reason = error.rc if isinstance(error, aiomqtt.MqttCodeError) else None
    return reason.value if isinstance(reason, ReasonCode) else None


def _is_acknowledged(page: EventPage, echo: EchoAnswer) -> bool:
    """Whether the event was there and is gone: only a receipt takes it out of the stream."""
    complete = not page.events or page.events[-1].seq == page.highest_seq
    return complete and page.highest_seq > echo.after.seq
