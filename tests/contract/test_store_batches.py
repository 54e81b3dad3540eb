"""A batch comes to what its changes come to one after the other, whatever is in them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from service_hub.domain.errors import StaleVersionError
from service_hub.domain.jobs import Job, JobState
from service_hub.domain.records import ProviderStream
from service_hub.ports.changes import Change, Delete, Guard, Lease, Message, Ring, Save
from service_hub.ports.surroundings import NoFaults
from service_hub.store import sqlite_writer
from service_hub.store.sqlite_writer import BatchWriter
from service_hub.store.tables import METADATA
from tests.support.store_world import empty_database, entry, event, job, receipt, stream

LEASE_MS = 1000
EXAMPLES_MAX = 60

JOBS = st.sampled_from(["j1", "j2", "j3"])
PROVIDERS = st.sampled_from(["p1", "P2"])
VERSIONS = st.sampled_from([None, 0, 0, 1, 1, 2, 3])
FENCES = st.sampled_from([1, 1, 1, 2])
NUMBERS = st.integers(0, 4)
STATES = st.sampled_from([JobState.IN_PROGRESS, JobState.SUCCEEDED])


def few(each: st.SearchStrategy[object]) -> st.SearchStrategy[list[object]]:
    """Return mostly nothing, sometimes one or two."""
    return st.one_of(st.just([]), st.lists(each, min_size=1, max_size=2))


PARTS = {
    "saves": few(
        st.one_of(
            st.builds(Save, st.builds(job, JOBS, STATES), VERSIONS),
            st.builds(Save, st.builds(stream, PROVIDERS), VERSIONS),
        )
    ),
    "deletes": few(
        st.one_of(
            st.builds(Delete, st.just(Job), JOBS),
            st.builds(Delete, st.just(ProviderStream), PROVIDERS),
        )
    ),
    "log": few(st.builds(entry, JOBS, NUMBERS)),
    "guards": few(st.builds(Guard, JOBS, FENCES)),
    "begins": few(st.builds(Lease, JOBS, st.just("hub"), FENCES)),
    "ends": few(JOBS),
    "messages": few(st.builds(Message, st.sampled_from(["m1", "m2", "m3"]), JOBS, st.just("{}"))),
    "taken": few(st.sampled_from(["m1", "m2", "m3"])),
    "rings": few(st.builds(Ring, st.just("kick"), PROVIDERS)),
}
CHANGES = st.one_of(
    # An id comes twice, which is refused.
    st.builds(
        Change,
        events=few(st.builds(event, PROVIDERS, st.sampled_from([f"e{n}" for n in range(12)]))),
        **PARTS,
    ),
    # An event may be acknowledged by the very change that makes it; then no table knows its id.
    st.builds(
        Change,
        events=few(st.builds(event, PROVIDERS, st.uuids().map(str))),
        receipts=few(st.builds(receipt, PROVIDERS, st.integers(1, 6))),
        **PARTS,
    ),
)

START = [
    Change(saves=[Save(stream("p1"), 0), Save(stream("P2"), 0), Save(job("j1"), 0)]),
    Change(begins=[Lease("j1", "hub", 1)], events=[event("p1", f"first-{n}") for n in range(4)]),
]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[sa.Engine, sa.Engine]]:
    folder = tmp_path_factory.mktemp("batches")
    made = tuple(opened(folder / name) for name in ("together.db", "apart.db"))
    yield made[0], made[1]
    for engine in made:
        engine.dispose()


def opened(file: Path) -> sa.Engine:
    """Open an empty database that need not survive anything."""
    file.write_bytes(empty_database())
    engine = sa.create_engine(f"sqlite:///{file}")

    def configured(connection: object, _record: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]
        connection.execute("PRAGMA journal_mode=MEMORY")  # type: ignore[attr-defined]
        connection.execute("PRAGMA synchronous=OFF")  # type: ignore[attr-defined]

    sa.event.listen(engine, "connect", configured)
    sa.event.listen(engine, "begin", lambda line: line.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def emptied(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        for table in METADATA.sorted_tables:
            if table.name != "change_counter":
                connection.execute(sa.delete(table))
        connection.exec_driver_sql("UPDATE change_counter SET number = 0")


def content(engine: sa.Engine) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows; but until when a lease is held, which is the clock's."""
    found = {}
    with engine.connect() as connection:
        for table in METADATA.sorted_tables:
            columns = [column for column in table.c if column.name != "held_until"]
            rows = connection.execute(sa.select(*columns).order_by(*columns)).all()
            found[table.name] = [tuple(row) for row in rows]
    return found


@settings(max_examples=EXAMPLES_MAX)
@given(changes=st.lists(CHANGES, min_size=1, max_size=8))
def test_a_batch_is_its_changes_one_after_the_other(
    engines: tuple[sa.Engine, sa.Engine], changes: list[Change]
) -> None:
    writers = []
    for engine in engines:
        emptied(engine)
        writers.append(BatchWriter(engine, LEASE_MS))
        writers[-1].apply(START)
    outcomes = writers[0].apply(changes)
    singly = [writers[1].apply([change])[0] for change in changes]
    numbers = [each if isinstance(each, int) else None for each in outcomes]
    assert numbers == [each if isinstance(each, int) else None for each in singly]
    assert content(engines[0]) == content(engines[1])


def refused(outcomes: Sequence[int | StaleVersionError]) -> list[bool]:
    return [isinstance(each, StaleVersionError) for each in outcomes]


def test_what_another_writer_has_changed_is_not_remembered(
    engines: tuple[sa.Engine, sa.Engine],
) -> None:
    engine = engines[0]
    emptied(engine)
    one, other = BatchWriter(engine, LEASE_MS), BatchWriter(engine, LEASE_MS)
    one.apply(START)
    assert refused(other.apply([Change(saves=[Save(job("j1"), 1)])])) == [False]
    assert refused(one.apply([Change(saves=[Save(job("j1"), 1)])])) == [True]
    assert refused(one.apply([Change(saves=[Save(job("j1"), 2)])])) == [False]
    assert refused(other.apply([Change(ends=["j1"])])) == [False]
    assert refused(one.apply([Change(guards=[Guard("j1", 1)])])) == [True]


def test_what_a_failed_transaction_has_done_is_not_remembered(
    engines: tuple[sa.Engine, sa.Engine],
) -> None:
    engine = engines[0]
    emptied(engine)

    class Failing(NoFaults):
        def reach_now(self, name: str) -> None:
            if armed:
                raise OSError(name)

    armed = False
    writer = BatchWriter(engine, LEASE_MS, Failing())
    writer.apply(START)
    armed = True
    with pytest.raises(OSError, match=r"store\.in_transaction"):
        writer.apply([Change(saves=[Save(job("j1"), 1)], ends=["j1"])])
    armed = False
    assert refused(writer.apply([Change(saves=[Save(job("j1"), 2)])])) == [True]
    kept = Change(saves=[Save(job("j1"), 1)], guards=[Guard("j1", 1)])
    assert refused(writer.apply([kept])) == [False]


def test_few_remembered_are_as_good_as_many(
    engines: tuple[sa.Engine, sa.Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "RECORDS_KNOWN_MAX", 2)
    emptied(engines[0])
    writer = BatchWriter(engines[0], LEASE_MS)
    writer.apply(START)
    for version in range(1, 4):
        saves = [Save(job("j1"), version), Save(job(f"new{version}"), 0)]
        assert refused(writer.apply([Change(saves=saves)])) == [False]
        assert refused(writer.apply([Change(saves=saves)])) == [True]
