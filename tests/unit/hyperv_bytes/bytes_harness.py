"""Two hosts on loopback with real disks, real TLS and the real port, for tests of the bytes."""

import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, wraps
from itertools import count
from pathlib import Path
from typing import Any, ParamSpec

import uvloop

from certs.chain import TrustChain
from certs.identity import new_private_key, private_key_pem
from certs.profiles import Profile
from certs.tls import client_context, server_context
from vmm_simulator.hyperv.backend import (
    AppliedCut,
    ChangeSet,
    CutKind,
    DiskFile,
    PeerAddress,
    TransferHeader,
    TransferRefusedError,
)
from vmm_simulator.hyperv.embedded import EmbeddedBackend
from vmm_simulator.hyperv.host_client import HostClient
from vmm_simulator.hyperv.peer_proof import CertificateProof
from vmm_simulator.hyperv.replica_listener import ReplicaListener
from vmm_simulator.problems import Code

P = ParamSpec("P")

NOW = datetime.now(UTC)
PRIMARY_FQDN = "host1.tokyo.example"
REPLICA_FQDN = "host1.osaka.example"
MACHINE = "machine-1"
ESTATE = "the estate"
KIBI = 1024
BLOCK = 64 * KIBI
SIZES = (40 * BLOCK, 24 * BLOCK + 5 * 4096)
"""Small disks, one of them with a short last block."""


@cache
def trust(name: str) -> TrustChain:
    """Return a trust chain, the same one for the same name."""
    return TrustChain.create(NOW - timedelta(minutes=5), name)


@cache
def _certificate(fqdn: str, chain: str) -> tuple[str, bytes]:
    key = new_private_key()
    issued = trust(chain).issue(Profile.HYPERV_HOST, key.public_key(), fqdn, NOW, dns_names=[fqdn])
    return issued.chain_pem, private_key_pem(key)


def server_tls(fqdn: str, chain: str = ESTATE) -> ssl.SSLContext:
    """Return what a host listens with."""
    chain_pem, key_pem = _certificate(fqdn, chain)
    authorities = [trust(ESTATE).root_pem]
    return server_context(chain_pem, key_pem, client_ca_pems=authorities, require_client=True)


def client_tls(fqdn: str | None, chain: str = ESTATE) -> ssl.SSLContext:
    """Return what a host connects with; without a name it has no certificate."""
    if fqdn is None:
        return client_context(trust(ESTATE).root_pem)
    chain_pem, key_pem = _certificate(fqdn, chain)
    return client_context(trust(ESTATE).root_pem, chain_pem=chain_pem, key_pem=key_pem)


def make_disks(folder: Path, name: str, sizes: Sequence[int] = SIZES) -> list[DiskFile]:
    """Return disks of a machine, whose files are not made."""
    return [
        DiskFile(f"disk-{index}", folder / f"{name}-{index}.raw", size)
        for index, size in enumerate(sizes)
    ]


def make_files(disks: Sequence[DiskFile]) -> None:
    """Make the files, empty."""
    for disk in disks:
        disk.path.parent.mkdir(parents=True, exist_ok=True)
        with disk.path.open("wb") as file:
            file.truncate(disk.size_bytes)


def contents(disks: Sequence[DiskFile]) -> list[bytes]:
    """Return what the files hold."""
    return [disk.path.read_bytes() for disk in disks]


def allocated(disk: DiskFile) -> int:
    """Return how many bytes of space the file takes."""
    return disk.path.stat().st_blocks * 512


@dataclass
class HostAnswers:
    """What the replica's host says to its port."""

    authorised: dict[str, str] = field(default_factory=lambda: {PRIMARY_FQDN: MACHINE})
    epoch: int = 1
    applied: list[tuple[str, AppliedCut]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    requests: list[tuple[str, str, str, bytes]] = field(default_factory=list)
    authorisations: int = 0

    async def authorize_transfer(self, peer_fqdn: str, header: TransferHeader) -> str:
        """Know the peer, refuse a lower epoch."""
        self.authorisations += 1
        machine_id = self.authorised.get(peer_fqdn)
        if machine_id is None:
            raise TransferRefusedError(Code.ACCESS_DENIED, f"{peer_fqdn} is not authorised")
        if header.epoch < self.epoch:
            raise TransferRefusedError(Code.LOWER_EPOCH, "the epoch is over")
        return machine_id

    async def note_applied(self, machine_id: str, applied: AppliedCut) -> None:
        """Remember what was committed."""
        self.applied.append((machine_id, applied))

    async def note_failed(self, machine_id: str, cause: str) -> None:
        """Remember what the disks failed with."""
        self.failures.append((machine_id, cause))

    async def control(self, peer: str, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Answer with what was asked."""
        self.requests.append((peer, method, path, body))
        return 200, body


@dataclass
class Osaka:
    """The replica's host: its back end, its port, and what its host says."""

    backend: EmbeddedBackend
    listener: ReplicaListener
    address: PeerAddress
    answers: HostAnswers


@asynccontextmanager
async def osaka(
    folder: Path, *, idle_seconds: float = 30, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Osaka]:
    """Run the replica's host."""
    backend = EmbeddedBackend(folder, HostClient(lambda: client_tls(REPLICA_FQDN)))
    answers = HostAnswers()
    listener = ReplicaListener(
        backend,
        control=answers.control,
        authorize_transfer=answers.authorize_transfer,
        applied=answers.note_applied,
        failed=answers.note_failed,
        idle_seconds=idle_seconds,
    )
    listening = socket.create_server(("127.0.0.1", 0))
    address = PeerAddress(REPLICA_FQDN, "127.0.0.1", listening.getsockname()[1])
    await listener.start(listening, CertificateProof(tls or server_tls(REPLICA_FQDN)))
    try:
        yield Osaka(backend, listener, address, answers)
    finally:
        await listener.aclose()
        await backend.aclose()


@dataclass
class Pair:
    """A machine on a primary's host, and its replica elsewhere."""

    tokyo: EmbeddedBackend
    osaka: Osaka
    primary_disks: list[DiskFile]
    replica_disks: list[DiskFile]
    epoch: int = 1
    numbers: "count[int]" = field(default_factory=lambda: count(1))

    def header(self, change_set: ChangeSet, transfer_id: str | None = None) -> TransferHeader:
        """Return a header that describes the change set."""
        return TransferHeader(
            relationship_id="relationship-1",
            transfer_id=transfer_id or f"transfer-{next(self.numbers)}",
            epoch=self.epoch,
            cut=change_set.cut,
            kind=change_set.kind,
            taken_at=change_set.taken_at,
            last_record=change_set.last_record,
        )

    async def send(self, change_set: ChangeSet, header: TransferHeader | None = None) -> AppliedCut:
        """Send a change set as it should be."""
        return await self.tokyo.send(
            change_set, self.osaka.address, header or self.header(change_set), lambda _: None
        )

    async def replicate(self, kind: CutKind, cut: int) -> AppliedCut:
        """Cut, send, release; the replica's disks hold it afterwards."""
        change_set = await self.tokyo.cut(MACHINE, kind, cut, NOW)
        try:
            applied = await self.send(change_set)
        except BaseException:
            await self.tokyo.release(change_set, acknowledged=False)
            raise
        await self.tokyo.release(change_set, acknowledged=True)
        await self.osaka.backend.apply_committed(MACHINE)
        return applied

    def write(self, disk: int, offset: int, data: bytes, record: int = 0) -> None:
        """Write as a guest does."""
        self.tokyo.write(MACHINE, disk, offset, data, record)

    def equal(self) -> bool:
        """Whether both copies hold the same bytes."""
        return contents(self.primary_disks) == contents(self.replica_disks)


@asynccontextmanager
async def pair(folder: Path, sizes: Sequence[int] = SIZES) -> AsyncIterator[Pair]:
    """Run both hosts with an attached, tracked machine and an empty replica."""
    primary_disks = make_disks(folder / "tokyo-disks", "primary", sizes)
    replica_disks = make_disks(folder / "osaka-disks", "replica", sizes)
    make_files(primary_disks)
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(osaka(folder / "osaka"))
        tokyo = EmbeddedBackend(folder / "tokyo", HostClient(lambda: client_tls(PRIMARY_FQDN)))
        stack.push_async_callback(tokyo.aclose)
        await tokyo.attach(MACHINE, primary_disks)
        await tokyo.start_tracking(MACHINE)
        await other.backend.create_replica_disks(MACHINE, replica_disks)
        yield Pair(tokyo, other, primary_disks, replica_disks)


def kill(backend: EmbeddedBackend) -> None:
    """End a back end as SIGKILL does: descriptors go, nothing more is written or said."""
    for machine in backend._machines.values():
        machine.close_disks()
        if machine.frozen is not None:
            machine.frozen.release()
    backend._machines.clear()


async def reopened(
    folder: Path, machines: Mapping[str, Sequence[DiskFile]], fqdn: str
) -> EmbeddedBackend:
    """Return a back end that starts over what another one left behind."""
    backend = EmbeddedBackend(folder, HostClient(lambda: client_tls(fqdn)))
    await backend.recover(machines)
    return backend


def on_uvloop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test on the event loop that hosts run on in service."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        uvloop.run(test(*args, **kwargs))

    return run
