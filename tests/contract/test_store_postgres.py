"""Several hubs on one PostgreSQL, and the days on which it cannot be used.

Over 400 lines because each bad day is told whole, beside the server that it happens to.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from service_hub.database_settings import DatabaseSettings, DatabaseTls
from service_hub.domain.errors import StorageUnavailableError
from service_hub.domain.jobs import Job
from service_hub.ports.changes import NEW, Change, Message, Ring, Save
from service_hub.store import postgres_store
from service_hub.store.errors import DatabaseUnusableError
from service_hub.store.postgres_connections import address
from service_hub.store.postgres_database import (
    open_postgres_readers,
    open_postgres_store,
)
from service_hub.store.postgres_store import PostgresStore
from service_hub.store.postgres_writer import PAYLOAD_BYTES_MAX, payloads, rings_in
from tests.support.postgres_server import PostgresServer
from tests.support.store_world import began, event, job, stream

pytestmark = pytest.mark.needs("postgresql")

LEASE_SECONDS = 1.5
SECONDS_MAX = 30

opened = partial(open_postgres_store, lease_seconds=LEASE_SECONDS)


@pytest.fixture
def settings(postgres_server: PostgresServer, tmp_path: Path) -> DatabaseSettings:
    told = postgres_server.settings(postgres_server.emptied_database(), tmp_path / "password")
    return DatabaseSettings.model_validate(told)


def self_signed(address: str) -> tuple[str, str]:
    """Return a certificate for an address, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "database")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), False)  # noqa: FBT003 -- not critical
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)  # noqa: FBT003 -- critical
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


def saved(name: str) -> Change:
    return Change(saves=[Save(job(name), NEW)])


async def until_stored(store: PostgresStore, change: Change) -> int:
    """Store a change as an engine does: again, while the database cannot be used."""
    async with asyncio.timeout(SECONDS_MAX):
        while True:
            try:
                (outcome,) = await store.apply([change])
            except StorageUnavailableError:
                await asyncio.sleep(0.05)
                continue
            assert isinstance(outcome, int), outcome
            return outcome


class BrokenWhenCancelled:
    """An engine whose connection says that it is broken instead of that it was cancelled."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()

    def execution_options(self, **options: Any) -> "BrokenWhenCancelled":
        """Be the same whatever is wanted."""
        del options
        return self

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[None]:
        """Wait until cancelled."""
        self.reached.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise asyncpg.InterfaceError("connection is closed") from None
        yield


async def test_who_is_cancelled_over_a_broken_connection_ends(settings: DatabaseSettings) -> None:
    engine: Any = BrokenWhenCancelled()
    store = PostgresStore(where=address(settings, LEASE_SECONDS), reader=engine)
    asking = asyncio.create_task(store.messages(["j"]))
    await engine.reached.wait()
    asking.cancel()
    done, _ = await asyncio.wait({asking}, timeout=SECONDS_MAX)
    assert done
    assert asking.cancelled()


async def test_change_numbers_rise_over_all_hubs(settings: DatabaseSettings) -> None:
    async with (
        opened(settings) as one,
        opened(settings) as other,
    ):
        await one.apply([Change(saves=[Save(stream("p"), NEW)])])

        async def work(store: PostgresStore, name: str) -> list[int]:
            numbers: list[int] = []
            for round_number in range(10):
                events = [event("p", f"{name}-{round_number}-{n}") for n in range(5)]
                outcomes = await store.apply([Change(events=[each]) for each in events])
                numbers += [each for each in outcomes if isinstance(each, int)]
            return numbers

        first, second = await asyncio.gather(work(one, "one"), work(other, "other"))
        assert sorted([*first, *second]) == list(range(2, 102))
        assert [each.seq for each in await one.events_after("p", 0, 1000)] == list(range(1, 101))
        # Who read before the other's commit is told so.
        await one.apply([saved("j")])
        changes = [Change(saves=[Save(job("j"), 1)])]
        outcomes = await asyncio.gather(one.apply(changes), other.apply(changes))
        assert sorted(type(each[0]).__name__ for each in outcomes) == ["StaleVersionError", "int"]


async def test_hubs_that_start_together_make_the_tables_once(
    postgres_server: PostgresServer, postgres_database: str, tmp_path: Path
) -> None:
    told = postgres_server.settings(postgres_database, tmp_path / "password")
    settings = DatabaseSettings.model_validate(told)

    async def start(name: str) -> None:
        async with opened(settings) as store:
            await store.apply([saved(name)])

    await asyncio.gather(*(start(f"hub-{number}") for number in range(3)))
    async with open_postgres_readers(settings) as store:
        assert len(await store.find(Job)) == 3
    postgres_server.run("UPDATE alembic_version SET version_num = '9999'", postgres_database)
    with pytest.raises(DatabaseUnusableError, match=r"newer version \(schema 9999\)"):
        await start("too old")


async def test_other_hubs_hear_what_was_committed_and_not_their_own(
    settings: DatabaseSettings,
) -> None:
    async with (
        opened(settings) as one,
        opened(settings) as other,
    ):
        await one.apply([Change(saves=[Save(stream("p"), NEW)]), began(["j"])])
        await hearing(one, other)
        heard: list[Ring] = []
        own: list[Ring] = []
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(collect(other, heard)),
                group.create_task(collect(one, own)),
            ]
            await asyncio.sleep(0)
            undone = Change(saves=[Save(job("j"), 7)], rings=[Ring("kick", "undone")])
            told = Change(
                events=[event("p", "e1"), event("p", "e2")],
                messages=[Message("m", "j", "{}")],
                rings=[Ring("kick", "p")],
            )
            await one.apply([undone, told])
            await one.release(await one.claim("hub", 0.01, 10))
            async with asyncio.timeout(SECONDS_MAX):
                while Ring("kick", "p") not in heard:
                    await asyncio.sleep(0.01)
            for task in tasks:
                task.cancel()
        assert heard == [Ring("outbox", "p"), Ring("inbox", "j"), Ring("kick", "p")]
        assert own == []


async def collect(store: PostgresStore, into: list[Ring]) -> None:
    async for ring in store.listen():
        into.append(ring)  # noqa: PERF401 -- told one by one, and looked at meanwhile


async def hearing(speaker: PostgresStore, listener: PostgresStore) -> None:
    """Wait until one hub hears the other: its connection for that is made when it is made."""
    heard: list[Ring] = []
    async with asyncio.timeout(SECONDS_MAX), asyncio.TaskGroup() as group:
        task = group.create_task(collect(listener, heard))
        while not heard:
            await until_stored(speaker, Change(rings=[Ring("test", "")]))
            await asyncio.sleep(0.02)
        task.cancel()


async def test_broken_connections_come_back(
    settings: DatabaseSettings, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_store, "BELL_SECONDS", 0.02)
    async with (
        opened(settings) as one,
        opened(settings) as other,
    ):
        await one.apply([saved("before")])
        assert await other.get(Job, "before") is not None
        # While nothing breaks, the connection that hears is only tried.
        await asyncio.sleep(0.1)
        assert postgres_server.end_connections(settings.name) >= 4
        await until_stored(one, saved("after"))
        async with asyncio.timeout(SECONDS_MAX):
            assert await other.get(Job, "after") is not None
        await hearing(one, other)
        assert len(await one.find(Job)) == 2


async def test_a_server_that_restarts_is_waited_for(
    settings: DatabaseSettings, postgres_server: PostgresServer
) -> None:
    async with opened(settings) as store:
        await store.apply([saved("before")])
        postgres_server.stop()
        try:
            with pytest.raises(StorageUnavailableError, match="database server runs"):
                await store.apply([saved("lost")])
            with pytest.raises(StorageUnavailableError):
                await store.find(Job)
        finally:
            postgres_server.start()
        await until_stored(store, saved("after"))
        assert {each.record.id for each in await store.find(Job)} == {"before", "after"}


async def test_a_hub_that_pauses_in_a_transaction_holds_others_up_only_so_long(
    settings: DatabaseSettings,
) -> None:
    async with opened(settings) as store:
        paused = await address(settings, LEASE_SECONDS).connect("writer")
        await paused.execute("BEGIN")
        await paused.execute("UPDATE change_counter SET number = number + 1000")
        async with asyncio.timeout(SECONDS_MAX):
            assert await store.apply([saved("j")]) == [1]
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
            await paused.execute("COMMIT")
        paused.terminate()


@asynccontextmanager
async def cutting_relay(port: int, cut: Callable[[bytes], str | None]) -> AsyncIterator[int]:
    """Relay connections; where `cut` names a place, break one "before" or "after" it is sent on."""
    writers: list[asyncio.StreamWriter] = []

    async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            target.write(data)
        target.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        writers.extend((writer, server_writer))

        async def to_server() -> None:
            while data := await reader.read(65536):
                where = cut(data)
                if where != "before":
                    server_writer.write(data)
                    await server_writer.drain()
                if where is not None:
                    writer.transport.abort()
                    # The server must have the statement before the connection ends.
                    await server_reader.read(1)
                    server_writer.transport.abort()
                    return
            server_writer.close()

        async with asyncio.TaskGroup() as group:
            back = group.create_task(relayed_back(server_reader, writer))
            await to_server()
            back.cancel()

    async def relayed_back(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        await pass_on(source, target)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for each in writers:
            each.transport.abort()


@pytest.mark.parametrize("where", ["before", "after"])
async def test_what_became_of_a_commit_is_learnt_when_its_answer_is_lost(
    settings: DatabaseSettings, where: str
) -> None:
    armed = [False]

    def cut(data: bytes) -> str | None:
        if armed[0] and b"COMMIT" in data:
            armed[0] = False
            return where
        return None

    async with cutting_relay(settings.port, cut) as port:
        relayed = settings.model_copy(update={"port": port})
        async with opened(relayed) as store:
            await store.apply([saved("first")])
            armed[0] = True
            if where == "after":
                assert await store.apply([saved("second")]) == [2]
            else:
                with pytest.raises(StorageUnavailableError):
                    await store.apply([saved("second")])
            assert not armed[0]
            assert (await store.get(Job, "second") is not None) == (where == "after")
            await until_stored(store, saved("third"))


async def test_what_is_wrong_is_said_in_one_line_without_the_password(
    settings: DatabaseSettings, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    wrong_password = tmp_path / "wrong"
    wrong_password.touch(mode=0o600)
    wrong_password.write_text("pass-that-nobody-has")
    unreachable = {"port": 1}

    async def refusal(**changes: object) -> str:
        with pytest.raises(DatabaseUnusableError) as caught:
            async with opened(settings.model_copy(update=changes)):
                pass
        text = str(caught.value)
        assert "\n" not in text
        assert postgres_server.password not in text
        assert "pass-that" not in text
        return text

    assert "password_file" in await refusal(password_file=wrong_password)
    assert "password_file" in await refusal(user="nobody")
    assert "CREATE DATABASE nowhere OWNER hub" in await refusal(name="nowhere")
    assert "cannot be reached" in await refusal(**unreachable)
    assert "TLS" in await refusal(tls=DatabaseTls.VERIFY)
    name = postgres_server.create_database()
    postgres_server.run(f"ALTER DATABASE {name} OWNER TO postgres")
    assert f"ALTER DATABASE {name} OWNER TO hub" in await refusal(name=name)
    postgres_server.drop_database(name)


async def test_tls_is_checked(
    settings: DatabaseSettings, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    other.write_text(self_signed("127.0.0.1")[0])
    root = tmp_path / "root.pem"
    root.write_text(postgres_server.offer_tls(*self_signed("127.0.0.1")))
    try:
        for tls, file in (("verify", root), ("require", None)):
            told = settings.model_copy(update={"tls": DatabaseTls(tls), "tls_root_file": file})
            async with opened(told) as store:
                await store.apply([Change()])
                # The connection that hears hints is made beside the others.
                async with asyncio.timeout(SECONDS_MAX):
                    while (
                        int(postgres_server.run("SELECT count(*) FROM pg_stat_ssl WHERE ssl")) < 2
                    ):
                        await asyncio.sleep(0.05)
        told = settings.model_copy(update={"tls": DatabaseTls.VERIFY, "tls_root_file": other})
        with pytest.raises(DatabaseUnusableError, match="TLS fails"):
            async with opened(told):
                pass
    finally:
        postgres_server.offer_no_tls()


async def test_a_database_without_tables_cannot_be_read(
    postgres_server: PostgresServer, postgres_database: str, tmp_path: Path
) -> None:
    told = postgres_server.settings(postgres_database, tmp_path / "password")
    with pytest.raises(DatabaseUnusableError, match="cannot be used"):
        async with open_postgres_readers(DatabaseSettings.model_validate(told)) as store:
            await store.find(Job)


def test_hints_are_cut_into_what_one_notification_takes() -> None:
    rings = [Ring("outbox", f'provider-{number:05}-ü"') for number in range(2000)]
    said = list(payloads([*rings, Ring("outbox", "x" * PAYLOAD_BYTES_MAX)]))
    assert 5 < len(said) < 20
    assert all(len(each.encode()) <= PAYLOAD_BYTES_MAX for each in said)
    assert [ring for each in said for ring in rings_in(each)] == rings
    assert list(payloads([])) == []


@pytest.mark.parametrize("text", ["", "{", "[1]", '[["a"]]', "null", '{"a": 1}', "[" * 5000])
def test_a_hint_that_no_hub_of_ours_gave_means_nothing(text: str) -> None:
    assert rings_in(text) == []


Act = Callable[[PostgresStore], Awaitable[object]]


@pytest.mark.parametrize(
    "act",
    [
        lambda store: store.apply([saved("j")]),
        lambda store: store.claim("hub", 10, 10),
        lambda store: store.get(Job, "j"),
        lambda store: store.pages({"p": 0}, 10),
    ],
)
async def test_a_connection_that_was_broken_while_idle_costs_at_most_one_try(
    settings: DatabaseSettings, postgres_server: PostgresServer, act: Act
) -> None:
    async with opened(settings) as store:
        await store.apply([Change()])
        await store.find(Job)
        postgres_server.end_connections(settings.name)
        for _ in range(2):
            try:
                await act(store)
                break
            except StorageUnavailableError:
                continue
        else:
            pytest.fail("a second try did not help")
