"""The TLS of whoever sends a transfer: OpenSSL has the socket, and nothing is copied on the way."""

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.unit.hyperv_bytes.bytes_harness import (
    PRIMARY_FQDN,
    REPLICA_FQDN,
    client_tls,
    on_uvloop,
    server_tls,
)
from vmm_simulator.hyperv.connection import Connection
from vmm_simulator.hyperv.tls_socket import connect_tls

SECONDS = 20
PIECE = bytes(range(256)) * 8_192
PIECES = 8
RECEIVED_BYTES = 65_536
"""Of the peer's socket: with it, the sockets of both ends do not hold what is sent."""


@asynccontextmanager
async def connected(
    serve: Callable[[ssl.SSLSocket], None], name: str = REPLICA_FQDN
) -> AsyncIterator[Connection]:
    """Connect to a server that does this in a thread, and has done it when the block is left."""

    def accept() -> None:
        taken, _ = listening.accept()
        taken.settimeout(SECONDS)
        with tls.wrap_socket(taken, server_side=True) as secured:
            serve(secured)

    tls = server_tls(REPLICA_FQDN)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED_BYTES)
        listening.settimeout(SECONDS)
        serving = asyncio.create_task(asyncio.to_thread(accept))
        way = socket.create_connection(listening.getsockname())
        connection = Connection(SECONDS)
        try:
            async with asyncio.timeout(SECONDS):
                await connect_tls(connection, way, client_tls(PRIMARY_FQDN), name)
                yield connection
            connection.abort()
            await serving
        finally:
            connection.abort()
            await asyncio.wait({serving})
            # What the peer complains of is told above, where it was not refused itself.
            serving.exception()


def read_to_the_end(secured: ssl.SSLSocket) -> bytes:
    """Return all that comes until the goodbye."""
    data = bytearray()
    while piece := secured.recv(len(PIECE)):
        data += piece
    return bytes(data)


@on_uvloop
async def test_a_buffer_may_be_used_again_when_the_writer_goes_on() -> None:
    go_on = threading.Event()
    taken: list[bytes] = []

    def serve(secured: ssl.SSLSocket) -> None:
        assert go_on.wait(SECONDS)
        taken.append(read_to_the_end(secured))

    async with connected(serve) as connection:
        buffer, sent = bytearray(PIECE), b""
        for number in range(PIECES):
            buffer[:4] = number.to_bytes(4, "big")
            sent += buffer
            writing = asyncio.create_task(connection.write(memoryview(buffer)))
            await asyncio.sleep(0)
            if not writing.done():
                go_on.set()
            await writing
        # Else everything was taken at once, and nobody has waited.
        assert go_on.is_set()
        await connection.close(SECONDS)
    assert taken == [sent]


@on_uvloop
async def test_what_waits_is_sent_before_the_goodbye_and_nothing_after_it() -> None:
    taken: list[bytes] = []
    async with connected(lambda secured: taken.append(read_to_the_end(secured))) as connection:
        for _ in range(PIECES):
            connection.transport.write(PIECE)
        connection.transport.close()
        connection.transport.write(b"more")
        await connection.close(SECONDS)
        with pytest.raises(ConnectionError):
            await connection.write(b"more")
    assert taken == [PIECE * PIECES]


@on_uvloop
async def test_an_answer_is_read_though_nobody_waited_for_it() -> None:
    def serve(secured: ssl.SSLSocket) -> None:
        for _ in range(PIECES):
            secured.sendall(PIECE)
        assert read_to_the_end(secured) == b"well"

    async with connected(serve) as connection:
        view = memoryview(bytearray(PIECES * len(PIECE)))
        for start in range(0, len(view), 3 * 65_536 + 1):
            await connection.read_exactly(view[start : start + 3 * 65_536 + 1])
        assert view == PIECE * PIECES
        await connection.write(b"well")
        await connection.close(SECONDS)


@on_uvloop
async def test_a_peer_that_breaks_off_is_noticed() -> None:
    def serve(secured: ssl.SSLSocket) -> None:
        secured.sendall(b"half of an ans")
        # Closing then resets the connection.
        secured.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with connected(serve) as connection:
        with pytest.raises(ConnectionError):
            await connection.read_until(b"\r\n", 100)
        assert connection.has_input
        with pytest.raises(ConnectionError):
            await connection.write(PIECE)


@on_uvloop
async def test_another_name_is_refused_and_the_socket_closed() -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        async with connected(lambda _: None, "host9.osaka.example"):
            pass
