"""A host as the client of another host: small JSON requests, digests, and transfers."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

from vmm_simulator.hyperv.backend import (
    AppliedCut,
    Authentication,
    PeerAddress,
    TransferHeader,
    TransferRefusedError,
)
from vmm_simulator.hyperv.blocks import BLOCK_BYTES
from vmm_simulator.hyperv.connection import Connection, ConnectionBody
from vmm_simulator.hyperv.digests import DIGEST_BYTES, RUNS_MAX
from vmm_simulator.hyperv.host_certificates import (
    UnfitCertificateError,
    certificate_of,
    require_usages,
)
from vmm_simulator.hyperv.http1 import (
    CONTENT_BYTES_MAX,
    HEAD_BYTES_MAX,
    HttpError,
    ResponseHead,
    chunk_start,
    content_length,
    parse_response,
    request_head,
)
from vmm_simulator.hyperv.kerberos import TicketError, Tickets
from vmm_simulator.hyperv.pace import Pace
from vmm_simulator.hyperv.proxy_address import ProxyAddress
from vmm_simulator.hyperv.proxy_connect import open_connection, open_way
from vmm_simulator.hyperv.replica_routes import ALLOCATED, decode_runs
from vmm_simulator.hyperv.replication_link import ReplicationLink
from vmm_simulator.hyperv.tls_socket import connect_tls
from vmm_simulator.hyperv.transfer_header import (
    HEADER_NAME,
    decode_applied,
    decode_place,
    decode_refusal,
    encode_header,
)
from vmm_simulator.problems import Code
from wire_contract.paths import REPLICA_DIGESTS, REPLICA_TRANSFER

CONNECT_SECONDS_MAX: Final = 10
ANSWER_SECONDS_MAX: Final = 60
IDLE_SECONDS_MAX: Final = 60
OPEN_SECONDS_MAX: Final = 150
"""Longest a replica may take to agree: it may have to apply what it holds first."""

COMMIT_SECONDS_MAX: Final = 600
"""Longest a replica may take from the last byte to the acknowledgement (it waits for its disks)."""

CLOSE_SECONDS_MAX: Final = 2


class Upload:
    """A transfer that the replica has agreed to take, or has acknowledged without taking."""

    def __init__(
        self, connection: Connection, acknowledged: AppliedCut | None, pace: Pace | None
    ) -> None:
        self._connection = connection
        self._pace = pace
        self.acknowledged = acknowledged

    async def write(self, frames: bytes | memoryview) -> None:
        """Send frames; TransferRefusedError as soon as the replica has refused them."""
        if self._connection.has_input:
            await self._fail()
        try:
            await self._write(memoryview(frames))
        except ConnectionError:
            if self._connection.has_input:
                await self._fail()
            raise

    async def _write(self, frames: memoryview) -> None:
        while frames:
            count = (self._pace and self._pace.piece_bytes()) or len(frames)
            piece, frames = frames[:count], frames[count:]
            if self._pace is not None:
                await self._pace.before(len(piece))
            await self._connection.write(chunk_start(len(piece)), piece, b"\r\n")

    async def finish(self) -> AppliedCut:
        """Return what the replica holds durably."""
        await self._connection.write(b"0\r\n\r\n")
        self._connection.idle_seconds = COMMIT_SECONDS_MAX
        async with asyncio.timeout(COMMIT_SECONDS_MAX):
            head = await _read_response(self._connection)
            return await _acknowledgement(self._connection, head)

    async def _fail(self) -> None:
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            head = await _read_response(self._connection)
            await _acknowledgement(self._connection, head)
        raise ConnectionError("the replica host acknowledged a transfer that had not ended")


class HostClient:
    """Speaks to replica hosts; `tls` is asked anew for each connection (certificates change).

    The context must verify the server's certificate and its name. `tickets` prove this host where
    the policy says Kerberos; `proxy` is the host's own setting, asked anew too; `pace` is what all
    its transfers keep to, `link` the line that they go over.
    """

    def __init__(
        self,
        tls: Callable[[], ssl.SSLContext],
        *,
        tickets: Tickets | None = None,
        proxy: Callable[[], ProxyAddress | None] | None = None,
        pace: Pace | None = None,
        link: ReplicationLink | None = None,
    ) -> None:
        self._link = ReplicationLink() if link is None else link
        self._tls = tls
        self._tickets = tickets
        self._proxy = proxy
        self._pace = pace

    async def request(
        self, peer: PeerAddress, method: str, path: str, body: bytes = b""
    ) -> tuple[int, bytes]:
        """Return status and body of the answer; OSError when the peer cannot be reached."""
        if len(body) > CONTENT_BYTES_MAX:
            raise ValueError(f"a request's body is over {CONTENT_BYTES_MAX} bytes")
        async with self._connect(peer, ANSWER_SECONDS_MAX) as connection:
            headers = {
                "Host": peer.fqdn,
                "Content-Type": "application/json",
                "Content-Length": str(len(body)),
                **connection.proof,
            }
            return await _exchange(connection, request_head(method, path, headers) + body)

    async def digests(
        self, peer: PeerAddress, header: TransferHeader, disk: int, first: int, count: int
    ) -> bytes:
        """Return the digests of blocks of the replica, DIGEST_BYTES each."""
        path = REPLICA_DIGESTS.format(relationship_id=header.relationship_id)
        query = f"?disk={disk}&first={first}&count={count}&block_bytes={BLOCK_BYTES}"
        body = await self._ask(peer, path + query, header)
        if len(body) != count * DIGEST_BYTES:
            raise ConnectionError("the replica host answered with a wrong number of digests")
        return body

    async def allocated(
        self, peer: PeerAddress, header: TransferHeader, disk: int, blocks: int, first: int = 0
    ) -> AsyncIterator[tuple[int, int]]:
        """Yield (block, count) of what a replica's disk has allocated from a block on, in order."""
        path = ALLOCATED.format(relationship_id=header.relationship_id)
        while first < blocks:
            query = f"?disk={disk}&first={first}&block_bytes={BLOCK_BYTES}"
            body = await self._ask(peer, path + query, header)
            try:
                runs = decode_runs(body, first, blocks)
            except ValueError as error:
                raise ConnectionError(f"the replica host's answer is wrong: {error}") from error
            for run in runs:
                yield run
            if len(runs) < RUNS_MAX:
                return
            first = sum(runs[-1])

    async def copied(self, peer: PeerAddress, header: TransferHeader) -> tuple[int, int] | None:
        """Return disk and offset up to which the replica has `header.copy_id`; None: nothing."""
        path = REPLICA_TRANSFER.format(
            relationship_id=header.relationship_id, transfer_id=header.transfer_id
        )
        try:
            return decode_place(await self._ask(peer, path, header))
        except ValueError as error:
            raise ConnectionError("the replica host's answer is not understood") from error

    async def _ask(self, peer: PeerAddress, target: str, header: TransferHeader) -> bytes:
        async with self._connect(peer, ANSWER_SECONDS_MAX) as connection:
            headers = {
                "Host": peer.fqdn,
                HEADER_NAME: encode_header(header),
                **connection.proof,
            }
            status, body = await _exchange(connection, request_head("GET", target, headers))
        if status != HTTPStatus.OK:
            raise _refusal(status, body)
        return body

    @asynccontextmanager
    async def upload(self, peer: PeerAddress, header: TransferHeader) -> AsyncIterator[Upload]:
        """Announce a transfer; inside, the replica has agreed or acknowledged it again."""
        path = REPLICA_TRANSFER.format(
            relationship_id=header.relationship_id, transfer_id=header.transfer_id
        )
        headers = {
            "Host": peer.fqdn,
            "Content-Type": "application/octet-stream",
            "Transfer-Encoding": "chunked",
            "Expect": "100-continue",
            HEADER_NAME: encode_header(header),
        }
        async with self._connect(peer, OPEN_SECONDS_MAX) as connection:
            await connection.write(request_head("PUT", path, headers | dict(connection.proof)))
            head = await _read_response(connection)
            connection.idle_seconds = IDLE_SECONDS_MAX
            acknowledged = None
            if head.status != HTTPStatus.CONTINUE:
                acknowledged = await _acknowledgement(connection, head)
            yield Upload(connection, acknowledged, self._pace)

    @asynccontextmanager
    async def _connect(self, peer: PeerAddress, idle_seconds: float) -> AsyncIterator[Connection]:
        if peer.authentication is Authentication.KERBEROS:
            connection = await self._connect_with_ticket(peer, idle_seconds)
        else:
            connection = await self._connect_with_certificate(peer, idle_seconds)
        try:
            with self._link.carrying(connection):
                yield connection
        except BaseException:
            connection.abort()
            raise
        await connection.close(CLOSE_SECONDS_MAX)

    async def _connect_with_certificate(self, peer: PeerAddress, idle_seconds: float) -> Connection:
        tls = self._tls()
        if tls.verify_mode != ssl.CERT_REQUIRED or not tls.check_hostname:
            raise ValueError("the TLS context must verify the peer's certificate and name")
        connection = Connection(idle_seconds)
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            await connect_tls(connection, await self._way(peer), tls, peer.fqdn)
        try:
            require_usages(certificate_of(connection.transport))
        except UnfitCertificateError as error:
            connection.abort()
            raise ConnectionError(
                f"the certificate of {peer.fqdn} is not taken: {error}"
            ) from error
        return connection

    async def _connect_with_ticket(self, peer: PeerAddress, idle_seconds: float) -> Connection:
        if self._tickets is None:
            raise TicketError(
                "this host is in no Kerberos realm: name one under kerberos in the simulator's "
                "configuration, or use certificates"
            )
        proof = await self._tickets.ask(peer.fqdn)
        connection = Connection(idle_seconds)
        connection.proof = proof.headers
        connection.check_proof = proof.check
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            await asyncio.get_running_loop().create_connection(
                lambda: connection, sock=await self._way(peer)
            )
        return connection

    async def _way(self, peer: PeerAddress) -> socket.socket:
        self._link.require()
        proxy = None if self._proxy is None or peer.bypass_proxy else self._proxy()
        if proxy is None:
            return await open_connection(peer.address, peer.port)
        return await open_way(proxy, peer.fqdn, peer.port)


async def _exchange(connection: Connection, message: bytes) -> tuple[int, bytes]:
    async with asyncio.timeout(ANSWER_SECONDS_MAX):
        await connection.write(message)
        head = await _read_response(connection)
        return head.status, await _read_content(connection, head)


async def _read_response(connection: Connection) -> ResponseHead:
    try:
        head = parse_response(await connection.read_until(b"\r\n\r\n", HEAD_BYTES_MAX))
    except HttpError as error:
        raise ConnectionError(f"the replica host's answer is not understood: {error}") from error
    check, connection.check_proof = connection.check_proof, None
    if check is not None:
        # The first answer says who is there; the rest of the connection is the same peer's.
        check(head.status, head.headers)
    return head


async def _read_content(connection: Connection, head: ResponseHead) -> bytes:
    try:
        length = content_length(head.headers)
    except HttpError as error:
        raise ConnectionError(f"the replica host's answer is not understood: {error}") from error
    if length is None or length > CONTENT_BYTES_MAX:
        raise ConnectionError("the replica host's answer is too long")
    content = bytearray(length)
    await ConnectionBody(connection, length).read_into(memoryview(content))
    return bytes(content)


async def _acknowledgement(connection: Connection, head: ResponseHead) -> AppliedCut:
    body = await _read_content(connection, head)
    if head.status != HTTPStatus.OK:
        raise _refusal(head.status, body)
    try:
        return decode_applied(body)
    except ValueError as error:
        raise ConnectionError("the replica host's acknowledgement is not understood") from error


def _refusal(status: int, body: bytes) -> TransferRefusedError | ConnectionError:
    refusals = status < HTTPStatus.INTERNAL_SERVER_ERROR
    try:
        refusal = decode_refusal(body)
    except ValueError:
        if refusals:
            return ConnectionError(f"the replica host answered {status} without a reason")
    else:
        # Of its own errors a host says in words which are of its disks.
        if refusals or refusal.code == Code.FAILED:
            return refusal
    return ConnectionError(f"the replica host failed with {status}: {body[:500]!r}")
