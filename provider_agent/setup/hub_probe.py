"""Asks the hub for its time, as set-up and the proxy's test do before anything is installed."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from certs.tls import client_context
from provider_agent.domain.proxies import ProxyChoice
from provider_agent.hub_https import HubError, HubHttps, HubRequest
from service_shell.clock import Clock
from wire_contract import paths

PROBE_SECONDS_MAX: Final = 20.0


@dataclass(frozen=True, slots=True)
class HubPlace:
    """Where the hub is, and the only root that its certificate may come from."""

    url: str
    root_pem: str
    mqtt_host: str | None = None
    mqtt_port: int | None = None


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """`failure`: why there was no answer; `skew_seconds`: how far this clock is ahead."""

    failure: str | None
    skew_seconds: float | None


async def probe_hub(place: HubPlace, route: ProxyChoice, clock: Clock) -> ProbeResult:
    """Ask once; the hub's time is compared with the middle of the question."""
    tls = client_context(place.root_pem)
    request = HubRequest("GET", paths.PROVIDER_HEALTH, seconds=PROBE_SECONDS_MAX)
    asked_at = clock.now()
    try:
        async with HubHttps.connect(place.url, tls, route) as https:
            answer = await https.send(request)
    except HubError as error:
        return ProbeResult(str(error), None)
    middle = asked_at + (clock.now() - asked_at) / 2
    told = _time_of(answer)
    if told is None:
        return ProbeResult(f"{place.url} answers, but not as a hub does", None)
    return ProbeResult(None, (middle - told).total_seconds())


def _time_of(answer: bytes) -> datetime | None:
    try:
        told = datetime.fromisoformat(json.loads(answer)["time"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return told if told.tzinfo is not None else told.replace(tzinfo=UTC)
