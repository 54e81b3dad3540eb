"""A copy of a process has files of its own, and the first process goes on as if it had not been."""

import asyncio
import fcntl
import mmap
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import chdir
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.kill_forks import Forks
from tests.support.played_loop import PlayedLoop

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

WORLD = Path("world")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The folder of which a copy gets its own, below the working directory."""
    home = tmp_path / "home"
    (home / WORLD / "part").mkdir(parents=True)
    with chdir(home):
        yield WORLD / "part"


def copied(go_on: Callable[[], str]) -> str:
    """Return what a copy of this process comes to."""

    async def fork() -> str:
        forks = Forks(Path.cwd() / WORLD)
        answer = forks.fork()
        if answer is None:
            try:
                forks.answer(go_on())
            except Exception as error:  # noqa: BLE001 -- the copy must not go on as a test
                forks.answer("", repr(error))
        assert answer is not None
        assert not answer.failure, answer.failure
        return answer.picture

    with asyncio.Runner(loop_factory=lambda: PlayedLoop(datetime.now(UTC), "seed")) as runner:
        return runner.run(fork())


def numbers(database: sqlite3.Connection) -> str:
    return str([row[0] for row in database.execute("SELECT number FROM numbers ORDER BY number")])


def test_a_database_in_a_transaction_goes_on_in_both(folder: Path) -> None:
    first = sqlite3.connect(folder / "a.db", isolation_level=None)
    first.execute("PRAGMA journal_mode = WAL")
    first.execute("CREATE TABLE numbers (number INTEGER)")
    first.execute("BEGIN IMMEDIATE")
    first.execute("INSERT INTO numbers VALUES (1)")

    def go_on() -> str:
        first.execute("INSERT INTO numbers VALUES (2)")
        first.execute("COMMIT")
        first.execute("INSERT INTO numbers VALUES (3)")
        first.close()
        with sqlite3.connect(folder / "a.db") as again:
            return numbers(again)

    assert copied(go_on) == "[1, 2, 3]"
    first.execute("COMMIT")
    assert numbers(first) == "[1]"
    with sqlite3.connect(folder / "a.db") as second:
        second.execute("INSERT INTO numbers VALUES (4)")
    assert numbers(first) == "[1, 4]"
    assert copied(lambda: numbers(first)) == "[1, 4]", "also when SQLite has deleted files there"
    first.close()


def test_mapped_and_locked_files_are_its_own(folder: Path) -> None:
    (folder / "mapped").write_bytes(b"before")
    file = os.open(folder / "mapped", os.O_RDWR)
    mapped = mmap.mmap(file, 6)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def go_on() -> str:
        mapped[:] = b"behind"
        other = os.open(folder / "mapped", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return (folder / "mapped").read_text()

    assert copied(go_on) == "behind"
    assert mapped[:] == b"before"
    assert (folder / "mapped").read_bytes() == b"before"
    mapped.close()
    os.close(file)


def test_a_copy_that_fails_says_why(folder: Path) -> None:
    with pytest.raises(AssertionError, match="FileNotFoundError"):
        copied((folder / "nothing").read_text)
