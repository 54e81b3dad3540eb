"""The store in PostgreSQL: one connection writes, one hears hints, a few read; all come back."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, NoReturn, TypeVar

import asyncpg
import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from service_hub.domain.errors import (
    RefusedChangeError,
    StorageUnavailableError,
)
from service_hub.ports.changes import NOTHING_STORED, Applied, Change, Lease, Ring
from service_hub.ports.surroundings import NO_FAULTS, FaultPoints
from service_hub.store.batch_facts import questions
from service_hub.store.batch_plan import Outcome, plan
from service_hub.store.postgres_connections import LOST, Address, Connection, told
from service_hub.store.postgres_writer import (
    BEGIN,
    CHANNEL,
    NOW_MS,
    payloads,
    read_facts,
    rings_in,
    write,
)
from service_hub.store.record_store import RecordStore

RECONNECT_SECONDS: Final = 1.0
BELL_SECONDS: Final = 10.0
"""How often the connection that hears hints is tried: nothing else is said on it."""

OUTCOME_SECONDS_MAX: Final = 20.0
"""How long we ask what became of a commit whose answer was lost."""

JOBS_TOPIC: Final = "jobs"

_HELD: Final = (
    "(job_id, owner, fence) IN (SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[]))"
)
_CLAIM: Final = f"""
    UPDATE job_lease SET owner = $1, fence = fence + 1, held_until = {NOW_MS} + $2::bigint
    WHERE job_id IN (
        SELECT job_id FROM job_lease WHERE held_until < {NOW_MS}
        ORDER BY held_until LIMIT $3 FOR UPDATE SKIP LOCKED
    )
    RETURNING job_id, owner, fence
"""  # noqa: S608 -- our own words, here and below
_RENEW: Final = (
    f"UPDATE job_lease SET held_until = {NOW_MS} + $4::bigint WHERE {_HELD}"  # noqa: S608
    " RETURNING job_id, owner, fence"
)
_RELEASE: Final = f"UPDATE job_lease SET owner = '', held_until = 0 WHERE {_HELD}"  # noqa: S608

T = TypeVar("T")
_BROKEN: Final = (asyncpg.PostgresError, *LOST, OSError)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """What came of a transaction that is not committed yet, and its name."""

    result: T
    transaction: str


class PostgresStore(RecordStore):
    """Writes are one after the other, over all hubs (see postgres_writer)."""

    def __init__(
        self,
        *,
        where: Address,
        reader: AsyncEngine,
        faults: FaultPoints = NO_FAULTS,
    ) -> None:
        super().__init__()
        self._where = where
        self._reader = reader
        self._at_once = reader.execution_options(isolation_level="AUTOCOMMIT")
        self._faults = faults
        self._lease_ms = int(where.lease_seconds * 1000)
        self._turn = asyncio.Lock()
        self._writer: Connection | None = None

    # ------------------------------------------------------------------------------- reading

    async def _read(self, question: Callable[[sa.Connection], T]) -> T:
        return await self._answered(self._at_once, question)

    async def _read_moment(self, question: Callable[[sa.Connection], T]) -> T:
        return await self._answered(self._reader, question)

    async def _answered(self, engine: AsyncEngine, question: Callable[[sa.Connection], T]) -> T:
        async def answer() -> T:
            async with engine.connect() as connection:
                return await connection.run_sync(question)

        try:
            return await answer()
        except (StorageUnavailableError, *_BROKEN):
            _end_if_asked()
            # The connection may have been broken long before it was used: once more on a new one.
            try:
                return await answer()
            except _BROKEN as error:
                self._raise(error)

    # ------------------------------------------------------------------------------- writing

    async def apply(self, changes: Sequence[Change]) -> Applied:
        """Store a batch in one transaction, each change whole or not at all."""
        await self._faults.reach("store.before_apply")
        try:
            outcomes = await self._write(lambda line: self._batch(line, changes))
        except (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError):
            # A rule of the tables is broken: find out by whom, and let the others go on.
            outcomes = await self._write(lambda line: self._one_by_one(line, changes))
        await self._faults.reach("store.after_apply")
        return outcomes

    async def _batch(self, line: Connection, changes: Sequence[Change]) -> Done[Applied]:
        read = await read_facts(line, questions(changes))
        made = plan(changes, read.facts)
        await write(line, made, self._lease_ms)
        self._faults.reach_now("store.in_transaction")
        return Done(Applied(made.outcomes, made.stored), read.transaction)

    async def _one_by_one(self, line: Connection, changes: Sequence[Change]) -> Done[Applied]:
        outcomes: list[Outcome] = []
        stored, transaction = NOTHING_STORED, ""
        for change in changes:
            await line.execute("SAVEPOINT change")
            try:
                read = await read_facts(line, questions([change]))
                transaction = read.transaction
                made = plan([change], read.facts)
                await write(line, made, self._lease_ms)
            except (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError) as error:
                await line.execute("ROLLBACK TO SAVEPOINT change")
                outcomes.append(RefusedChangeError(f"the database refuses it: {error}"))
            else:
                outcomes += made.outcomes
                stored += made.stored
        self._faults.reach_now("store.in_transaction")
        return Done(Applied(outcomes, stored), transaction)

    async def claim(self, owner: str, seconds: float, limit: int) -> list[Lease]:
        """Take jobs that nobody holds, at most `limit`, each under a raised fence."""
        return await self._write(
            lambda line: _leases(line, _CLAIM, owner, int(seconds * 1000), limit)
        )

    async def renew(self, held: Sequence[Lease], seconds: float) -> list[Lease]:
        """Prolong exactly these leases; return those that are still held."""
        if not held:
            return []
        milliseconds = int(seconds * 1000)
        return await self._write(lambda line: _leases(line, _RENEW, *_parts(held), milliseconds))

    async def release(self, held: Sequence[Lease]) -> None:
        """Let others claim these now, and tell them so."""
        if not held:
            return

        async def let_go(line: Connection) -> Done[None]:
            transaction = await _transaction_of(line)
            await line.execute(_RELEASE, *_parts(held))
            for payload in payloads([Ring(JOBS_TOPIC, "")]):
                await line.execute("SELECT pg_notify($1, $2)", CHANNEL, payload)
            return Done(None, transaction)

        await self._write(let_go)

    async def _write(self, act: Callable[[Connection], Awaitable[Done[T]]]) -> T:
        """Act in a transaction under the lock of all hubs; all of it or nothing is stored.

        StorageUnavailableError: nothing is, or we could not learn whether anything is.
        """
        async with self._turn:
            try:
                line = await self._line()
                await line.execute(BEGIN)
                done = await act(line)
            except BaseException as error:  # noqa: BLE001 -- raised again, in our own words
                await self._undo()
                self._raise(error)
            try:
                await line.execute("COMMIT")
            except _BROKEN as error:
                self._hang_up()
                if not await self._was_committed(done.transaction):
                    self._raise(error)
            except BaseException:
                self._hang_up()
                raise
            return done.result

    async def _line(self) -> Connection:
        if self._writer is None or self._writer.is_closed():
            self._writer = await self._where.connect("writer")
        return self._writer

    async def _undo(self) -> None:
        line = self._writer
        if line is None or line.is_closed():
            return
        try:
            await line.execute("ROLLBACK")
        except _BROKEN as error:
            log.warning("database_connection_dropped", cause=str(error))
            self._hang_up()

    def _hang_up(self) -> None:
        """End the connection at once: the server undoes what was not committed."""
        if self._writer is not None:
            self._writer.terminate()
            self._writer = None

    async def _was_committed(self, transaction: str) -> bool:
        """Ask what became of a transaction whose answer was lost; False also when it is unknown."""
        try:
            async with asyncio.timeout(OUTCOME_SECONDS_MAX):
                while True:
                    try:
                        line = await self._line()
                        state = await line.fetchval(
                            "SELECT pg_xact_status(CAST(CAST($1 AS text) AS xid8))", transaction
                        )
                    except _BROKEN:
                        self._hang_up()
                        state = None
                    if state in {"committed", "aborted"}:
                        log.warning("commit_outcome_learnt", outcome=state)
                        return bool(state == "committed")
                    await asyncio.sleep(RECONNECT_SECONDS)
        except TimeoutError:
            log.warning("commit_outcome_unknown")
            return False

    def _raise(self, error: BaseException) -> NoReturn:
        _end_if_asked()
        meant = told(self._where.settings, error)
        if meant is error:
            raise error
        raise meant from error

    # ------------------------------------------------------------------------------- hints

    async def hear(self) -> None:
        """Hear the hints of other hubs, over a connection that is made anew when it breaks."""
        away = False
        while True:
            try:
                line = await self._where.connect("bell")
                if away:
                    log.info("database_bell_back")
                away = False
                await self._hear_on(line)
            except _BROKEN as error:
                if not away:
                    log.warning("database_bell_away", cause=str(error))
                away = True
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _hear_on(self, line: Connection) -> None:
        """Hear until the connection ends; a network that says nothing any more is noticed too."""
        ended = asyncio.Event()
        line.add_termination_listener(lambda _line: ended.set())
        try:
            await line.add_listener(CHANNEL, self._heard)
            while not ended.is_set():
                try:
                    async with asyncio.timeout(BELL_SECONDS):
                        await ended.wait()
                except TimeoutError:
                    await line.execute("SELECT 1")
        finally:
            line.terminate()

    def _heard(self, _line: object, sender: int, _channel: str, payload: object) -> None:
        own = self._writer is not None and not self._writer.is_closed()
        if own and self._writer is not None and sender == self._writer.get_server_pid():
            return  # Who commits knows it already.
        self._bells.tell(rings_in(str(payload)))

    async def close(self) -> None:
        """End all connections."""
        async with self._turn:
            self._hang_up()
        await self._reader.dispose()


async def _transaction_of(line: Connection) -> str:
    return str(await line.fetchval("SELECT CAST(pg_current_xact_id() AS text)"))


def _end_if_asked() -> None:
    """Raise CancelledError where who waits was cancelled: a broken connection hides that.

    Else a loop that goes on after each failure would never hear that it is to end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _leases(line: Connection, statement: str, *values: object) -> Done[list[Lease]]:
    transaction = await _transaction_of(line)
    return Done([Lease(*row) for row in await line.fetch(statement, *values)], transaction)


def _parts(held: Sequence[Lease]) -> tuple[list[str], list[str], list[int]]:
    return (
        [lease.job_id for lease in held],
        [lease.owner for lease in held],
        [lease.fence for lease in held],
    )
