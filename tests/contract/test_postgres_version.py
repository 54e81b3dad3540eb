"""A server that says of itself, in PostgreSQL's own protocol, that it is too old."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from service_hub.database_settings import DatabaseSettings
from service_hub.store.errors import DatabaseUnusableError
from service_hub.store.postgres_connections import VERSION_MIN, address, first_connection

LEASE_SECONDS = 30.0
STARTUP_BYTES_MAX = 10_000
SECONDS_MAX = 30.0


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _greeting(version: str) -> bytes:
    """Return what a server answers to who starts up: let in without a password, and ready."""
    told = {"server_version": version, "client_encoding": "UTF8", "TimeZone": "UTC"}
    return b"".join(
        (
            _message(b"R", struct.pack("!i", 0)),
            *(_message(b"S", f"{name}\0{value}\0".encode()) for name, value in told.items()),
            _message(b"K", struct.pack("!ii", 4711, 1)),
            _message(b"Z", b"I"),
        )
    )


@asynccontextmanager
async def server_of(
    version: str, farewells: asyncio.Queue[bytes]
) -> AsyncIterator[DatabaseSettings]:
    """Run a server of this version on loopback; it keeps what was said after its greeting."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (size,) = struct.unpack("!i", await reader.readexactly(4))
        assert size < STARTUP_BYTES_MAX
        await reader.readexactly(size - 4)
        writer.write(_greeting(version))
        await farewells.put(await reader.read(STARTUP_BYTES_MAX))
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        told = {"kind": "postgresql", "host": "127.0.0.1", "port": port, "tls": "off"}
        yield DatabaseSettings.model_validate({**told, "name": "hub", "user": "hub"})


async def _heard(said: asyncio.Queue[bytes]) -> bytes:
    async with asyncio.timeout(SECONDS_MAX):
        return await said.get()


@pytest.mark.parametrize("version", ["13.14", "9.6.24"])
async def test_a_server_that_is_too_old_is_refused_before_anything_is_asked_of_it(
    version: str,
) -> None:
    said = asyncio.Queue[bytes]()
    async with server_of(version, said) as settings:
        major, _, _ = version.partition(".")
        words = f"is version {major}: .* needs PostgreSQL {VERSION_MIN} or newer"
        with pytest.raises(DatabaseUnusableError, match=words):
            await first_connection(address(settings, LEASE_SECONDS))
        assert await _heard(said) == _message(b"X", b""), "nothing but a farewell"


async def test_the_oldest_version_that_is_supported_is_taken() -> None:
    said = asyncio.Queue[bytes]()
    async with server_of(f"{VERSION_MIN}.0", said) as settings:
        connection = await first_connection(address(settings, LEASE_SECONDS))
        await connection.close()
        assert await _heard(said) == _message(b"X", b"")
