"""The replication port against strangers, damaged bytes and hostile HTTP."""

import asyncio
import json
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.hyperv_bytes.bytes_harness import (
    BLOCK,
    MACHINE,
    NOW,
    PRIMARY_FQDN,
    REPLICA_FQDN,
    SIZES,
    client_tls,
    on_uvloop,
    osaka,
    pair,
    server_tls,
)
from tests.unit.hyperv_bytes.bytes_wire import (
    DELTA,
    FULL,
    OTHER_FQDN,
    disk_bytes,
    exchange,
    put,
    replica,
    send_frames,
)
from tests.unit.hyperv_bytes.test_bytes_frames import PAGE, ended, stream
from vmm_simulator.hyperv import replica_listener
from vmm_simulator.hyperv.backend import (
    CutKind,
    TransferRefusedError,
)
from vmm_simulator.hyperv.host_client import HostClient
from vmm_simulator.hyperv.peer_proof import CertificateProof
from vmm_simulator.problems import Code


@on_uvloop
async def test_a_transfer_with_a_length_is_taken_too(tmp_path: Path) -> None:
    async with replica(tmp_path) as host:
        status, body = await send_frames(host.address, DELTA, ended((1, 0, PAGE)))
        assert (status, json.loads(body)["cut"]) == (200, 2)
        await host.backend.apply_committed(MACHINE)
        assert disk_bytes(tmp_path)[1].startswith(PAGE)
        assert [cut.cut for _, cut in host.answers.applied] == [1, 2]


@on_uvloop
async def test_a_damaged_transfer_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    good = ended((0, 0, PAGE), (0, BLOCK, BLOCK), (1, 0, PAGE))
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 4
    damaged = [
        bytes(flipped),
        good[:-1],
        stream((0, 0, PAGE)),
        good + b"more",
        good + good,
        b"",
        b"garbage" * 1000,
        ended((2, 0, PAGE)),
        ended((0, SIZES[0], PAGE)),
    ]
    async with replica(tmp_path) as host:
        before = disk_bytes(tmp_path)
        for frames in damaged:
            status, body = await send_frames(host.address, DELTA, frames)
            assert status == 400, frames[:40]
            assert json.loads(body)["code"] == Code.INVALID_PARAMETER
            assert not list((tmp_path / "osaka" / MACHINE).glob("*.tmp"))
        await host.backend.apply_committed(MACHINE)
        assert disk_bytes(tmp_path) == before
        assert (host.backend.applied_cut(MACHINE) or FULL).cut == 1
        assert (await send_frames(host.address, DELTA, good))[0] == 200


@on_uvloop
async def test_a_transfer_that_breaks_off_changes_nothing(tmp_path: Path) -> None:
    good = ended((0, 0, PAGE))
    async with replica(tmp_path) as host:
        before = disk_bytes(tmp_path)
        head = put(DELTA, f"Content-Length: {len(good)}\r\n")
        await exchange(host.address, head + good[:-5], close=True)
        # One that falls silent is ended by the port itself.
        patient, host.listener._idle_seconds = host.listener._idle_seconds, 0.1
        status, _ = await send_frames(host.address, DELTA, good[:-5], claimed=len(good))
        host.listener._idle_seconds = patient
        assert status in {0, 503}
        assert disk_bytes(tmp_path) == before
        assert (await send_frames(host.address, DELTA, good))[0] == 200


@on_uvloop
async def test_a_full_copy_that_breaks_off_leaves_the_replica_incomplete(tmp_path: Path) -> None:
    async with replica(tmp_path) as host:
        again = replace(FULL, transfer_id="t-9", cut=9)
        status, _ = await send_frames(host.address, again, stream((0, 0, PAGE)))
        assert status == 400
        assert host.backend.applied_cut(MACHINE) is None
        status, body = await send_frames(host.address, replace(DELTA, cut=10), ended())
        assert (status, json.loads(body)["code"]) == (409, Code.RESYNCHRONIZATION_REQUIRED)
        assert (await send_frames(host.address, again, ended((0, 4096, PAGE))))[0] == 200
        assert disk_bytes(tmp_path)[0] == bytes(4096) + PAGE + bytes(SIZES[0] - 8192)


@pytest.mark.parametrize("who", ["no certificate", "foreign authority"])
@on_uvloop
async def test_strangers_are_not_let_in(tmp_path: Path, who: str) -> None:
    foreign = who == "foreign authority"
    tls = client_tls(PRIMARY_FQDN, "strangers") if foreign else client_tls(None)
    async with replica(tmp_path) as host:
        client = HostClient(lambda: tls)
        with pytest.raises(OSError, match=r".*"):
            await client.request(host.address, "GET", "/replica/v1/relationships/r-1")
        assert host.answers.requests == []


@on_uvloop
async def test_a_host_that_is_not_authorised_is_refused_before_a_byte_is_taken(
    tmp_path: Path,
) -> None:
    async with pair(tmp_path) as both:
        both.tokyo._client = HostClient(lambda: client_tls(OTHER_FQDN))
        with pytest.raises(TransferRefusedError, match=OTHER_FQDN) as refused:
            await both.replicate(CutKind.FULL, 1)
        assert refused.value.code == Code.ACCESS_DENIED
        change_set = await both.tokyo.cut(MACHINE, CutKind.DIFFERENCES, 1, NOW)
        with pytest.raises(TransferRefusedError, match=OTHER_FQDN):
            await both.tokyo._client.digests(both.osaka.address, both.header(change_set), 0, 0, 1)


@on_uvloop
async def test_a_replica_host_with_another_name_is_not_trusted(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        both.osaka.address = replace(both.osaka.address, fqdn="host9.osaka.example")
        with pytest.raises(ssl.SSLCertVerificationError):
            await both.replicate(CutKind.FULL, 1)
        assert both.osaka.answers.authorisations == 0


@on_uvloop
async def test_contexts_that_do_not_verify_are_refused(tmp_path: Path) -> None:
    lax = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    lax.check_hostname = False
    async with osaka(tmp_path) as host:
        with pytest.raises(ValueError, match="verify"):
            await HostClient(lambda: lax).request(host.address, "GET", "/")
        with pytest.raises(ValueError, match="requires certificates"):
            CertificateProof(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))


@on_uvloop
async def test_a_renewed_certificate_is_used_for_new_connections(tmp_path: Path) -> None:
    async with osaka(tmp_path) as host:
        client = HostClient(lambda: client_tls(PRIMARY_FQDN))
        path = "/replica/v1/relationships/r-1"
        assert await client.request(host.address, "GET", path) == (200, b"")
        host.listener.replace_proof(CertificateProof(server_tls("renewed.osaka.example")))
        with pytest.raises(ssl.SSLCertVerificationError):
            await client.request(host.address, "GET", path)
        renewed = replace(host.address, fqdn="renewed.osaka.example")
        assert await client.request(renewed, "GET", path) == (200, b"")


@on_uvloop
async def test_small_requests_go_to_the_host(tmp_path: Path) -> None:
    async with osaka(tmp_path) as host:
        client = HostClient(lambda: client_tls(PRIMARY_FQDN))
        path = "/replica/v1/relationships/r-1/verify"
        for method in ("GET", "PUT", "POST", "DELETE"):
            answer = await client.request(host.address, method, path, b'{"a": 1}' * 10_000)
            assert answer == (200, b'{"a": 1}' * 10_000)
        assert host.answers.requests[0] == (PRIMARY_FQDN, "GET", path, b'{"a": 1}' * 10_000)
        with pytest.raises(ValueError, match="over"):
            await client.request(host.address, "POST", path, bytes(2_000_000))


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /replica/v1/relationships/r HTTP/1.0\r\n\r\n", 400),
        (b"TRACE /replica/v1/relationships/r HTTP/1.1\r\n\r\n", 405),
        (b"GET " + b"/" * 20_000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"POST /replica/v1/relationships/r HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", 413),
        (b"POST /replica/v1/relationships/r HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"DELETE /replica/v1/relationships/r/transfers/t HTTP/1.1\r\n\r\n", 405),
        (b"PUT /replica/v1/relationships/r/allocated HTTP/1.1\r\n\r\n", 405),
        (b"GET /replica/v1/relationships/r/allocated HTTP/1.1\r\n\r\n", 400),
        (b"GET /replica/v1/relationships/r/transfers/t HTTP/1.1\r\n\r\n", 400),
        (b"PUT /replica/v1/relationships/r/transfers/t HTTP/1.1\r\n\r\n", 400),
        (b"GET /replica/v1/relationships/r-1/digests HTTP/1.1\r\n\r\n", 400),
        (put(replace(DELTA, transfer_id="t")).replace(b"transfers/t", b"transfers/u"), 400),
        (put(DELTA, "Transfer-Encoding: chunked\r\n") + b"zz\r\n", 400),
        (put(DELTA, "Transfer-Encoding: chunked\r\n") + b"1\r\nxyz", 400),
        (put(DELTA, "Transfer-Encoding: chunked\r\n") + b"0\r\nTrailer: x\r\n\r\n", 400),
        (put(DELTA, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), 400),
    ],
)
@on_uvloop
async def test_unusual_requests_are_refused(
    tmp_path: Path, request_bytes: bytes, status: int
) -> None:
    async with replica(tmp_path) as host:
        assert (await exchange(host.address, request_bytes))[0] == status


async def throw_at_the_port(folder: Path, messages: list[bytes]) -> None:
    async with replica(folder) as host:
        before = disk_bytes(folder)
        patient, host.listener._idle_seconds = host.listener._idle_seconds, 0.05
        for message in messages:
            status, _ = await exchange(host.address, message)
            assert status == 0 or 400 <= status < 600
        assert disk_bytes(folder) == before
        # The port lives on.
        host.listener._idle_seconds = patient
        assert (await send_frames(host.address, DELTA, ended((0, 0, PAGE))))[0] == 200


GOOD = put(DELTA, "Transfer-Encoding: chunked\r\n")
FRAMES = ended((0, 0, PAGE), (1, 0, PAGE))
BODY = b"%x\r\n" % len(FRAMES) + FRAMES + b"\r\n0\r\n\r\n"


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=200),
            st.binary(max_size=200).map(lambda data: GOOD + data),
            st.tuples(st.integers(0, len(BODY) - 1), st.integers(1, 255)).map(
                lambda change: (
                    GOOD
                    + BODY[: change[0]]
                    + bytes([BODY[change[0]] ^ change[1]])
                    + BODY[change[0] + 1 :]
                )
            ),
        ),
        max_size=6,
    )
)
def test_the_port_survives_whatever_is_thrown_at_it(
    tmp_path_factory: pytest.TempPathFactory, messages: list[bytes]
) -> None:
    uvloop.run(throw_at_the_port(tmp_path_factory.mktemp("port"), messages))


@on_uvloop
async def test_too_many_transfers_wait_for_their_turn_and_are_put_off_at_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with replica(tmp_path) as host:
        turns = asyncio.Semaphore(0)
        monkeypatch.setattr(host.listener, "_transfers", turns)
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(send_frames(host.address, DELTA, ended()))
            while not turns._waiters:
                await asyncio.sleep(0.01)
            turns.release()
        assert waiting.result()[0] == 200
        await turns.acquire()
        monkeypatch.setattr(replica_listener, "TURN_SECONDS_MAX", 0.05)
        assert (await send_frames(host.address, DELTA, ended()))[0] == 503


@on_uvloop
async def test_no_more_connections_are_served_at_a_time_than_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_listener, "CONNECTIONS_MAX", 2)
    async with osaka(tmp_path) as host:
        idle = [
            await asyncio.open_connection(
                host.address.address,
                host.address.port,
                ssl=client_tls(PRIMARY_FQDN),
                server_hostname=REPLICA_FQDN,
            )
            for _ in range(2)
        ]
        client = HostClient(lambda: client_tls(PRIMARY_FQDN))
        third = asyncio.ensure_future(
            client.request(host.address, "GET", "/replica/v1/relationships/r")
        )
        await asyncio.wait({third}, timeout=0.2)
        assert not third.done()
        for _, writer in idle:
            writer.transport.abort()
        assert await third == (200, b"")


@on_uvloop
async def test_closing_the_port_ends_its_connections(tmp_path: Path) -> None:
    async with osaka(tmp_path) as host:
        reader, writer = await asyncio.open_connection(
            host.address.address,
            host.address.port,
            ssl=client_tls(PRIMARY_FQDN),
            server_hostname=REPLICA_FQDN,
        )
        async with asyncio.timeout(5):
            await host.listener.aclose()
            await host.listener.aclose()
            assert await read_to_the_end(reader) == b""
        writer.transport.abort()
        client = HostClient(lambda: client_tls(PRIMARY_FQDN))
        with pytest.raises(OSError, match=r".*"):
            await client.request(host.address, "GET", "/replica/v1/relationships/r")


async def read_to_the_end(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""
