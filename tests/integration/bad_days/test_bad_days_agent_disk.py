"""A real agent whose journal's disk is full, read-only or damaged, and what follows when it is not.

The journal is the only thing that the agent may not do without: without it nothing is
acknowledged, begun or told.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from provider_agent.journal import Journal
from provider_agent.journal_errors import JournalError
from tests.integration.agent_fakes.estate import Estate, estate
from tests.integration.agent_fakes.waiting import until
from tests.support.small_disk import SmallDisk, small_disk
from wire_contract.vocabulary import Verb

DISK_KIBIBYTES = 2048


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", DISK_KIBIBYTES) as given:
        yield given


@pytest.fixture
async def site(disk: SmallDisk) -> AsyncIterator[Estate]:
    async with estate(disk.folder) as made:
        made.vmm.add("machine-1")
        made.register()
        yield made


async def said(told: list[Any], event: str) -> None:
    await until(lambda: [line for line in told if line["event"] == event], f"{event} is logged")


async def test_what_comes_while_the_disk_is_full_is_done_once_there_is_room(
    site: Estate, disk: SmallDisk
) -> None:
    with structlog.testing.capture_logs() as told:
        async with site.agent():
            disk.fill()
            site.hub.assign("start", "machine-1", "job-1")
            await said(told, "journal_not_writable")
            (line,) = [each for each in told if each["event"] == "journal_not_writable"]
            assert "free space on its disk" in line["cause"]
            beats = len(site.hub.heartbeats)
            await until(lambda: len(site.hub.heartbeats) > beats, "it goes on being heard")
            assert site.hub.receipt(1) is None
            assert site.vmm.call_count(Verb.START, "machine-1") == 0
            disk.make_room()
            await until(lambda: site.hub.outcome("job-1"), "the task is done")
            await said(told, "journal_writable_again")
    assert site.vmm.effect_count(Verb.START, "machine-1") == 1


async def test_an_outcome_that_cannot_be_kept_is_told_once_there_is_room(
    site: Estate, disk: SmallDisk
) -> None:
    site.vmm.holds["start"] = asyncio.Event()
    with structlog.testing.capture_logs() as told:
        async with site.agent():
            site.hub.assign("start", "machine-1", "job-1")
            await until(lambda: site.vmm.call_count(Verb.START, "machine-1"), "the verb has begun")
            disk.fill()
            site.vmm.holds["start"].set()
            await said(told, "journal_not_writable")
            assert site.hub.outcome("job-1") is None
            disk.make_room()
            await until(lambda: site.hub.outcome("job-1"), "the outcome is told")
    outcome = site.hub.outcome("job-1")
    assert outcome is not None
    assert outcome.succeeded
    assert site.vmm.effect_count(Verb.START, "machine-1") == 1


async def test_killed_while_the_disk_is_full_it_goes_on_where_it_was(
    site: Estate, disk: SmallDisk
) -> None:
    with structlog.testing.capture_logs() as told:
        async with site.agent() as agent:
            disk.fill()
            site.hub.assign("start", "machine-1", "job-1")
            await said(told, "journal_not_writable")
            await agent.kill()
    disk.make_room()
    async with site.agent():
        await until(lambda: site.hub.outcome("job-1"), "the task is done")
    assert site.vmm.effect_count(Verb.START, "machine-1") == 1


@pytest.mark.parametrize("exists", [False, True])
async def test_a_read_only_disk_is_named_at_the_start_and_nothing_is_lost(
    disk: SmallDisk, exists: bool
) -> None:
    path = disk.folder / "agent" / "journal.db"
    if exists:
        async with Journal.open(path, "journal-1"):
            pass
    disk.forbid_writing()
    with pytest.raises(JournalError, match=r"(?i)read-?only.* writable|writable for this user"):
        async with Journal.open(path, "journal-2"):
            pass
    disk.allow_writing()
    async with Journal.open(path, "journal-3") as journal:
        assert journal.journal_id == ("journal-1" if exists else "journal-3")


async def test_a_full_disk_is_named_at_the_start(disk: SmallDisk) -> None:
    disk.fill()
    path = disk.folder / "agent" / "journal.db"
    with pytest.raises(JournalError, match=r"free space on its disk|make its folder writable"):
        async with Journal.open(path, "journal-1"):
            pass
    disk.make_room()
    async with Journal.open(path, "journal-2") as journal:
        assert await journal.position() is None
