"""The replication port of a host: takes transfers itself, hands small requests to the host.

A thin HTTP/1.1 server over mutual TLS (design: replication, settled by measurement: a general
framework costs 1.8 times). The peer is known by the name in its certificate, never by what it says.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Final, Protocol, TypeVar

import structlog

from service_shell.failpoints import NONE, FaultPoints
from vmm_simulator.hyperv.accepting import next_caller
from vmm_simulator.hyperv.backend import (
    AppliedCut,
    BackendStateError,
    TransferHeader,
    TransferRefusedError,
)
from vmm_simulator.hyperv.connection import Connection, ConnectionBody
from vmm_simulator.hyperv.disk_errors import is_of_disks
from vmm_simulator.hyperv.frames import FrameError
from vmm_simulator.hyperv.http1 import (
    CONTENT_BYTES_MAX,
    HEAD_BYTES_MAX,
    HttpError,
    RequestHead,
    content_length,
    invitation,
    parse_request,
    response,
)
from vmm_simulator.hyperv.incoming import Incoming
from vmm_simulator.hyperv.peer_proof import PeerProof
from vmm_simulator.hyperv.replica_answers import (
    BYTES,
    JSON,
    Answer,
    failure_answer,
    refusal_answer,
)
from vmm_simulator.hyperv.replica_routes import (
    DigestRange,
    allocated_from,
    announced_transfer,
    encode_runs,
    is_allocated,
    is_digests,
    is_transfer,
    require_replica_path,
)
from vmm_simulator.hyperv.transfer_header import encode_applied, encode_place
from vmm_simulator.problems import Code, RefusedError

log = structlog.get_logger(__name__)
T = TypeVar("T")

CONNECTIONS_MAX: Final = 64
TRANSFERS_MAX: Final = 32
"""Transfers side by side, each with two buffers; more wait for their turn."""

HANDSHAKE_SECONDS_MAX: Final = 10
HEAD_SECONDS_MAX: Final = 10
CONTENT_SECONDS_MAX: Final = 30
CALLBACK_SECONDS_MAX: Final = 60
IDLE_SECONDS_MAX: Final = 60
TURN_SECONDS_MAX: Final = 100
"""Longest a transfer waits for its turn; senders give up later."""

LINGER_SECONDS_MAX: Final = 2
CONTROL_METHODS: Final = frozenset({"GET", "PUT", "POST", "DELETE"})
ACCEPT_PAUSE_SECONDS: Final = 0.1


class ReplicaBytes(Protocol):
    """What the listener needs of the back end."""

    async def open_transfer(self, machine_id: str, header: TransferHeader) -> Incoming | AppliedCut:
        """Begin to take a change set, or acknowledge again the one that is held."""

    async def commit_transfer(self, machine_id: str, incoming: Incoming) -> AppliedCut:
        """Make a received change set durable."""

    async def end_transfer(self, machine_id: str, incoming: Incoming) -> None:
        """Close a transfer, committed or not."""

    async def apply_committed(self, machine_id: str) -> None:
        """Bring committed change sets onto the disks."""

    async def digests(self, machine_id: str, disk_index: int, first: int, count: int) -> bytes:
        """Return the digests of a range of blocks."""

    async def allocated(
        self, machine_id: str, disk_index: int, first: int
    ) -> list[tuple[int, int]]:
        """Return runs of blocks that are no holes, from a block on; RUNS_MAX at most."""

    async def copied(self, machine_id: str, header: TransferHeader) -> tuple[int, int] | None:
        """Return disk and offset up to which an interrupted whole copy is durably here."""


class ReplicaListener:
    """Serves one socket.

    `control(peer_fqdn, method, path, body)` answers small requests; `authorize_transfer(peer_fqdn,
    header)` returns the machine that the transfer is for, or raises TransferRefusedError (it is
    asked before the first byte and again before the commit); `applied(machine_id, cut)` is called
    after each commit, before it is acknowledged (and again when a transfer is repeated);
    `failed(machine_id, cause)` when the disks of a machine cannot be read or written.
    """

    def __init__(
        self,
        backend: ReplicaBytes,
        *,
        control: Callable[[str, str, str, bytes], Awaitable[tuple[int, bytes]]],
        authorize_transfer: Callable[[str, TransferHeader], Awaitable[str]],
        applied: Callable[[str, AppliedCut], Awaitable[None]],
        failed: Callable[[str, str], Awaitable[None]],
        idle_seconds: float = IDLE_SECONDS_MAX,
        faults: FaultPoints = NONE,
    ) -> None:
        self._backend = backend
        self._control = control
        self._authorize_transfer = authorize_transfer
        self._applied = applied
        self._failed = failed
        self._idle_seconds = idle_seconds
        self._faults = faults
        self._proof: PeerProof | None = None
        self._listening: socket.socket | None = None
        self._server: asyncio.Task[None] | None = None
        self._connections = asyncio.Semaphore(CONNECTIONS_MAX)
        self._transfers = asyncio.Semaphore(TRANSFERS_MAX)

    async def start(self, listening: socket.socket, proof: PeerProof) -> None:
        """Serve the (bound, listening) socket, which then belongs to the listener."""
        if self._server is not None:
            raise RuntimeError("the listener is already started")
        self._proof = proof
        self._listening = listening
        listening.setblocking(False)  # noqa: FBT003 -- the socket module's signature
        # The one task that owns the group of all connections; `aclose` ends it.
        self._server = asyncio.get_running_loop().create_task(self._serve(listening))

    @property
    def encrypted(self) -> bool:
        """Whether the port speaks TLS."""
        return self._proof is not None and self._proof.tls is not None

    def replace_proof(self, proof: PeerProof) -> None:
        """Ask this of connections that are accepted from now on; show another certificate."""
        self._proof = proof

    async def aclose(self) -> None:
        """Close the port and all connections; a commit under way comes to its end."""
        server, self._server = self._server, None
        if server is not None:
            server.cancel()
            await asyncio.wait({server})
            if self._listening is not None:
                self._listening.close()
            if not server.cancelled() and (error := server.exception()) is not None:
                raise error

    async def _serve(self, listening: socket.socket) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                await self._connections.acquire()
                try:
                    accepted = await next_caller(listening)
                except OSError as error:
                    # Out of descriptors, or a peer that was gone at once: others may come.
                    self._connections.release()
                    log.warning("accept_failed", cause=str(error))
                    await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                    continue
                handling = group.create_task(self._handle(accepted))
                handling.add_done_callback(partial(_close_unserved, accepted))

    async def _handle(self, accepted: socket.socket) -> None:
        connection = Connection(self._idle_seconds)
        proof = self._proof
        assert proof is not None
        bounds: dict[str, float] = {}
        if proof.tls is not None:
            bounds["ssl_handshake_timeout"] = HANDSHAKE_SECONDS_MAX
            bounds["ssl_shutdown_timeout"] = LINGER_SECONDS_MAX
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection, accepted, ssl=proof.tls, **bounds
            )
            await self._serve_request(connection, proof)
        except (OSError, HttpError) as error:
            # TLS refusals, time-outs, broken connections, certificates that name no host.
            log.info("replica_connection_ended", cause=str(error) or type(error).__name__)
        except Exception:  # one connection's failure must not end the port: logged with its trace
            log.exception("replica_connection_failed")
        finally:
            connection.abort()
            self._connections.release()

    async def _serve_request(self, connection: Connection, proof: PeerProof) -> None:
        try:
            async with asyncio.timeout(HEAD_SECONDS_MAX):
                head = parse_request(await connection.read_until(b"\r\n\r\n", HEAD_BYTES_MAX))
            peer = await proof.peer(connection, head)
            require_replica_path(head.path)
            if is_transfer(head.path) and head.method != "GET":
                await self._take_transfer(connection, peer, head)
                return
            if is_transfer(head.path):
                answer = await self._give_copied(peer, head)
            elif is_digests(head.path):
                answer = await self._give_digests(peer, head)
            elif is_allocated(head.path):
                answer = await self._give_allocated(peer, head)
            else:
                answer = await self._ask_host(connection, peer, head)
        except (HttpError, TransferRefusedError, FrameError, BackendStateError) as error:
            answer = refusal_answer(error)
        except OSError as error:
            if not is_of_disks(error):
                raise
            answer = failure_answer(error)
        await _answer(connection, answer)

    @asynccontextmanager
    async def _disks_of(self, machine_id: str) -> AsyncIterator[None]:
        """Have the host told when the disks of a machine fail, before anybody else is."""
        try:
            yield
        except OSError as error:
            if is_of_disks(error):
                await self._tell_failure(machine_id, f"its disks fail: {error}")
            raise

    async def _tell_failure(self, machine_id: str, cause: str) -> None:
        try:
            await _bounded(self._failed(machine_id, cause))
        except RefusedError as refusal:
            # The host's own records may lie on the same disk; the sender is told all the same.
            log.error("failure_not_noted", machine_id=machine_id, cause=refusal.message)  # noqa: TRY400 -- the cause says it

    async def _ask_host(self, connection: Connection, peer: str, head: RequestHead) -> Answer:
        if head.method not in CONTROL_METHODS:
            raise HttpError(HTTPStatus.METHOD_NOT_ALLOWED, f"{head.method} is not served here")
        length = content_length(head.headers)
        if length is None:
            raise HttpError(HTTPStatus.LENGTH_REQUIRED, "a request needs a Content-Length")
        if length > CONTENT_BYTES_MAX:
            raise HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the request is over 1 MiB")
        body = bytearray(length)
        async with asyncio.timeout(CONTENT_SECONDS_MAX):
            await ConnectionBody(connection, length).read_into(memoryview(body))
        status, answer = await _bounded(self._control(peer, head.method, head.path, bytes(body)))
        return HTTPStatus(status), answer, JSON

    async def _give_digests(self, peer: str, head: RequestHead) -> Answer:
        if head.method != "GET":
            raise HttpError(HTTPStatus.METHOD_NOT_ALLOWED, "digests are read with GET")
        header = announced_transfer(head)
        wanted = DigestRange.parse(head.path)
        machine_id = await _bounded(self._authorize_transfer(peer, header))
        try:
            async with self._disks_of(machine_id):
                found = await self._backend.digests(
                    machine_id, wanted.disk, wanted.first, wanted.count
                )
        except ValueError as error:
            raise HttpError(HTTPStatus.BAD_REQUEST, str(error)) from error
        return HTTPStatus.OK, found, BYTES

    async def _give_allocated(self, peer: str, head: RequestHead) -> Answer:
        if head.method != "GET":
            raise HttpError(HTTPStatus.METHOD_NOT_ALLOWED, "what is allocated is read with GET")
        header = announced_transfer(head)
        disk, first = allocated_from(head.path)
        machine_id = await _bounded(self._authorize_transfer(peer, header))
        try:
            async with self._disks_of(machine_id):
                runs = await self._backend.allocated(machine_id, disk, first)
        except ValueError as error:
            raise HttpError(HTTPStatus.BAD_REQUEST, str(error)) from error
        return HTTPStatus.OK, encode_runs(runs), BYTES

    async def _give_copied(self, peer: str, head: RequestHead) -> Answer:
        header = announced_transfer(head)
        machine_id = await _bounded(self._authorize_transfer(peer, header))
        async with self._disks_of(machine_id):
            place = await self._backend.copied(machine_id, header)
        return HTTPStatus.OK, encode_place(place), JSON

    async def _take_transfer(self, connection: Connection, peer: str, head: RequestHead) -> None:
        if head.method != "PUT":
            raise HttpError(HTTPStatus.METHOD_NOT_ALLOWED, "transfers are sent with PUT")
        header = announced_transfer(head)
        length = content_length(head.headers)
        machine_id = await _bounded(self._authorize_transfer(peer, header))
        async with self._turn():
            try:
                async with self._disks_of(machine_id):
                    opened = await self._backend.open_transfer(machine_id, header)
                    await self._faults.reach("simulator.opened")
                    if isinstance(opened, AppliedCut):
                        applied = opened
                    else:
                        body = ConnectionBody(connection, length)
                        if "expect" in head.headers:
                            await self._invite(connection, machine_id, opened)
                        applied = await self._take(peer, machine_id, header, body, opened)
            except ConnectionAbortedError as error:
                raise TransferRefusedError(Code.INVALID_STATE, str(error)) from error
            except ConnectionError:
                raise
            except OSError as error:
                log.error("transfer_failed", cause=str(error) or type(error).__name__)  # noqa: TRY400 -- the cause says it
                await _answer(connection, failure_answer(error))
                return
            await self._faults.reach("simulator.committed")
            await _bounded(self._applied(machine_id, applied))
            await self._faults.reach("simulator.noted")
            await _answer(connection, (HTTPStatus.OK, encode_applied(applied), JSON))
            await self._faults.reach("simulator.answered")
            if isinstance(opened, Incoming):
                await self._apply(machine_id)
                await self._faults.reach("simulator.applied")

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        transfers = self._transfers
        try:
            async with asyncio.timeout(TURN_SECONDS_MAX):
                await transfers.acquire()
        except TimeoutError:
            raise HttpError(
                HTTPStatus.SERVICE_UNAVAILABLE, "too many transfers; try again later"
            ) from None
        try:
            yield
        finally:
            transfers.release()

    async def _apply(self, machine_id: str) -> None:
        try:
            await self._backend.apply_committed(machine_id)
        except (OSError, BackendStateError) as error:
            # The redo log stays: the next transfer, a failover or a start applies it.
            log.error("apply_failed", machine_id=machine_id, cause=str(error))  # noqa: TRY400 -- the cause says it
            await self._tell_failure(machine_id, f"what it holds cannot be applied: {error}")

    async def _invite(self, connection: Connection, machine_id: str, opened: Incoming) -> None:
        try:
            await connection.write(invitation(connection.proof))
        except BaseException:
            await self._backend.end_transfer(machine_id, opened)
            raise

    async def _take(
        self,
        peer: str,
        machine_id: str,
        header: TransferHeader,
        body: ConnectionBody,
        incoming: Incoming,
    ) -> AppliedCut:
        try:
            async with incoming.droppable():
                await incoming.receive(body)
                await self._faults.reach("simulator.received")
                # The epoch may have passed this sender by while its bytes were on their way.
                await _bounded(self._authorize_transfer(peer, header))
            return await self._backend.commit_transfer(machine_id, incoming)
        finally:
            await self._backend.end_transfer(machine_id, incoming)


def _close_unserved(accepted: socket.socket, handling: asyncio.Task[None]) -> None:
    # A task that is cancelled before its first step has never seen its socket.
    if handling.cancelled():
        accepted.close()


async def _bounded(waiting: Awaitable[T]) -> T:
    async with asyncio.timeout(CALLBACK_SECONDS_MAX):
        return await waiting


async def _answer(connection: Connection, answer: Answer) -> None:
    status, body, content_type = answer
    await connection.write(response(status, body, content_type, connection.proof))
    if status >= HTTPStatus.BAD_REQUEST:
        await connection.discard_input(LINGER_SECONDS_MAX)
    await connection.close(LINGER_SECONDS_MAX)
