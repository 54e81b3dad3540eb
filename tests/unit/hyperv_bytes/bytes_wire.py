"""A primary that sends what a test wants, byte by byte, to a replica with a full copy."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from tests.unit.hyperv_bytes.bytes_harness import (
    MACHINE,
    NOW,
    PRIMARY_FQDN,
    Osaka,
    client_tls,
    contents,
    make_disks,
    osaka,
)
from tests.unit.hyperv_bytes.test_bytes_frames import ended
from vmm_simulator.hyperv.backend import CutKind, PeerAddress, TransferHeader
from vmm_simulator.hyperv.transfer_header import encode_header

FULL = TransferHeader("r-1", "t-1", 1, 1, CutKind.FULL, NOW, 0)
DELTA = replace(FULL, transfer_id="t-2", cut=2, kind=CutKind.DELTA)
OTHER_FQDN = "host2.tokyo.example"


def put(header: TransferHeader, extra: str = "") -> bytes:
    path = f"/replica/v1/relationships/{header.relationship_id}/transfers/{header.transfer_id}"
    return (
        f"PUT {path} HTTP/1.1\r\nHost: x\r\nreplica-transfer: {encode_header(header)}\r\n"
        f"{extra}\r\n"
    ).encode()


async def exchange(address: PeerAddress, data: bytes, *, close: bool = False) -> tuple[int, bytes]:
    """Send bytes as the primary, return status and body; status 0 where nothing is answered."""
    reader, writer = await asyncio.open_connection(
        address.address,
        address.port,
        ssl=client_tls(PRIMARY_FQDN),
        server_hostname=address.fqdn,
    )
    try:
        async with asyncio.timeout(20):
            writer.write(data)
            if close:
                writer.close()
                return 0, b""
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
            return int(head.split(b" ")[1]), await reader.readexactly(length)
    except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
        return 0, b""
    finally:
        writer.transport.abort()


async def send_frames(
    address: PeerAddress, header: TransferHeader, frames: bytes, claimed: int | None = None
) -> tuple[int, bytes]:
    length = f"Content-Length: {len(frames) if claimed is None else claimed}\r\n"
    return await exchange(address, put(header, length) + frames)


@asynccontextmanager
async def replica(folder: Path) -> AsyncIterator[Osaka]:
    """Run a host whose replica holds a full copy."""
    async with osaka(folder / "osaka") as host:
        disks = make_disks(folder / "disks", "replica")
        await host.backend.create_replica_disks(MACHINE, disks)
        status, _ = await send_frames(host.address, FULL, ended((0, 0, b"base" * 1024)))
        assert status == 200
        yield host


def disk_bytes(folder: Path) -> list[bytes]:
    return contents(make_disks(folder / "disks", "replica"))
