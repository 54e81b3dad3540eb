"""The doctor on ways that work and on ways that break at each step; real proxies where they are."""

import asyncio
import contextlib
import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from certs.identity import new_private_key, private_key_pem
from certs.profiles import Profile
from certs.tls import client_context, server_context
from provider_agent.credentials import Identity, load_identity, save_identity
from provider_agent.doctor import channel
from provider_agent.doctor.command import examine
from provider_agent.doctor.report import as_json, line_of
from provider_agent.doctor.walk import HopResult, State
from provider_agent.domain.diagnosis import Diagnosis, Fault, Hop
from service_shell.clock import SystemClock
from service_shell.secret_files import write_secret
from tests.integration import proxy_servers
from tests.integration.agent_fakes.estate import Estate, estate
from tests.integration.agent_fakes.trust import Trust
from tests.integration.proxy_servers import PASSWORD, USER
from wire_contract import paths

BEHIND_A_PROXY = {Hop.PROXY_CONNECT, Hop.PROXY_CREDENTIALS}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Estate]:
    async with estate(tmp_path) as made:
        made.register()
        yield made


def behind(site: Estate, port: int, user: str = "", password: str = "") -> None:
    section: dict[str, Any] = {"mode": "custom", "address": "127.0.0.1", "port": port}
    if user:
        file = site.folder / "proxy.password"
        write_secret(file, password.encode())
        section |= {"username": user, "password_file": file}
    site.options["proxy"] = section


def change_identity(site: Estate, **changes: Any) -> None:
    """Change what the provider has known since its registration."""
    folder = site.folder / "agent"
    known = load_identity(folder, SystemClock().now())
    facts = known.facts.model_copy(update=changes.pop("facts", {}))
    values = {"key": known.key, "chain_pem": known.chain_pem, "root_pem": known.root_pem}
    (folder / "identity").rename(folder / "identity.before")
    save_identity(folder, Identity(facts=facts, **{**values, **changes}))


async def examined(site: Estate) -> list[HopResult]:
    return [result async for result in examine(site.settings())]


async def failure(site: Estate, hop: Hop, fault: Fault) -> Diagnosis:
    """Examine; exactly this step fails, all before it pass, and none after it is tried."""
    results = await examined(site)
    assert [each.hop for each in results] == list(Hop)
    place = list(Hop).index(hop)
    lines = "\n".join(line_of(each) for each in results)
    assert results[place].state is State.FAILED, lines
    assert {each.state for each in results[:place]} <= {State.PASSED, State.SKIPPED}, lines
    assert {each.state for each in results[place + 1 :]} <= {State.NOT_REACHED}, lines
    diagnosis = results[place].diagnosis
    assert diagnosis is not None
    assert diagnosis.fault is fault, lines
    return diagnosis


async def test_a_direct_way_that_works_is_healthy_with_the_time_of_each_step(site: Estate) -> None:
    results = await examined(site)
    assert json.loads(as_json(results))["healthy"] is True
    for each in results:
        expected = State.SKIPPED if each.hop in BEHIND_A_PROXY else State.PASSED
        assert each.state is expected, line_of(each)
        assert (each.seconds > 0) is (expected is State.PASSED)
    assert results[-1].detail == "delivered over MQTT, signature verified"
    assert site.hub.sessions == []
    assert site.hub.heartbeats == []


@pytest.mark.needs("squid", "openssl")
async def test_a_way_through_squid_that_works_is_healthy(
    site: Estate, free_port: Callable[[], int]
) -> None:
    with proxy_servers.squid(free_port()) as proxy:
        behind(site, proxy.port, USER, PASSWORD)
        results = await examined(site)
        assert {each.state for each in results} == {State.PASSED}
        behind(site, proxy.port, USER, "wrong")
        found = await failure(site, Hop.PROXY_CREDENTIALS, Fault.PROXY_REFUSES_CREDENTIALS)
        assert f"refused your credentials as {USER} (407" in found.cause
        assert "DRAProxyAccount" in found.remedy
        behind(site, proxy.port)
        await failure(site, Hop.PROXY_CREDENTIALS, Fault.PROXY_WANTS_CREDENTIALS)


@pytest.mark.needs("tinyproxy")
async def test_tinyproxy_means_the_same_by_401(site: Estate, free_port: Callable[[], int]) -> None:
    with proxy_servers.tinyproxy(free_port(), "tokyo", "secret") as proxy:
        behind(site, proxy.port, "tokyo", "wrong")
        await failure(site, Hop.PROXY_CREDENTIALS, Fault.PROXY_REFUSES_CREDENTIALS)


async def test_a_name_that_nobody_knows(site: Estate) -> None:
    change_identity(site, facts={"provider_url": "https://hub.invalid:9443"})
    assert "hub.invalid:9443" in (await failure(site, Hop.DNS, Fault.NAME_UNKNOWN)).cause


async def test_a_port_where_nobody_listens(site: Estate, free_port: Callable[[], int]) -> None:
    behind(site, free_port())
    await failure(site, Hop.TCP, Fault.PORT_CLOSED)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"HTTP/1.1 403 Filtered\r\n\r\n", Fault.PROXY_DENIES),
        (b"220 mail.example ESMTP\r\n\r\n", Fault.NOT_A_PROXY),
    ],
)
async def test_a_proxy_that_gives_no_tunnel(site: Estate, answer: bytes, fault: Fault) -> None:
    async with proxy_servers.answering(answer) as port:
        behind(site, port)
        await failure(site, Hop.PROXY_CONNECT, fault)


async def test_an_intercepting_proxy_is_named_with_its_authority(site: Estate) -> None:
    async with proxy_servers.interceptor() as rogue:
        behind(site, rogue.port)
        found = await failure(site, Hop.TLS, Fault.INTERCEPTED)
        assert rogue.clear == b""
    assert f"through the proxy 127.0.0.1:{rogue.port}" in found.cause
    assert "Contoso" in found.cause


@contextlib.asynccontextmanager
async def balancer(tls: ssl.SSLContext, site: Estate) -> AsyncIterator[int]:
    """End TLS, and speak to the hub over a connection of its own."""
    upstream = client_context(site.trust.chain.root_pem)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            there = await asyncio.open_connection("127.0.0.1", site.hub.port, ssl=upstream)
            async with asyncio.TaskGroup() as group:
                group.create_task(pass_on(reader, there[1]))
                group.create_task(pass_on(there[0], writer))

    server = await asyncio.start_server(converse, "127.0.0.1", 0, ssl=tls)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()


async def test_a_balancer_that_ends_tls_with_a_foreign_certificate_is_named(site: Estate) -> None:
    async with balancer(Trust().server(), site) as port:
        change_identity(site, facts={"provider_url": f"https://127.0.0.1:{port}"})
        found = await failure(site, Hop.TLS, Fault.FOREIGN_SERVER)
    assert "load balancer" in found.cause


async def test_a_balancer_with_the_hubs_own_certificate_is_named_too(site: Estate) -> None:
    async with balancer(site.trust.server(), site) as port:
        change_identity(site, facts={"provider_url": f"https://127.0.0.1:{port}"})
        found = await failure(site, Hop.CLIENT_CERTIFICATE, Fault.CERTIFICATE_NOT_SEEN)
    assert "load balancer ends TLS" in found.cause


async def test_what_speaks_no_tls(site: Estate) -> None:
    async with proxy_servers.answering(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 2) as port:
        change_identity(site, facts={"provider_url": f"https://127.0.0.1:{port}"})
        await failure(site, Hop.TLS, Fault.NOT_TLS)


async def test_the_hubs_certificate_is_for_another_name(site: Estate) -> None:
    url = site.hub.url.replace("127.0.0.1", "localhost")
    change_identity(site, facts={"provider_url": url})
    await failure(site, Hop.TLS, Fault.WRONG_NAME)


async def test_a_certificate_of_another_hub(site: Estate) -> None:
    key, chain_pem = Trust().issue(Profile.PROVIDER_MANAGEMENT, site.hub.provider_id)
    change_identity(site, key=key, chain_pem=chain_pem)
    await failure(site, Hop.CLIENT_CERTIFICATE, Fault.CERTIFICATE_CLOSED)


async def test_a_revoked_certificate(site: Estate) -> None:
    site.hub.refuse[paths.TOKEN] = 403
    await failure(site, Hop.CLIENT_CERTIFICATE, Fault.CERTIFICATE_REFUSED)


async def test_a_hub_that_fails(site: Estate) -> None:
    site.hub.out_of_order = True
    await failure(site, Hop.CLIENT_CERTIFICATE, Fault.HUB_FAILS)


@pytest.mark.parametrize(
    ("status", "fault"), [(401, Fault.TOKEN_REFUSED), (403, Fault.NOT_REGISTERED)]
)
async def test_a_token_that_is_refused(site: Estate, status: int, fault: Fault) -> None:
    site.hub.refuse[paths.EVENTS] = status
    await failure(site, Hop.TOKEN, fault)


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_that_is_an_hour_off(site: Estate, hours: int) -> None:
    site.hub.clock_ahead = timedelta(hours=hours)
    found = await failure(site, Hop.CLOCK, Fault.CLOCK_DIFFERS)
    assert ("behind" if hours > 0 else "ahead") in found.cause


@pytest.mark.parametrize(("hours", "words"), [(1, "not yet valid"), (-24 * 91, "expired")])
async def test_a_certificate_of_another_time_names_the_clocks(
    site: Estate, hours: int, words: str
) -> None:
    """A hub that has just begun an hour ahead, and one that began three months ago."""
    key, begun = new_private_key(), datetime.now(UTC) + timedelta(hours=hours)
    issued = site.trust.chain.issue(
        Profile.HUB_SERVER, key.public_key(), "hub", begun, ip_addresses=["127.0.0.1"]
    )
    tls = server_context(issued.chain_pem, private_key_pem(key))
    async with balancer(tls, site) as port:
        change_identity(site, facts={"provider_url": f"https://127.0.0.1:{port}"})
        found = await failure(site, Hop.TLS, Fault.SERVER_CERTIFICATE_DATES)
    assert words in found.cause
    assert "synchronise both clocks (NTP)" in found.remedy


async def test_mqtt_that_is_not_reached(site: Estate) -> None:
    site.hub.mqtt.stop()
    found = await failure(site, Hop.MQTT, Fault.MQTT_UNREACHABLE)
    assert "tls: " in found.cause
    assert "websocket: " in found.cause


async def test_mqtt_that_refuses(site: Estate) -> None:
    site.hub.mqtt.refuse_connects = 10
    await failure(site, Hop.MQTT, Fault.MQTT_REFUSED)


async def test_an_event_that_never_comes(site: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "MQTT_EVENT_SECONDS_MAX", 0.1)
    monkeypatch.setattr(channel, "EVENT_SECONDS_MAX", 0.5)
    monkeypatch.setattr(channel, "PULL_WAIT_SECONDS", 0)
    site.hub.echoes_lost = True
    await failure(site, Hop.EVENT, Fault.EVENT_LOST)


async def test_an_event_that_another_signed(site: Estate) -> None:
    site.hub.signer = Trust().event_signer()
    await failure(site, Hop.EVENT, Fault.EVENT_FOREIGN)


async def test_events_are_seen_while_the_provider_runs(site: Estate) -> None:
    site.options["proxy"] = {"mode": "none"}
    async with site.agent():
        results = await examined(site)
        assert {each.state for each in results} == {State.PASSED, State.SKIPPED}


async def test_the_command_prints_each_step_and_ends_with_1(site: Estate) -> None:
    site.hub.refuse[paths.TOKEN] = 403
    settings = site.settings().model_dump(mode="json", exclude_none=True)
    file = site.folder / "agent.yaml"
    file.write_text(yaml.safe_dump(settings))
    program = "from provider_agent.cli import main; main()"
    command = (sys.executable, "-c", program, "doctor", "--config", str(file))
    for options in ((), ("--json",)):
        ended = await asyncio.to_thread(
            subprocess.run,
            (*command, *options),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 1, ended.stderr
        assert "Traceback" not in ended.stderr
        if options:
            told = json.loads(ended.stdout)
            assert told["healthy"] is False
            assert told["hops"][5]["fault"] == "certificate_refused"
            assert [each["hop"] for each in told["hops"]] == [hop.value for hop in Hop]
        else:
            assert "client certificate  failed" in ended.stdout
            assert "cause:" in ended.stdout
            assert "remedy:" in ended.stdout
