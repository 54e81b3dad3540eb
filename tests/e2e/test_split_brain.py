"""Two copies after an unplanned failover: what their guest processes do, and under which epochs.

One lab, whose two sites take turns: what a guest wrote is read from the disks and from the ledger
that it writes to, never from a state.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lab.layout import Layout
from lab.ledger_reading import read_ledger
from lab.measure import image_paths
from lab.operator_client import JobFailedError
from lab.operator_file import load_operator_file
from lab.process_table import process_facts
from lab.registration import wait_connected
from lab.story_protection import wait_protected
from lab.waiting import wait_for
from tests.support.disk_records import records_on
from tests.support.lab_commands import command, logged_in
from tests.support.lab_world import World, opened_world, raised_estate, watch
from vmm_simulator.guest.frames import LedgerEntry
from wire_contract.vocabulary import Direction

AWAY, BACK = Direction.PRIMARY_TO_RECOVERY, Direction.RECOVERY_TO_PRIMARY
SITES = {"tokyo": "vmm01.tokyo.contoso.example", "osaka": "vmm01.osaka.contoso.example"}
SECONDS_MAX = 90
SELF_FENCE_SECONDS = 6
RECORDS = 3

pytestmark = [pytest.mark.needs("mkfs.ext4"), pytest.mark.timeout(600)]


def lives(pid: int) -> bool:
    """Whether there is such a process; one that nobody has fetched yet has ended."""
    facts = process_facts(pid)
    return facts is not None and facts.state not in {"Z", "X"}


async def cut_off(world: World, site: str) -> None:
    """Let a site reach neither the other one nor the hub; everything in it goes on."""
    await world.sites[site].set_link(up=False)
    await world.lab("kill", f"{site}/agent", "--signal", "9")


async def in_contact(world: World, site: str) -> None:
    """Heal what was cut."""
    await world.sites[site].set_link(up=True)
    await world.lab("start", f"{site}/agent")
    await wait_connected(world.operator, [SITES[site]])


async def ledger(world: World) -> list[LedgerEntry]:
    """Return all that guests of the machine have written, at whichever site."""
    path = Layout.at(world.folder).ledger / "records.jsonl"
    found = await asyncio.to_thread(read_ledger, path)
    return list(found[world.item.item])


async def has_written(world: World, epoch: int, after: int) -> None:
    """Return once some records above a number were written under an epoch."""

    async def look() -> bool | None:
        mine = [each for each in await ledger(world) if each.epoch == epoch and each.number > after]
        return True if len(mine) >= RECORDS else None

    await wait_for(f"records under epoch {epoch}", look, SECONDS_MAX)


async def stopped(world: World, site: str, *, fenced: bool) -> dict[str, Any]:
    """Return a site's copy once it is off, and fenced or not."""

    async def look() -> dict[str, Any] | None:
        copy = await world.machine(site)
        return copy if copy["run_state"] == "Off" and copy["fenced"] is fenced else None

    return await wait_for(f"the copy at {site} to be off", look, SECONDS_MAX)


async def said(world: World) -> str:
    """Return what the item's health says of two copies."""
    return " ".join(
        f"{each.error_code}: {each.error_message}"
        for each in (await world.item.get()).health_errors or ()
    )


async def told_in(world: World, code: str) -> str:
    """Return the newest event of this code, once there is one."""

    async def look() -> str | None:
        events = world.operator.recovery.replication_events.list(*world.operator.scope)
        async for each in events:
            if each.properties is not None and each.properties.event_code == code:
                return str(each.properties.description)
        return None

    return await wait_for(f"an event {code}", look, SECONDS_MAX)


@contextlib.asynccontextmanager
async def never_two(world: World) -> AsyncIterator[None]:
    """Look at both copies all the while: two never run."""
    world.seen.clear()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(watch(world, stop))
        yield
        stop.set()
    assert world.seen
    for copies in world.seen:
        assert [each["run_state"] for each in copies.values()].count("Running") <= 1, copies


async def two_copies(world: World, source: str, direction: Direction) -> tuple[int, int]:
    """Fail over from a source that is cut off and goes on; return its guest's epoch and id."""
    before = await world.machine(source)
    # A guest writes under the epoch in which it was started, which may be that of before the hub.
    epoch = (await ledger(world))[-1].epoch
    other = "osaka" if source == "tokyo" else "tokyo"
    await cut_off(world, source)
    await world.item.unplanned_failover(direction)
    taken_over, left = await world.machine(other), await world.machine(source)
    assert taken_over["run_state"] == left["run_state"] == "Running"
    assert (left["epoch"], left["guest_pid"]) == (before["epoch"], before["guest_pid"])
    assert taken_over["epoch"] > left["epoch"] >= epoch
    assert lives(left["guest_pid"])
    assert lives(taken_over["guest_pid"])
    # Each writes on, from where the copy stood, under an epoch of its own.
    cut = int(taken_over["replication"]["last_cut_record"])
    for each in (epoch, int(taken_over["epoch"])):
        await has_written(world, each, cut)
    return epoch, int(left["guest_pid"])


async def is_fenced_at_first_contact(world: World, site: str, epoch: int, pid: int) -> int:
    """Heal the line: the source's guest ends; return how many records only it has."""
    assert "90041" in await said(world), "nobody warns of two copies"
    assert "may still run" in await told_in(world, "SRHSourceMayRun")
    await in_contact(world, site)
    copy = await stopped(world, site, fenced=True)
    assert not lives(pid)
    told = await told_in(world, "SRHCopyFenced")

    async def look() -> re.Match[str] | None:
        return re.search(r"90042: .*fenced.*holds (\d+) records", await said(world))

    found = await wait_for("the count of what the source wrote", look, SECONDS_MAX)
    assert f"holds {found[1]} records" in told
    written = [each.number for each in await ledger(world) if each.epoch == epoch]
    assert copy["replication"]["last_record"] >= max(written), "a record was not counted"
    return int(found[1])


async def kept(world: World) -> None:
    """The source's disks are set aside, with every record that it wrote meanwhile."""
    epoch, pid = await two_copies(world, "tokyo", AWAY)
    count = await is_fenced_at_first_contact(world, "tokyo", epoch, pid)
    # A site that returns from a failure of power starts no former source.
    await world.lab("kill", "tokyo/vmm", "--signal", "9")
    await world.lab("start", "tokyo/vmm")
    assert (await stopped(world, "tokyo", fenced=True))["guest_pid"] is None
    with pytest.raises(JobFailedError, match="without a choice"):
        await world.item.reverse_replicate(BACK)
    await world.item.reverse_replicate(BACK, "Keep")
    inventory = await world.sites["tokyo"].inventory()
    (aside,) = [each for each in inventory["machines"] if each.get("kept_of")]
    disks = await asyncio.to_thread(records_on, image_paths(aside))
    cut = int((await world.machine("osaka"))["replication"]["last_cut_record"])
    top = max(disks)
    mine = [number for number in disks if number > top - count]
    assert len(mine) == count
    assert {disks[number].epoch for number in mine} == {epoch}
    assert cut >= 0
    await wait_protected(world.item)


async def discarded(world: World) -> None:
    """The source's disks are overwritten: nothing of what it wrote is left."""
    epoch, pid = await two_copies(world, "osaka", BACK)
    assert await is_fenced_at_first_contact(world, "osaka", epoch, pid) >= RECORDS
    await world.item.reverse_replicate(AWAY, "Discard")
    await wait_protected(world.item)
    inventory = await world.sites["osaka"].inventory()
    assert not [each for each in inventory["machines"] if each.get("kept_of")]


async def stops_by_itself(world: World) -> None:
    """Under such a policy the source's guest ends before the copy's begins."""
    own = {"instanceType": "HyperVReplica2012R2", "selfFenceSeconds": SELF_FENCE_SECONDS}
    policies, scope = world.operator.recovery.replication_policies, world.operator.scope
    body: Any = {"properties": {"replicationProviderSettings": own}}

    async def begin(**options: Any) -> Any:
        return await policies.begin_update(*scope, "policy", body, **options)

    await world.operator.run("changing the policy", begin)
    before = await world.machine("tokyo")
    assert before["replication"]["settings"]["self_fence_seconds"] == SELF_FENCE_SECONDS
    async with never_two(world):
        await cut_off(world, "tokyo")
        left = await stopped(world, "tokyo", fenced=False)
        assert not lives(before["guest_pid"])
        assert left["epoch"] == before["epoch"]
        job = await world.item.unplanned_failover(AWAY)
        assert job.job.properties is not None
        done = {each.task_id: each.state for each in job.job.properties.tasks or ()}
        assert done["WaitForSelfFenceTask"] == "Succeeded"
        copy = await world.machine("osaka")
        await has_written(world, int(copy["epoch"]), 0)
        await in_contact(world, "tokyo")
        await stopped(world, "tokyo", fenced=True)


async def overridden(world: World, folder: Path) -> None:
    """An operator lets the fenced source run again: the other guest ends before its begins."""
    logged_in(folder, load_operator_file(Layout.at(world.folder).operator_file))
    before = await world.machine("osaka")
    words = ("authority", "override", "web01", "--reason", "the users are in Tokyo")
    async with never_two(world):
        done = await asyncio.to_thread(command, folder, *words, "--yes", "--wait")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "what it wrote stays on its disks alone" in done.stdout
        left = await stopped(world, "osaka", fenced=True)
        assert not lives(before["guest_pid"])
        again = await world.machine("tokyo")
        assert again["run_state"] == "Running"
        assert lives(again["guest_pid"])
        assert again["epoch"] == left["epoch"] > before["epoch"]
        await has_written(world, int(again["epoch"]), 0)
        # What is left of the failover is taken back by the next planned one.
        await world.item.planned_failover(AWAY)
    copy = await world.machine("osaka")
    assert copy["epoch"] > again["epoch"]
    await has_written(world, int(copy["epoch"]), 0)


async def test_two_copies_are_told_fenced_and_reconciled(tmp_path: Path) -> None:
    with raised_estate(tmp_path) as lab:
        async with opened_world(lab) as world:
            await kept(world)
            await discarded(world)
            await stops_by_itself(world)
            await overridden(world, tmp_path)
