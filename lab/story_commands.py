"""What the lab's long commands do: run the story, or raise an estate and leave it running."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

from lab.addresses import claim_network
from lab.builder import EstateBuilder
from lab.console import StoryConsole
from lab.estate import load_estate
from lab.estate_record import EstateRecord, save_record
from lab.layout import Layout
from lab.processes import Launcher, exclusive
from lab.story import open_estate, protect_estate, tell_story
from lab.teardown import clear_for_new, end_estate, remove_disks
from service_shell.clock import SystemClock


async def run_story(layout: Layout, estate_file: Path, own_image: Path | None) -> bool:
    """Build the estate, tell the story, stop everything; True when the report is green."""
    async with _building(layout, estate_file, own_image, "story") as builder:
        try:
            file = await open_estate(builder)
            report = await tell_story(builder, file)
        except BaseException:
            _show_ended(builder)
            raise
        finally:
            builder.console.say("stopping the estate")
            await end_estate(layout, builder.launcher, builder.record)
    if report.green:
        remove_disks(layout)
    return report.green


async def raise_estate(
    layout: Layout, estate_file: Path, own_image: Path | None, *, protects: bool = False
) -> None:
    """Build the estate and leave it running; on failure nothing is left.

    `protects`: with the machines of its first pairing protected.
    """
    async with _building(layout, estate_file, own_image, "up") as builder:
        try:
            file = await open_estate(builder)
            if protects:
                await protect_estate(builder, file)
        except BaseException:
            _show_ended(builder)
            await end_estate(layout, builder.launcher, builder.record)
            raise
        builder.console.say(f"the estate runs; everything to reach it: {layout.operator_file}")


@contextlib.asynccontextmanager
async def _building(
    layout: Layout, estate_file: Path, own_image: Path | None, kind: Literal["story", "up"]
) -> AsyncIterator[EstateBuilder]:
    """Hold the lab's lock, clear what is left of an earlier one, and offer a builder."""
    estate = load_estate(estate_file)
    console = StoryConsole()
    with exclusive(layout):
        launcher = Launcher(layout, bound=kind == "story")
        left = await clear_for_new(layout, launcher)
        if left:
            console.say(f"ended {len(left)} processes that an earlier lab had left")
        network = claim_network()
        record = EstateRecord(estate_file=str(estate_file), kind=kind, prefix=network.prefix)
        save_record(layout, record)
        try:
            yield EstateBuilder(
                layout=layout,
                estate=estate,
                launcher=launcher,
                console=console,
                clock=SystemClock(),
                record=record,
                network=network,
                started_at=asyncio.get_running_loop().time(),
                own_image=own_image,
            )
        finally:
            # Of an estate that goes on running, the keeper has a copy.
            network.release()


def _show_ended(builder: EstateBuilder) -> None:
    """Show the last lines of every process that is not there any more."""
    builder.launcher.reap()
    for process in builder.record.processes.values():
        if not process.alive:
            builder.console.problem(f"{process.name} has ended")
            builder.launcher.tail(process)
