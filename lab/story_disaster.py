"""Step 11: a whole site is lost, all its machines come up at the other, and it comes back."""

import asyncio
from datetime import datetime
from functools import partial
from typing import Any, Final

from lab.held_start import HeldMachine, run_with_held_starts
from lab.measure import CopyInspection, image_paths, inspect_copy, note_figures
from lab.registration import wait_connected
from lab.situation import Situation
from lab.story_failover import check_runs, reverse
from lab.story_protection import need_copy, need_writing, note_epochs
from lab.waiting import wait_for
from wire_contract.vocabulary import Direction, RunState

FENCED_SECONDS_MAX: Final = 60.0


async def lose_site(situation: Situation) -> datetime:
    """Kill the primary site, all of it at once; return when."""
    builder = situation.builder
    for name in situation.pairing.protect:
        await note_epochs(situation, situation.primary_site, name)
        await need_writing(situation, name)
    records = [
        builder.record.process(f"{situation.primary_site}/{part}") for part in ("vmm", "agent")
    ]
    lost_at = builder.clock.now()
    await asyncio.gather(*(builder.launcher.kill(record.pid) for record in records))
    situation.console.say(
        f"{situation.primary_site} is gone: simulator, guests and agent were killed with SIGKILL"
    )
    return lost_at


async def fail_over_all(situation: Situation, lost_at: datetime) -> None:
    """Fail all machines over together; verify each before its guest writes; commit."""
    names = situation.pairing.protect
    site = situation.recovery_site
    applied = {}
    for name in names:
        copy = await need_copy(situation, site, name)
        applied[name] = int(copy["replication"]["last_cut_record"])

    async def inspect(name: str) -> CopyInspection:
        images = image_paths(await need_copy(situation, site, name))
        return await inspect_copy(situation, name, images, at=lost_at)

    held = await run_with_held_starts(
        situation.management[site],
        [
            HeldMachine(
                name,
                situation.machine_id(name),
                partial(situation.item(name).unplanned_failover, Direction.PRIMARY_TO_RECOVERY),
                partial(inspect, name),
            )
            for name in names
        ],
    )
    for name in names:
        note_figures(situation, "unplanned_failover", name, held[name])
        _judge_cut(situation, name, applied[name], held[name].inspection)
        copy = await need_copy(situation, site, name)
        await check_runs(situation, "unplanned_failover", site, copy["machine_id"], name)
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(situation.item(name).commit())


async def site_comes_back(situation: Situation) -> None:
    """Start the lost site again: its copies are fenced and stay off; replicate back."""
    site = situation.primary_site
    for part in ("vmm", "agent"):
        record = await situation.builder.restart(f"{site}/{part}")
        situation.file = situation.file.with_process(record)
    situation.console.wait(f"the provider of {site} to be connected")
    fqdn = situation.builder.plans[site].site.vmm.fqdn
    await wait_connected(situation.operator, [fqdn])
    names = situation.pairing.protect
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(_until_fenced(situation, name))
    situation.console.say("what the lost site wrote and had not sent is given up, as was measured")
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(reverse(situation, name, Direction.PRIMARY_TO_RECOVERY, "Discard"))


def _judge_cut(situation: Situation, name: str, applied: int, found: CopyInspection) -> None:
    """Exactly the records after the last applied change set may be lost, by number."""
    kept = found.result.kept_record
    if kept is not None and kept != applied:
        text = f"the copy ends at record {kept}; the last applied change set ended at {applied}"
        situation.find("unplanned_failover", name, text)


async def _until_fenced(situation: Situation, name: str) -> None:
    site = situation.primary_site

    async def look() -> dict[str, Any] | None:
        machine = await need_copy(situation, site, name)
        if machine["run_state"] == RunState.RUNNING:
            situation.find("unplanned_failover", name, f"its old copy runs again at {site}")
        return machine if machine["fenced"] else None

    machine = await wait_for(f"the old copy of {name} to be fenced", look, FENCED_SECONDS_MAX)
    if machine["run_state"] == RunState.OFF:
        situation.console.say(f"{name}: the old copy at {site} is fenced and not started")
