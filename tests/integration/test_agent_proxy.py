"""The provider behind real proxies: HTTPS and MQTT through each, and what refuses is named."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
import structlog

from certs.tls import client_context
from provider_agent.domain.proxies import Proxy, ProxyRules
from provider_agent.proxy import load_rules
from provider_agent.routed_mqtt import RoutedMqttClient
from provider_agent.tunnel import NotAProxyError, TunnelRefusedError, dial
from service_shell.secret_files import write_secret
from tests.integration import proxy_servers
from tests.integration.agent_fakes.estate import Estate, estate
from tests.integration.agent_fakes.waiting import until
from tests.integration.proxy_servers import PASSWORD, USER, RealProxy


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Estate]:
    async with estate(tmp_path) as made:
        made.vmm.add("machine-1")
        made.register()
        yield made


@pytest.fixture
def squid(free_port: Callable[[], int]) -> Iterator[RealProxy]:
    with proxy_servers.squid(free_port()) as proxy:
        yield proxy


def behind(site: Estate, port: int, password: str | None = None, **more: Any) -> None:
    """Have the provider's configuration name a proxy on this port."""
    section: dict[str, Any] = {"mode": "custom", "address": "127.0.0.1", "port": port, **more}
    if password is not None:
        file = site.folder / "proxy.password"
        write_secret(file, f"{password}\n".encode())
        section |= {"username": more.get("username", USER), "password_file": file}
    site.options["proxy"] = section


async def works_through(site: Estate, proxy: RealProxy) -> None:
    """A task arrives, is done and reported; both connections are in the proxy's log."""
    site.hub.heartbeat_seconds = 600
    async with site.agent():
        assert site.hub.mqtt.online
        site.hub.assign("shut_down", "machine-1", "job-1")
        await until(lambda: site.hub.outcome("job-1"), "the task is done")
    targets = [f"127.0.0.1:{port}" for port in (site.hub.port, site.hub.mqtt.port)]
    await until(lambda: all(proxy.asked_for(each) for each in targets), "both are in the log")


@pytest.mark.needs("squid", "openssl")
async def test_https_and_mqtt_go_through_squid_with_a_password(
    site: Estate, squid: RealProxy
) -> None:
    behind(site, squid.port, PASSWORD)
    await works_through(site, squid)


@pytest.mark.needs("tinyproxy")
@pytest.mark.parametrize("user", ["", "tokyo"])
async def test_https_and_mqtt_go_through_tinyproxy(
    site: Estate, free_port: Callable[[], int], user: str
) -> None:
    with proxy_servers.tinyproxy(free_port(), user, "secret" if user else "") as proxy:
        if user:
            behind(site, proxy.port, "secret", username=user)
        else:
            behind(site, proxy.port)
        await works_through(site, proxy)


@pytest.mark.needs("squid", "openssl")
async def test_the_environment_names_the_proxy_in_mode_system_alone(
    site: Estate, squid: RealProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In mode none the same variables change nothing, for aiohttp and paho alike."""
    user, password = "provider%40tokyo", "p%C3%A4%3Ass%20w%C3%B6rd"
    monkeypatch.setenv("HTTPS_PROXY", f"http://{user}:{password}@127.0.0.1:{squid.port}")
    monkeypatch.setenv("MQTT_PROXY", f"http://127.0.0.1:{squid.port}")
    monkeypatch.setenv("NO_PROXY", "elsewhere.example")
    site.options["proxy"] = {"mode": "none"}
    async with site.agent():
        assert site.hub.mqtt.online
    assert not squid.asked_for("CONNECT")
    site.options["proxy"] = {"mode": "system"}
    await works_through(site, squid)


async def test_what_the_bypass_list_names_is_reached_directly(
    site: Estate, free_port: Callable[[], int]
) -> None:
    behind(site, free_port(), bypass=["127.0.0.0/8"])  # nobody listens at the proxy's port
    async with site.agent():
        assert site.hub.mqtt.online


async def first_failure(site: Estate, logged: list[str], event: str) -> str:
    async with site.agent(ready=False):
        await until(lambda: any(event in line for line in logged), f"{event} is logged")
    assert site.hub.sessions == []
    return next(line for line in logged if event in line)


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []

    def note(_logger: Any, _name: str, event: structlog.types.EventDict) -> str:
        lines.append(repr(event))
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[note])
    yield lines
    structlog.configure(**before)


@pytest.mark.needs("squid", "openssl")
async def test_squid_refusing_the_password_is_named_and_the_password_is_not(
    site: Estate, squid: RealProxy, logged: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    behind(site, squid.port, "wrong-s3cret")
    with caplog.at_level(logging.DEBUG):
        said = await first_failure(site, logged, "session_failed")
    assert "refused your credentials (407)" in said
    assert USER in said
    header = ProxyRules(proxy_of(site)).proxy_for("hub.example", 443)
    assert header is not None
    secrets = {"wrong-s3cret", *(each.split()[1] for each in header.headers().values())}
    for secret in secrets:
        assert not [line for line in (*logged, *caplog.messages) if secret in line]


@pytest.mark.needs("tinyproxy")
async def test_tinyproxy_refusing_the_password_is_the_same_cause(
    site: Estate, free_port: Callable[[], int], logged: list[str]
) -> None:
    with proxy_servers.tinyproxy(free_port(), "tokyo", "secret") as proxy:
        behind(site, proxy.port, "wrong", username="tokyo")
        said = await first_failure(site, logged, "session_failed")
    assert "refused your credentials (40" in said


async def test_an_intercepting_proxy_is_recognised_and_reads_nothing(
    site: Estate, logged: list[str]
) -> None:
    async with proxy_servers.interceptor() as rogue:
        behind(site, rogue.port)
        said = await first_failure(site, logged, "session_failed")
        assert rogue.asked[0] == f"127.0.0.1:{site.hub.port}"
        assert rogue.clear == b""
    assert "TLS-intercepting proxy in between" in said
    assert "not from this hub" in said


async def test_mqtt_is_not_spoken_with_an_intercepting_proxy(site: Estate) -> None:
    tls = client_context(site.trust.chain.root_pem)
    async with proxy_servers.interceptor() as rogue:
        route = ProxyRules(Proxy("127.0.0.1", rogue.port))
        client = RoutedMqttClient("127.0.0.1", site.hub.mqtt.port, route, tls_context=tls)
        with pytest.raises(aiomqtt.MqttError, match="certificate verify failed"):
            await client.__aenter__()
        assert rogue.asked == [f"127.0.0.1:{site.hub.mqtt.port}"]
        assert rogue.clear == b""


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", r"does not connect to hub\.example:8883 \(403\)"),
        (b"HTTP/1.1 401 No\r\n\r\n", r"wants a user and a password \(401\)"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "does not answer as an HTTP proxy does"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000, "answers CONNECT without an end"),
        (b"", "closed the connection instead of answering"),
    ],
)
async def test_what_else_a_proxy_may_answer_is_named(answer: bytes, message: str) -> None:
    async with proxy_servers.answering(answer) as port:
        rules = ProxyRules(Proxy("127.0.0.1", port))
        with pytest.raises(OSError, match=message) as caught:
            (await asyncio.to_thread(dial, rules, "hub.example", 8883, 10.0)).close()
    assert isinstance(caught.value, TunnelRefusedError | NotAProxyError)


async def test_a_silent_proxy_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        rules = ProxyRules(Proxy("127.0.0.1", listener.getsockname()[1]))
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(dial, rules, "hub.example", 8883, 0.2)


def proxy_of(site: Estate) -> Proxy | None:
    return load_rules(site.settings().proxy, site.folder, {}).proxy
