"""Steps 7 to 9: test failover and clean-up, planned failover, failback."""

import asyncio
from functools import partial
from typing import Any

from lab.held_start import HeldMachine, run_with_held_starts
from lab.item_operations import SourceChanges
from lab.measure import CopyInspection, image_paths, inspect_copy, ledger_of, note_figures
from lab.operator_client import FinishedJob
from lab.report import OperationFigures, OperationName
from lab.situation import Situation
from lab.story_protection import (
    WRITES_SECONDS_MAX,
    need_copy,
    need_writing,
    note_epochs,
    wait_protected,
    wait_replicating,
)
from lab.waiting import wait_for
from service_shell.errors import ProgramError
from wire_contract.vocabulary import Direction, RunState


async def rehearse(situation: Situation, name: str) -> None:
    """Step 7: a copy starts at the recovery site, its disks are verified, it is removed."""
    site = situation.recovery_site
    await note_epochs(situation, situation.primary_site, name)
    copied_at = situation.builder.clock.now()

    async def inspect() -> CopyInspection:
        machine = await _test_machine(situation, name)
        return await inspect_copy(situation, name, image_paths(machine), at=copied_at)

    held = await run_with_held_starts(
        situation.management[site],
        [HeldMachine(name, None, situation.item(name).test_failover, inspect)],
    )
    # The source goes on: what was acknowledged after the copy is no loss.
    note_figures(situation, "test_failover", name, held[name], counts_loss=False)
    machine = await _test_machine(situation, name)
    await check_runs(situation, "test_failover", site, machine["machine_id"], name)
    await situation.item(name).clean_up_test("verified by the lab")
    paths = image_paths(machine)
    if await situation.management[site].machine(machine["machine_id"]) is not None:
        situation.find("test_failover", name, "the test machine is still there after clean-up")
    if any(await asyncio.gather(*(asyncio.to_thread(path.exists) for path in paths))):
        situation.find("test_failover", name, "files of the test machine are still there")
    situation.console.say(f"{name}: the test machine and its files are gone")


async def planned(situation: Situation, name: str, direction: Direction) -> None:
    """Steps 8 and 9: fail over without loss, commit, replicate back."""
    forward = direction is Direction.PRIMARY_TO_RECOVERY
    operation: OperationName = "planned_failover" if forward else "failback"
    source, target = situation.primary_site, situation.recovery_site
    if not forward:
        source, target = target, source
    await note_epochs(situation, source, name)
    await need_writing(situation, name)

    async def inspect() -> CopyInspection:
        images = image_paths(await need_copy(situation, target, name))
        source_images = image_paths(await need_copy(situation, source, name))
        return await inspect_copy(situation, name, images, at=None, source=source_images)

    held = await run_with_held_starts(
        situation.management[target],
        [
            HeldMachine(
                name,
                situation.machine_id(name),
                partial(situation.item(name).planned_failover, direction),
                inspect,
            )
        ],
    )
    note_figures(situation, operation, name, held[name])
    copy = await need_copy(situation, target, name)
    await check_runs(situation, operation, target, copy["machine_id"], name)
    await situation.item(name).commit()
    await reverse(situation, name, direction)
    await wait_replicating(situation, target, name)


async def reverse(
    situation: Situation,
    name: str,
    direction: Direction,
    source_changes: SourceChanges | None = None,
) -> None:
    """Replicate back after a failover in `direction`, until the item is Protected."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    job: FinishedJob = await situation.item(name).reverse_replicate(
        opposite(direction), source_changes
    )
    await wait_protected(situation.item(name))
    situation.figures.append(
        OperationFigures(
            operation="reverse_replicate",
            vm=name,
            seconds=round(loop.time() - started, 3),
            job=job.name,
        )
    )


async def check_runs(
    situation: Situation, operation: OperationName, site: str, machine_id: str, name: str
) -> None:
    """Find fault with a machine that does not run, or whose guest's answer did not hold."""
    machine = await situation.management[site].machine(machine_id)
    if machine is None or machine["run_state"] != RunState.RUNNING:
        situation.find(operation, name, f"it does not run at {site}")
        return
    epoch = int(machine["epoch"])
    if machine["test_machine_of"] is not None:
        # What a test machine writes is thrown away with it: it goes into no ledger.
        situation.console.say(f"{name}: its test machine runs at {site}, epoch {epoch}")
        return
    writer = str(machine["hyperv_id"])

    async def writes() -> int | None:
        entries = await asyncio.to_thread(ledger_of, situation, writer)
        return next((entry.number for entry in entries if entry.epoch == epoch), None)

    first = await wait_for(f"{name} to write at {site}", writes, WRITES_SECONDS_MAX)
    situation.console.say(f"{name}: runs at {site}, epoch {epoch}, and writes on from {first}")


def opposite(direction: Direction) -> Direction:
    """Return the direction back."""
    if direction is Direction.PRIMARY_TO_RECOVERY:
        return Direction.RECOVERY_TO_PRIMARY
    return Direction.PRIMARY_TO_RECOVERY


async def _test_machine(situation: Situation, name: str) -> dict[str, Any]:
    replica = await need_copy(situation, situation.recovery_site, name)
    inventory = await situation.management[situation.recovery_site].inventory()
    for machine in inventory["machines"]:
        if machine.get("test_machine_of") == replica["machine_id"]:
            return dict(machine)
    raise ProgramError(f"{situation.recovery_site} has no test machine of {name}")
