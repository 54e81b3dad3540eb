"""Machines that are cut at one moment, also on two hosts."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.simulator_estate import (
    CLOUD,
    MACHINE,
    REPLICA,
    WAIT_SECONDS,
    Estate,
    RunningSite,
    make_estate,
)
from tests.support.simulator_steps import POLICY, pair
from wire_contract.vocabulary import Verb

OTHER, OTHER_REPLICA = "vm-2", "replica-2"
GROUPED = {**POLICY, "consistency_group": "shop", "recovery_points": 3}
DISK_BYTES = 20 * 65_536


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    estate = make_estate(tmp_path)
    image = tmp_path / "other.img"
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    estate.further = (
        {
            "id": OTHER,
            "name": "WEB-01",
            "host": estate.fqdns("tokyo")[1],
            "cloud": CLOUD["tokyo"],
            "disks": [{"id": "disk-0", "name": "disk-0", "path": str(image)}],
        },
    )
    return estate


async def protect(
    tokyo: RunningSite, osaka: RunningSite, names: tuple[str, str], policy: Any
) -> None:
    machine_id, replica_id = names
    machine = await tokyo.machine(machine_id)
    keys = ("disk_id", "name", "kind", "size_bytes")
    placed = await osaka.done(
        Verb.PLACE_REPLICA,
        replica_id,
        {
            "cloud_id": CLOUD["osaka"],
            "hyperv_id": machine_id,
            "name": machine["name"],
            "generation": machine["generation"],
            "disks": [{key: disk[key] for key in keys} for disk in machine["disks"]],
            "primary_host": machine["host"],
            "item": machine_id,
        },
    )
    relationship = {
        **placed,
        **policy,
        "relationship_id": f"relationship-{machine_id}",
        "replica_machine_id": replica_id,
        "item": machine_id,
    }
    await tokyo.done(Verb.ENABLE_REPLICATION, machine_id, relationship)
    await tokyo.done(Verb.START_INITIAL_REPLICATION, machine_id)
    await tokyo.done(Verb.COMPLETE_INITIAL_REPLICATION, machine_id)


async def together(osaka: RunningSite, record: int) -> None:
    """Return once both replicas hold that record, in states of one moment."""
    moments: set[str] = set()
    held: list[int] = []
    async with asyncio.timeout(WAIT_SECONDS):
        while held != [record, record] or len(moments) != 1:
            views = [await osaka.machine(each) for each in (REPLICA, OTHER_REPLICA)]
            held = [each["replication"]["last_cut_record"] for each in views]
            moments = {each["replication"]["recovery_points"][0]["taken_at"] for each in views}
            await asyncio.sleep(0.02)


async def test_machines_of_a_group_are_cut_at_one_moment(estate: Estate) -> None:
    async with estate.both() as (tokyo, osaka):
        await pair(estate, tokyo, osaka)
        await protect(tokyo, osaka, (MACHINE, REPLICA), GROUPED)
        await protect(tokyo, osaka, (OTHER, OTHER_REPLICA), GROUPED)
        for record in (11, 12):
            await tokyo.guests[MACHINE].write(0, 0, b"order", record)
            await tokyo.guests[OTHER].write(0, 0, b"payment", record)
            await together(osaka, record)

        # A member that does not take part does not hold the others up, and comes back.
        await tokyo.done(Verb.PAUSE_REPLICATION, MACHINE)
        await tokyo.guests[OTHER].write(0, 70_000, b"alone", 13)
        await osaka.until(OTHER_REPLICA, lambda each: each["replication"]["last_cut_record"] == 13)
        await tokyo.guests[MACHINE].write(0, 0, b"later", 13)
        await tokyo.done(Verb.RESUME_REPLICATION, MACHINE)
        await together(osaka, 13)

        # A verb that sends on its own meets the group's cut without harm.
        await tokyo.done(Verb.SYNCHRONIZE, OTHER)
        await tokyo.done(Verb.SHUT_DOWN, OTHER, {"seconds": 30})
        await tokyo.done(Verb.PREPARE_FAILOVER, OTHER)
        await tokyo.guests[MACHINE].write(0, 0, b"goes on", 14)
        await osaka.until(REPLICA, lambda each: each["replication"]["last_cut_record"] == 14)


async def test_a_group_holds_still_together_or_is_cut_as_it_is(estate: Estate) -> None:
    policy = {**GROUPED, "application_consistent_hours": 1}
    async with estate.both() as (tokyo, osaka):
        await pair(estate, tokyo, osaka)
        await protect(tokyo, osaka, (MACHINE, REPLICA), policy)
        tokyo.guests[OTHER].refuses_to_freeze = True
        await protect(tokyo, osaka, (OTHER, OTHER_REPLICA), policy)

        def failed(view: dict[str, Any]) -> bool:
            figures = view["replication"]["statistics"]
            return bool(figures["application_consistent_failure_count"] == 1)

        await tokyo.until(OTHER, failed)
        points = (await osaka.machine(OTHER_REPLICA))["replication"]["recovery_points"]
        assert "application_consistent" not in {each["kind"] for each in points}
