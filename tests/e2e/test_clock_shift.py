"""The clocks of a real hub and a real agent jump by an hour, there and back, within a failover.

Each has a clock of its own by libfaketime, which leaves monotonic time alone; the machine's clock,
and those of all other programs, stay right.
"""

import asyncio
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import aiohttp
import pytest

from lab.layout import Layout
from lab.operator_client import failure_text
from lab.operator_file import load_operator_file
from lab.registration import wait_connected
from lab.waiting import wait_for
from tests.support.lab_world import (
    COMMAND_SECONDS_MAX,
    ROOT,
    World,
    assert_nothing_happened_twice,
    begin,
    follow,
    held,
    opened_world,
    raised_estate,
)
from wire_contract.vocabulary import Direction

pytestmark = [
    pytest.mark.needs("mkfs.ext4"),
    pytest.mark.needs("faketime"),
    pytest.mark.timeout(450),
]

HOUR = timedelta(hours=1)
RIGHT = timedelta(0)
NEAR = timedelta(minutes=10)
"""What a busy machine may take between looking at two clocks; far below a jump."""

HUB, AGENT = "hub", "osaka/agent"
SEEN_SECONDS_MAX = 120.0


def library() -> Path:
    """Return libfaketime for programs with threads; its package has the program `faketime`."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


def clock_of(folder: Path, process: str) -> Path:
    """Return the file that says by how much a program's clock is wrong."""
    return folder.parent / f"{process.replace('/', '-')}.clock"


def set_clock(folder: Path, process: str, ahead: timedelta) -> None:
    """Let a program's clock be that far ahead of the machine's, from its next look on."""
    place = clock_of(folder, process)
    written = place.with_suffix(".new")
    written.write_text(f"{ahead.total_seconds():+.0f}\n")
    written.replace(place)


def start_again(folder: Path, process: str) -> None:
    """Start a program of the lab anew, with a clock of its own."""
    set_clock(folder, process, RIGHT)
    own = {
        "LD_PRELOAD": str(library()),
        "FAKETIME_TIMESTAMP_FILE": str(clock_of(folder, process)),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        # Times of files are the machine's.
        "NO_FAKE_STAT": "1",
    }
    for words, environment in ((("kill", process), {}), (("start", process), own)):
        done = subprocess.run(
            (sys.executable, "-m", "lab", *words, "--lab", str(folder)),
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with raised_estate(tmp_path_factory.mktemp("clocks")) as path:
        yield path


async def hub_is_ahead(world: World, ahead: timedelta) -> None:
    """Return when the hub's answers carry that time."""
    context = ssl.create_default_context(cafile=world.file.ca_file)

    async def look() -> bool | None:
        with suppress(aiohttp.ClientError, TimeoutError):
            async with session.get(f"{world.file.base_url}/health", ssl=context) as answer:
                shown = parsedate_to_datetime(answer.headers["Date"])
                return True if abs(shown - datetime.now(UTC) - ahead) < NEAR else None
        return None

    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        await wait_for(f"the hub's clock to be {ahead} ahead", look, SEEN_SECONDS_MAX)


async def agent_says(world: World, ahead: timedelta) -> None:
    """Return when the agent has said by how much its clock differs from the hub's."""
    log = Path(load_operator_file(Layout.at(world.folder).operator_file).sites["osaka"].agent.log)

    async def look() -> bool | None:
        lines = (await asyncio.to_thread(log.read_text)).splitlines()
        said = [json.loads(line) for line in lines if '"clock_differs"' in line and line[-1] == "}"]
        differences = [timedelta(seconds=each["seconds_ahead_of_hub"]) for each in said]
        return True if any(abs(each - ahead) < NEAR for each in differences) else None

    await wait_for(f"the agent to say that it is {ahead} ahead", look, SEEN_SECONDS_MAX)


async def test_a_failover_ends_well_though_the_clocks_of_hub_and_agent_jump_by_an_hour(
    folder: Path,
) -> None:
    for process in (HUB, AGENT):
        await asyncio.to_thread(start_again, folder, process)
    async with opened_world(folder) as world:
        site = world.sites["osaka"]
        fqdns = [f"vmm01.{name}.contoso.example" for name in world.sites]
        await wait_connected(world.operator, fqdns)
        await site.replace_faults([{"verb": "fail_over", "machine": None, "kind": "hold"}])
        name = await begin(world, Direction.PRIMARY_TO_RECOVERY)
        await held(site, "fail_over")
        # Whatever falls due by a clock that is wrong falls due now; the verb goes on meanwhile.
        for ahead in (HOUR, -HOUR, RIGHT):
            set_clock(folder, HUB, ahead)
            await hub_is_ahead(world, ahead)
        await site.replace_faults([{"verb": "start", "machine": None, "kind": "hold"}])
        await held(site, "start")
        for ahead in (HOUR, -HOUR):
            set_clock(folder, AGENT, ahead)
            await agent_says(world, ahead)
        set_clock(folder, AGENT, RIGHT)
        await site.replace_faults([])
        job = await follow(world, name)
        assert job.properties is not None
        assert job.properties.state == "Succeeded", failure_text(job)
        assert (await world.machine("tokyo"))["run_state"] == "Off"
        assert (await world.machine("osaka"))["run_state"] == "Running"
        assert_nothing_happened_twice(await site.effects(), name)
        await wait_connected(world.operator, fqdns)
