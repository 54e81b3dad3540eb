import asyncio
import sqlite3
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from provider_agent.domain.inbox import (
    CommandState,
    NewIds,
    Place,
    Verdict,
    VerifiedEvent,
    read_event,
)
from provider_agent.journal import Journal
from provider_agent.journal_errors import JournalError
from provider_agent.outcomes import succeeded, withdrawn_outcome
from tests.unit.agent.agent_views import machine
from wire_contract.events import Assignment
from wire_contract.reports import MachineObserved, Receipt, Report, StreamPosition, TaskOutcome
from wire_contract.vocabulary import ReceiptKind

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent" / "journal.db"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    async with Journal.open(path, "journal-1") as opened:
        await opened.follow(StreamPosition(stream="stream-1", seq=0))
        yield opened


def event(seq: int, job: str = "job-1", **changes: Any) -> VerifiedEvent:
    later = (NOW + timedelta(minutes=5)).isoformat()
    body: dict[str, Any] = {"job": job, "task": "Task.Primary", "attempt": 1, "fence": 1}
    kind = changes.pop("type", "assignment")
    if kind == "assignment":
        body |= {"item": "item-1", "target": "machine-1", "epoch": 2, "verb": "start"}
        body |= {"arguments": {}, "deadline": later}
    payload = {
        "id": f"event-{seq}",
        "vault": "v",
        "aud": "provider-1",
        "stream": "stream-1",
        "seq": seq,
        "issued_at": NOW.isoformat(),
        "expires_at": later,
        "type": kind,
        "body": {**body, **changes},
    }
    return read_event(payload, "provider-1")


def outcome_of(verdict: Verdict, report_id: str) -> Report | None:
    return withdrawn_outcome(verdict, report_id, NOW)


async def receive(journal: Journal, received: VerifiedEvent) -> Place | Verdict:
    ids = NewIds(receipt=str(uuid4()), outcome=str(uuid4()))
    return await journal.receive(received, NOW, ids, outcome_of)


async def outbox(journal: Journal) -> tuple[Report, ...]:
    return await journal.outbox(100, 2**20)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 9] = b"\xee" * 4096 * 6
    path.write_bytes(data)


def observation(report_id: str) -> MachineObserved:
    return MachineObserved(report_id=report_id, observed_at=NOW, machine=machine())


async def test_cursor_receipt_and_command_are_there_after_a_crash(path: Path) -> None:
    async with Journal.open(path, "journal-1") as journal:
        await journal.follow(StreamPosition(stream="stream-1", seq=0))
        await receive(journal, event(1))
    async with Journal.open(path, "another id") as journal:
        assert journal.journal_id == "journal-1"
        assert await journal.position() == StreamPosition(stream="stream-1", seq=1)
        (receipt,) = await outbox(journal)
        assert isinstance(receipt, Receipt)
        assert receipt.receipt is ReceiptKind.ACCEPTED
        (work,) = await journal.unfinished()
        assert work.assignment.command_id == "job-1/Task.Primary/1"
        assert work.state is CommandState.ACCEPTED
        assert work.expires_at == NOW + timedelta(minutes=5)


async def test_only_the_next_event_is_taken_in(journal: Journal) -> None:
    assert await receive(journal, event(2)) is Place.AHEAD
    assert isinstance(await receive(journal, event(1)), Verdict)
    assert await receive(journal, event(1)) is Place.BEHIND
    await journal.follow(StreamPosition(stream="stream-2", seq=0))
    assert await receive(journal, event(2)) is Place.OTHER_STREAM
    assert len(await outbox(journal)) == 1


async def test_a_command_is_begun_until_it_is_finished_and_finished_once(journal: Journal) -> None:
    await receive(journal, event(1))
    (work,) = await journal.unfinished()
    command_id = work.assignment.command_id
    assert await journal.begin(command_id)
    assert await journal.begin(command_id)
    (work,) = await journal.unfinished()
    assert work.state is CommandState.EXECUTING
    first, second = (succeeded(work.assignment, each, NOW, {}) for each in ("r-1", "r-2"))
    assert await journal.finish(command_id, first)
    assert not await journal.finish(command_id, second)
    assert not await journal.begin(command_id)
    assert await journal.unfinished() == ()
    assert [r.report_id for r in await outbox(journal) if isinstance(r, TaskOutcome)] == ["r-1"]


async def test_a_withdrawn_command_cannot_begin_and_one_begun_cannot_be_withdrawn(
    journal: Journal,
) -> None:
    await receive(journal, event(1, "job-1"))
    await receive(journal, event(2, "job-2"))
    assert await journal.begin("job-2/Task.Primary/1")
    await receive(journal, event(3, "job-1", type="withdrawal"))
    await receive(journal, event(4, "job-2", type="withdrawal"))
    assert not await journal.begin("job-1/Task.Primary/1")
    assert await journal.begin("job-2/Task.Primary/1")
    outcomes = [each for each in await outbox(journal) if isinstance(each, TaskOutcome)]
    assert [(each.job, each.error and each.error.code) for each in outcomes] == [("job-1", 90002)]


async def test_a_command_withdrawn_before_it_came_is_a_duplicate_when_it_comes(
    journal: Journal,
) -> None:
    await receive(journal, event(1, type="withdrawal"))
    verdict = await receive(journal, event(2))
    assert isinstance(verdict, Verdict)
    assert verdict.receipt is ReceiptKind.DUPLICATE
    assert await journal.unfinished() == ()


async def test_the_highest_fence_and_epoch_are_kept_and_told(journal: Journal) -> None:
    await receive(journal, event(1, "job-1", fence=5, epoch=9))
    await receive(journal, event(2, "job-2", fence=2, epoch=9, item="item-2"))
    await receive(journal, event(3, "job-1", fence=4, epoch=9, attempt=2))
    await receive(journal, event(4, "job-1", fence=6, epoch=8, attempt=3))
    facts = await journal.begin_session()
    assert facts.fences == {"job-1": 5, "job-2": 2}
    assert facts.epochs == {"item-1": 9, "item-2": 9}
    assert (await journal.begin_session()).session == facts.session + 1


async def test_a_newer_view_of_a_machine_takes_the_older_ones_place(journal: Journal) -> None:
    await journal.put((observation("r-1"), "machine/a"), (observation("r-2"), "machine/b"))
    await journal.put((observation("r-3"), "machine/a"))
    assert [each.report_id for each in await outbox(journal)] == ["r-2", "r-3"]


async def test_reports_leave_when_they_are_delivered_or_set_aside(journal: Journal) -> None:
    for report_id in ("r-1", "r-2", "r-3"):
        await journal.put((observation(report_id), None))
    assert await journal.delivered(["r-1", "unknown"]) == 1
    await journal.set_aside("r-2", "refused")
    assert [each.report_id for each in await outbox(journal)] == ["r-3"]


async def test_a_batch_has_a_limit_of_number_and_of_bytes_but_is_never_empty(
    journal: Journal,
) -> None:
    for number in range(5):
        await journal.put((observation(f"r-{number}"), None))
    assert len(await journal.outbox(2, 2**20)) == 2
    assert len(await journal.outbox(100, 1)) == 1


async def test_many_at_a_time_do_not_get_in_each_others_way(journal: Journal) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(40):
            group.create_task(journal.put((observation(f"r-{number}"), None)))
            group.create_task(journal.position())
    assert len(await journal.outbox(500, 2**30)) == 40


async def test_an_amended_command_is_repeated_as_amended(journal: Journal) -> None:
    await receive(journal, event(1))
    (work,) = await journal.unfinished()
    amended: Assignment = work.assignment.model_copy(update={"arguments": {"certificates": [1]}})
    await journal.amend(amended)
    (work,) = await journal.unfinished()
    assert work.assignment.arguments == {"certificates": [1]}


async def test_the_journal_is_for_its_owner_alone(journal: Journal, path: Path) -> None:
    assert await journal.unfinished() == ()
    assert mode_of(path) == 0o600


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\0" + b"\xff" * 999])
async def test_a_damaged_journal_says_so_and_what_to_do(path: Path, content: bytes) -> None:
    write(path, content)
    with pytest.raises(JournalError, match=r"journal\.db is damaged .*; move it away"):
        async with Journal.open(path, "journal-1"):
            pass


async def test_a_journal_damaged_in_the_middle_is_found_at_the_start(path: Path) -> None:
    async with Journal.open(path, "journal-1") as journal:
        await journal.put(*((observation(f"r-{number}"), None) for number in range(300)))
    spoil(path)
    with pytest.raises(JournalError, match="is damaged"):
        async with Journal.open(path, "journal-1"):
            pass


async def test_another_programs_database_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    with pytest.raises(JournalError, match="no journal of this program"):
        async with Journal.open(path, "journal-1"):
            pass


async def test_a_journal_of_a_later_version_is_not_touched(path: Path) -> None:
    async with Journal.open(path, "journal-1"):
        pass
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(JournalError, match="has version 99"):
        async with Journal.open(path, "journal-1"):
            pass


async def test_a_journal_that_cannot_be_made_names_its_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot open the journal"):
        async with Journal.open(tmp_path / "file" / "journal.db", "journal-1"):
            pass
