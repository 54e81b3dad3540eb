"""A Hyper-V host in its own process: the real back end and port, led by lines of JSON.

    python -m benchmarks.replication.host_process FOLDER CERTIFICATES

Every order `{"do": NAME, ...}` on standard input gets one line on standard output; figures are
measured here, where nothing but the order is under way.
"""

import asyncio
import json
import os
import re
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import structlog
import uvloop

from benchmarks.replication.ground import HOST, PRIMARY, Ground
from certs.tls import client_context, server_context
from service_shell.clock import SystemClock
from vmm_simulator.hyperv.backend import (
    AppliedCut,
    CutKind,
    DiskFile,
    PeerAddress,
    TransferHeader,
)
from vmm_simulator.hyperv.embedded import EmbeddedBackend
from vmm_simulator.hyperv.frames import HEADER_BYTES, FrameWriter
from vmm_simulator.hyperv.host_client import HostClient
from vmm_simulator.hyperv.peer_proof import CertificateProof
from vmm_simulator.hyperv.replica_listener import ReplicaListener

KIB: Final = 1024
WRITE_BYTES: Final = 16 * KIB
LINE_BYTES_MAX: Final = 1_048_576
ALIGNED_BYTES: Final = 32 * KIB


class HostProcess:
    """What the orders do; every public method is one."""

    def __init__(self, folder: Path, certificates: Path, stack: AsyncExitStack) -> None:
        self._certificates = certificates
        self._stack = stack
        root = (certificates / "ca-cert.pem").read_text()
        chain = (certificates / "client-cert.pem").read_text()
        key = (certificates / "client-key.pem").read_bytes()
        connecting = client_context(root, chain_pem=chain, key_pem=key)
        self._backend = EmbeddedBackend(folder / "state", HostClient(lambda: connecting))
        self._clock = SystemClock()
        self._disks: dict[str, DiskFile] = {}
        self._cuts: dict[str, int] = {}
        stack.push_async_callback(self._backend.aclose)

    async def listen(self) -> dict[str, Any]:
        """Open the replication port; a relationship is called like its machine."""
        folder = self._certificates
        tls = server_context(
            (folder / "server-cert.pem").read_text(),
            (folder / "server-key.pem").read_bytes(),
            client_ca_pems=((folder / "ca-cert.pem").read_text(),),
            require_client=True,
        )

        async def authorize(_peer: str, header: TransferHeader) -> str:
            return header.relationship_id

        async def applied(_machine_id: str, _applied: AppliedCut) -> None:
            return

        async def failed(machine_id: str, cause: str) -> None:
            raise RuntimeError(f"the disks of {machine_id} fail: {cause}")

        async def control(*_request: object) -> tuple[int, bytes]:
            return 404, b"{}"

        listener = ReplicaListener(
            self._backend,
            control=control,
            authorize_transfer=authorize,
            applied=applied,
            failed=failed,
        )
        listening = socket.create_server((HOST, 0))
        await listener.start(listening, CertificateProof(tls))
        self._stack.push_async_callback(listener.aclose)
        return {"port": listening.getsockname()[1]}

    async def replica(self, machine: str, path: str, size: int) -> dict[str, Any]:
        """Make an empty replica, whatever was there."""
        Path(path).unlink(missing_ok=True)  # noqa: ASYNC240 -- nothing else is under way
        disk = self._disks[machine] = DiskFile("disk", Path(path), size)
        await self._backend.create_replica_disks(machine, [disk])
        await self._backend.forget_applied_cut(machine)
        return {}

    async def primary(self, machine: str, path: str, size: int) -> dict[str, Any]:
        """Attach a disk and begin to note its changes."""
        disk = self._disks[machine] = DiskFile("disk", Path(path), size)
        await self._backend.attach(machine, [disk])
        await self._backend.start_tracking(machine)
        return {}

    async def change(self, machine: str, folder: str, scale: int, seed: int) -> dict[str, Any]:
        """Write a change set as a guest does; not measured."""
        for offset, data in Ground(Path(folder), scale).changes(seed):
            self._backend.write(machine, 0, offset, data, 0)
        await self._backend.flush(machine)
        return {}

    async def send(self, machines: list[str], kind: str, port: int, cut: int) -> dict[str, Any]:
        """Cut and send all machines at once; seconds of each until the replica holds it durably."""
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._send(each, CutKind(kind), port, cut)) for each in machines
            ]
        told = [task.result() for task in tasks]
        return {
            "seconds": time.perf_counter() - began,
            "each": [seconds for seconds, _ in told],
            "bytes": sum(count for _, count in told),
        }

    async def _send(self, machine: str, kind: CutKind, port: int, cut: int) -> tuple[float, int]:
        began = time.perf_counter()
        change_set = await self._backend.cut(machine, kind, cut, self._clock.now())
        header = TransferHeader(
            relationship_id=machine,
            transfer_id=f"transfer-{time.monotonic_ns()}",
            epoch=1,
            cut=cut,
            kind=kind,
            taken_at=change_set.taken_at,
            last_record=change_set.last_record,
        )
        peer = PeerAddress(fqdn=PRIMARY, address=HOST, port=port)
        acknowledged = False
        try:
            await self._backend.send(change_set, peer, header, lambda _: None)
            acknowledged = True
        finally:
            await self._backend.release(change_set, acknowledged=acknowledged)
        return time.perf_counter() - began, change_set.bytes_total

    async def applied(self, machines: list[str]) -> dict[str, Any]:
        """Return once everything committed is on the disks."""
        for machine in machines:
            await self._backend.apply_committed(machine)
        return {}

    async def figures(self) -> dict[str, Any]:
        """Say what this process has taken."""
        return {"cpu": time.process_time(), "peak_bytes": _peak_bytes()}

    async def commit(self, machine: str, folder: str, scale: int, cut: int) -> dict[str, Any]:
        """Take a change set as from a primary, until it is durable and on the disk; seconds."""
        frames = _frames(Ground(Path(folder), scale), cut)
        header = TransferHeader(
            relationship_id=machine,
            transfer_id=f"{machine}-{cut}",
            epoch=1,
            cut=cut,
            kind=CutKind.DIFFERENCES,
            taken_at=self._clock.now(),
            last_record=0,
        )
        began = time.perf_counter()
        incoming = await self._backend.open_transfer(machine, header)
        if isinstance(incoming, AppliedCut):
            raise TypeError("the change set was known already")
        try:
            await incoming.receive(_Memory(frames))
            await self._backend.commit_transfer(machine, incoming)
        finally:
            await self._backend.end_transfer(machine, incoming)
        await self._backend.apply_committed(machine)
        return {"seconds": time.perf_counter() - began}

    async def in_place(self, machine: str, folder: str, scale: int, seed: int) -> dict[str, Any]:
        """Write a change set straight to the disk and sync; seconds."""
        changes = _aligned(Ground(Path(folder), scale), seed)
        descriptor = os.open(self._disks[machine].path, os.O_RDWR)
        try:
            began = time.perf_counter()
            for offset, data in changes:
                os.pwrite(descriptor, data, offset)
            os.fdatasync(descriptor)
            return {"seconds": time.perf_counter() - began}
        finally:
            os.close(descriptor)

    async def guest_writes(
        self,
        machine: str,
        first: int,
        count: int,
        tracked: bool,  # noqa: FBT001 -- a field of an order
    ) -> dict[str, Any]:
        """Write 16 KiB after 16 KiB over warm pages, from the first place on; processor seconds."""
        if tracked:
            await self._backend.start_tracking(machine)
        else:
            await self._backend.stop_tracking(machine)
        data = os.urandom(WRITE_BYTES)
        places = self._disks[machine].size_bytes // WRITE_BYTES
        write = self._backend.write
        began = time.process_time()
        for index in range(first, first + count):
            write(machine, 0, (index * 7919 % places) * WRITE_BYTES, data, 0)
        seconds = time.process_time() - began
        await self._backend.flush(machine)
        return {"seconds": seconds}


def _peak_bytes() -> int:
    """Return the most that was resident of this program.

    Not `ru_maxrss`: the kernel begins that with what the program had that started this one.
    """
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError("the kernel does not tell the peak memory")
    return int(found[1]) * KIB


class _Memory:
    """The body of a request that is here already."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    async def read_into(self, view: memoryview) -> int:
        """Fill the view; less than its length is returned at the end of the body only."""
        count = min(len(view), len(self._data))
        view[:count] = self._data[:count]
        self._data = self._data[count:]
        return count

    async def read_piece(self, view: memoryview) -> int:
        """Fill the view; 0 at the end of the body."""
        return await self.read_into(view)


def _aligned(ground: Ground, seed: int) -> list[tuple[int, bytes]]:
    """Return a change set's writes in order, each in a place of its own, as frames have to be."""
    return sorted(
        {
            offset // ALIGNED_BYTES * ALIGNED_BYTES: data[:ALIGNED_BYTES]
            for offset, data in ground.changes(seed)
        }.items()
    )


def _frames(ground: Ground, seed: int) -> bytes:
    writer = FrameWriter()
    stream = bytearray()
    for offset, data in _aligned(ground, seed):
        frame = memoryview(bytearray(HEADER_BYTES + len(data)))
        frame[HEADER_BYTES:] = data
        writer.data(frame, 0, disk=0, offset=offset, length=len(data))
        stream += frame
    return bytes(stream) + writer.end()


async def serve(folder: Path, certificates: Path) -> None:
    """Carry out orders until standard input ends."""
    async with AsyncExitStack() as stack:
        host = HostProcess(folder, certificates, stack)
        reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        while line := await reader.readline():
            order: Mapping[str, Any] = json.loads(line)
            rest = {name: value for name, value in order.items() if name != "do"}
            told = await getattr(host, order["do"])(**rest)
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    # Standard output is for answers.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    uvloop.run(serve(Path(sys.argv[1]), Path(sys.argv[2])))
