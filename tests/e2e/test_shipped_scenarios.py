"""Shipped scenarios, run by the command line against two real sites and a real hub."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from lab.waiting import wait_for
from tests.support.lab_scenarios import Drills, drills
from tests.support.lab_world import World, assert_never_two, opened_world, watch

SECONDS_MAX = 600


async def cut_and_healed(drills: Drills, world: World) -> None:
    """Run the scenario of the link; afterwards change sets get through again."""
    drills.holds("link-cut")
    before = (await world.machine("osaka"))["replication"]["last_cut"]

    async def look() -> bool | None:
        seen = (await world.machine("osaka"))["replication"]["last_cut"]
        return True if seen > before else None

    await wait_for("a change set after the link was healed", look, 60)


def broker_away(drills: Drills) -> None:
    """Run the scenario of the broker; every provider lost MQTT, and has it again."""
    drills.holds("broker-away")
    for site in ("tokyo", "osaka"):
        lines = (drills.lab / f"logs/{site}-agent.log").read_text().splitlines()
        events = [each for each in map(json.loads, lines) if each["event"].startswith("mqtt_")]
        lost = [each for each in events if each["event"] == "mqtt_lost"]
        # The relay closes what it is asked to carry; a hub that was gone would look otherwise.
        assert any("proxy" in each["cause"] for each in lost), events
        assert "mqtt_over_websocket_next" not in {each["event"] for each in events}


async def split_brain(drills: Drills, world: World) -> None:
    """Run the scenario of two copies; both ran, one of them without the current epoch."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(watch(world, stop))
        try:
            await asyncio.to_thread(drills.holds, "split-brain")
        finally:
            stop.set()
    assert_never_two(world.seen)
    guests = [
        {name: copy["guest_pid"] for name, copy in copies.items() if copy["guest_pid"]}
        for copies in world.seen
    ]
    assert any(len(running) == 2 for running in guests), "the old copy ran while it was cut off"
    (survivor,) = [name for name, copy in world.seen[-1].items() if copy["guest_pid"]]
    assert survivor == "osaka"


async def site_lost(drills: Drills, world: World) -> None:
    """Run the scenario of the lost site; its failover is marked as injected."""
    drills.holds("site-lost", "--set", "item=sql01")
    machines = (await world.sites["osaka"].inventory())["machines"]
    (replica,) = (each for each in machines if each["name"] == "sql01")
    # The replica runs, and it is the real one: its guest has a process.
    seen = await world.sites["osaka"].machine(replica["hyperv_id"])
    assert seen is not None
    assert seen["run_state"] == "Running"
    assert seen["guest_pid"]
    told = json.loads(drills.command("inject", "list", "-o", "json").stdout)
    # The newest first.
    newest = ["site_outage", "unplanned_failover", "site_outage"]
    assert [each["kind"] for each in told[:3]] == newest
    job = await world.operator.recovery.replication_jobs.get(
        *world.operator.scope, told[1]["jobId"]
    )
    details: Any = job.properties.custom_details if job.properties else None
    assert details.affected_object_details["injectionId"] == told[1]["injectionId"]


@pytest.mark.timeout(SECONDS_MAX)
async def test_shipped_scenarios_hold_in_a_lab(tmp_path: Path) -> None:
    with drills(tmp_path) as found:
        async with opened_world(found.lab) as world:
            await cut_and_healed(found, world)
            found.holds("failed-script")
            broker_away(found)
            await split_brain(found, world)
            await site_lost(found, world)
        # An expectation that does not hold is an exit code, and what follows is not begun.
        assert found.run("site-lost", "--set", "item=gone").returncode != 0
