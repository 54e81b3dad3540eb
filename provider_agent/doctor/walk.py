"""The whole walk: one step after the other, each with its time, up to the first that fails."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from certs.tls import TlsMaterialError, client_context
from provider_agent.credentials import Identity
from provider_agent.doctor.channel import ChannelWalk
from provider_agent.doctor.network import HopFailedError, NetworkWalk
from provider_agent.domain.diagnosis import Diagnosis, Hop, Way, diagnose
from provider_agent.domain.proxies import ProxyChoice
from provider_agent.domain.transports import MqttTransport
from provider_agent.hub_https import HTTPS_PORT, HubHttps
from service_shell.clock import Clock
from service_shell.errors import ProgramError

STEP_SECONDS_MAX: Final = 60.0
"""A bound over each step's own."""


class State(StrEnum):
    """How a step ended."""

    PASSED = "passed"
    SKIPPED = "skipped"
    FAILED = "failed"
    NOT_REACHED = "not reached"


@dataclass(frozen=True, slots=True)
class HopResult:
    """One line of the report."""

    hop: Hop
    state: State
    seconds: float = 0.0
    detail: str = ""
    diagnosis: Diagnosis | None = None


Step = Callable[[], Awaitable[str]]


async def walk(
    identity: Identity, route: ProxyChoice, clock: Clock, transport: MqttTransport
) -> AsyncIterator[HopResult]:
    """Give the result of every step, in order; after a failure the others are not reached."""
    async with contextlib.AsyncExitStack() as stack:
        way, steps = await _prepare(stack, identity, route, clock, transport)
        failed = False
        for hop, step in steps:
            if failed:
                yield HopResult(hop, State.NOT_REACHED)
                continue
            result = await _take(hop, step, way)
            failed = result.state is State.FAILED
            yield result


async def _prepare(
    stack: contextlib.AsyncExitStack,
    identity: Identity,
    route: ProxyChoice,
    clock: Clock,
    transport: MqttTransport,
) -> tuple[Way, tuple[tuple[Hop, Step | None], ...]]:
    url = identity.facts.provider_url
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or HTTPS_PORT
    proxy = route.proxy_for(host, port)
    hub = f"{host}:{port}"
    way = Way(hub=hub, next_hop=str(proxy) if proxy is not None else hub, proxy=proxy)
    try:
        bare = client_context(identity.root_pem)
        tls = client_context(
            identity.root_pem, chain_pem=identity.chain_pem, key_pem=identity.key_pem
        )
    except TlsMaterialError as error:
        raise ProgramError(f"the identity is damaged: {error}; register again") from error
    network = NetworkWalk(host, port, proxy, bare, way)
    stack.callback(network.close)
    https = await stack.enter_async_context(HubHttps.connect(url, tls, route))
    channel = ChannelWalk(identity, https, route, tls, clock, transport)
    stack.push_async_callback(channel.close)
    return way, (
        (Hop.DNS, _threaded(network.resolve)),
        (Hop.TCP, _threaded(network.connect)),
        (Hop.PROXY_CONNECT, _threaded(network.ask_proxy) if proxy else None),
        (Hop.PROXY_CREDENTIALS, _threaded(network.check_credentials) if proxy else None),
        (Hop.TLS, _threaded(network.shake_hands)),
        (Hop.CLIENT_CERTIFICATE, channel.show_certificate),
        (Hop.TOKEN, channel.open_token),
        (Hop.CLOCK, channel.compare_clocks),
        (Hop.MQTT, channel.connect_mqtt),
        (Hop.EVENT, channel.await_event),
    )


def _threaded(step: Callable[[], str]) -> Step:
    return lambda: asyncio.to_thread(step)


async def _take(hop: Hop, step: Step | None, way: Way) -> HopResult:
    if step is None:
        return HopResult(hop, State.SKIPPED, detail="there is no proxy on this way")
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(STEP_SECONDS_MAX):
            detail = await step()
    except HopFailedError as error:
        found = diagnose(error.fault, error.detail, way)
        return HopResult(hop, State.FAILED, loop.time() - began, error.detail, found)
    return HopResult(hop, State.PASSED, loop.time() - began, detail)
