"""Ways between two hosts: by which certificates, through which proxies, how fast, how small."""

import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from certs.identity import new_private_key, private_key_pem
from certs.profiles import Profile
from certs.tls import client_context, server_context
from service_shell.clock import SystemClock
from tests.integration.proxy_servers import tinyproxy
from tests.unit.hyperv_bytes.bytes_harness import (
    BLOCK,
    ESTATE,
    NOW,
    PRIMARY_FQDN,
    REPLICA_FQDN,
    Osaka,
    client_tls,
    on_uvloop,
    osaka,
    pair,
    trust,
)
from vmm_simulator.hyperv import connection
from vmm_simulator.hyperv.backend import CutKind, PeerAddress
from vmm_simulator.hyperv.bandwidth import BandwidthWindow
from vmm_simulator.hyperv.host_client import HostClient
from vmm_simulator.hyperv.pace import Pace
from vmm_simulator.hyperv.peer_proof import CertificateProof
from vmm_simulator.hyperv.proxy_address import ProxyAddress
from vmm_simulator.hyperv.proxy_connect import ProxyRefusedError

PATH = "/replica/v1/relationships/r-1"


def issued(
    fqdn: str,
    *,
    profile: Profile = Profile.HYPERV_HOST,
    authority: str = ESTATE,
    expired: bool = False,
) -> tuple[str, bytes]:
    """Return chain and key of a certificate that is not quite a host's."""
    key = new_private_key()
    moment, lifetime = NOW, None
    if expired:
        moment, lifetime = NOW - timedelta(minutes=3), timedelta(seconds=1)
    made = trust(authority).issue(
        profile, key.public_key(), fqdn, moment, dns_names=[fqdn], lifetime=lifetime
    )
    return made.chain_pem, private_key_pem(key)


def connecting(chain: str, key: bytes) -> HostClient:
    """Return a host that shows this certificate and trusts the estate."""
    root = trust(ESTATE).root_pem
    return HostClient(lambda: client_context(root, chain_pem=chain, key_pem=key))


def listening(chain: str, key: bytes) -> ssl.SSLContext:
    """Return what a host listens with that shows this certificate and trusts the estate."""
    authorities = (trust(ESTATE).root_pem,)
    return server_context(chain, key, client_ca_pems=authorities, require_client=True)


async def refused(host: Osaka, client: HostClient) -> str:
    """Return why a host's request was refused; it must not have reached the other host."""
    try:
        status, body = await client.request(host.address, "GET", PATH)
    except (OSError, ssl.SSLError) as error:
        return f"{type(error).__name__} {error}"
    finally:
        assert not host.answers.requests
    return f"{status} {body.decode()}"


@on_uvloop
async def test_a_caller_needs_a_certificate_of_a_host_in_date_and_of_the_estate(
    tmp_path: Path,
) -> None:
    async with osaka(tmp_path) as host:
        client_only = issued(PRIMARY_FQDN, profile=Profile.PROVIDER_MANAGEMENT)
        why = await refused(host, connecting(*client_only))
        assert why.startswith("403 ")
        assert "not for server authentication" in why
        for unfit in (
            issued(PRIMARY_FQDN, profile=Profile.HUB_SERVER),
            issued(PRIMARY_FQDN, expired=True),
            issued(PRIMARY_FQDN, authority="a foreign estate"),
        ):
            # With TLS 1.3 a client learns of the refusal with its first read.
            assert not (await refused(host, connecting(*unfit))).startswith("200")
        good = connecting(*issued(PRIMARY_FQDN))
        assert (await good.request(host.address, "GET", PATH))[0] == 200


@pytest.mark.parametrize(
    ("unfit", "why"),
    [
        (lambda: issued("host9.osaka.example"), "Hostname mismatch"),
        (lambda: issued(REPLICA_FQDN, expired=True), "certificate has expired"),
        (lambda: issued(REPLICA_FQDN, authority="a foreign estate"), "unable to get local issuer"),
        (lambda: issued(REPLICA_FQDN, profile=Profile.HUB_SERVER), "not for client authentication"),
    ],
)
def test_a_host_that_is_called_needs_one_too(
    tmp_path: Path, unfit: Callable[[], tuple[str, bytes]], why: str
) -> None:
    @on_uvloop
    async def call() -> None:
        tls = listening(*unfit())
        async with osaka(tmp_path, tls=tls) as host:
            assert why in await refused(host, connecting(*issued(PRIMARY_FQDN)))

    call()


@asynccontextmanager
async def through(
    folder: Path, proxy: ProxyAddress | None
) -> AsyncIterator[tuple[HostClient, PeerAddress]]:
    """Run a host and a client with a proxy of its own."""
    async with osaka(folder) as host:
        client = HostClient(lambda: client_tls(PRIMARY_FQDN), proxy=lambda: proxy)
        yield client, host.address


@pytest.mark.needs("tinyproxy")
def test_a_hosts_proxy_is_used_unless_the_policy_goes_past_it(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    with tinyproxy(free_port()) as proxy:

        @on_uvloop
        async def call() -> None:
            way = ProxyAddress(address="127.0.0.1", port=proxy.port)
            async with through(tmp_path, way) as (client, address):
                # Asked for by name, as a proxy's rules want it; here its own name is loopback's.
                local = replace(address, fqdn="localhost")
                past = replace(address, bypass_proxy=True)
                assert (await client.request(past, "GET", PATH))[0] == 200
                assert not proxy.asked_for(f"{REPLICA_FQDN}:{address.port}")
                with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
                    await client.request(local, "GET", PATH)
                assert proxy.asked_for(f"localhost:{address.port}")

        call()


@pytest.mark.needs("tinyproxy")
def test_bytes_go_through_a_proxy(tmp_path: Path, free_port: Callable[[], int]) -> None:
    with tinyproxy(free_port()) as proxy:

        @on_uvloop
        async def replicate() -> None:
            async with pair(tmp_path) as both:
                name = "localhost"
                chain, key = issued(name)
                both.osaka.listener.replace_proof(CertificateProof(listening(chain, key)))
                both.osaka.address = replace(both.osaka.address, fqdn=name)
                way = ProxyAddress(address="127.0.0.1", port=proxy.port)
                both.tokyo._client = HostClient(lambda: client_tls(PRIMARY_FQDN), proxy=lambda: way)
                both.write(0, 5 * BLOCK, b"a" * BLOCK)
                await both.replicate(CutKind.FULL, 1)
                both.write(0, 6 * BLOCK, b"b" * 100)
                await both.replicate(CutKind.DELTA, 2)
                assert both.equal()

        replicate()


@pytest.mark.needs("tinyproxy")
def test_a_proxy_that_refuses_is_named_with_a_way_out(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    with tinyproxy(free_port(), "host", "secret") as proxy:

        @on_uvloop
        async def call() -> None:
            way = ProxyAddress(address="127.0.0.1", port=proxy.port)
            async with through(tmp_path, way) as (client, address):
                with pytest.raises(ProxyRefusedError, match="with 407: allow it there, or"):
                    await client.request(address, "GET", PATH)

        call()


@on_uvloop
async def test_what_a_host_sends_keeps_to_its_limit(tmp_path: Path) -> None:
    windows = [BandwidthWindow(bytes_per_second=200_000)]
    async with pair(tmp_path) as both:
        both.tokyo._client = HostClient(
            lambda: client_tls(PRIMARY_FQDN), pace=Pace(lambda: windows, SystemClock().now)
        )
        both.write(0, 0, b"ab" * 2 * BLOCK)
        began = time.monotonic()
        await both.replicate(CutKind.FULL, 1)
        # 262144 bytes, of which a quarter of a second's worth may go at once.
        assert time.monotonic() - began > (262_144 - 50_000) / 200_000 * 0.99
        windows.clear()
        both.write(0, 0, b"cd" * 2 * BLOCK)
        await both.replicate(CutKind.DELTA, 2)
        assert both.equal()


@on_uvloop
async def test_a_compressed_change_set_is_smaller_and_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = 0
    write = connection.Connection.write

    async def counted(self: connection.Connection, *parts: bytes | memoryview) -> None:
        nonlocal sent
        sent += sum(len(part) for part in parts)
        await write(self, *parts)

    monkeypatch.setattr(connection.Connection, "write", counted)
    async with pair(tmp_path) as both:
        for number, compression in enumerate((False, True), start=1):
            both.osaka.address = replace(both.osaka.address, compression=compression)
            both.write(0, 0, b"text of a database page " * 20_000)
            both.write(1, BLOCK, b"x" * BLOCK + bytes(BLOCK))
            before = sent
            await both.replicate(CutKind.FULL if number == 1 else CutKind.DELTA, number)
            assert both.equal()
            if compression:
                assert sent - before < 60_000
            else:
                assert sent - before > 500_000


@on_uvloop
async def test_a_compressed_whole_copy_is_the_same(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        both.osaka.address = replace(both.osaka.address, compression=True)
        # Longer than what is written around the page cache, unpacked as it is.
        both.write(0, 0, b"text of a database page." * (8 * BLOCK // 24))
        await both.replicate(CutKind.FULL, 1)
        assert both.equal()
