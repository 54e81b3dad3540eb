"""Daemons are killed with -9 in the middle of a planned failover, and the job ends all the same."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from lab.layout import Layout
from lab.management_client import ManagementClient, ManagementError
from lab.operator_file import load_operator_file
from lab.process_table import process_facts
from lab.waiting import wait_for
from tests.support.lab_world import (
    HELD_SECONDS_MAX,
    World,
    fail_over_with_a_kill,
    lab,
    opened_world,
    raised_estate,
)
from wire_contract.vocabulary import Direction

pytestmark = [pytest.mark.needs("mkfs.ext4"), pytest.mark.timeout(450)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with raised_estate(tmp_path_factory.mktemp("recovery")) as path:
        yield path


@pytest.fixture
async def world(folder: Path) -> AsyncIterator[World]:
    async with opened_world(folder) as opened:
        yield opened


async def test_a_hub_killed_in_the_middle_finishes_the_failover(world: World) -> None:
    await fail_over_with_a_kill(
        world, Direction.PRIMARY_TO_RECOVERY, verb="fail_over", at="osaka", victim="hub"
    )


async def test_an_agent_killed_in_the_middle_finishes_the_failback(world: World) -> None:
    await fail_over_with_a_kill(
        world,
        Direction.RECOVERY_TO_PRIMARY,
        verb="prepare_failover",
        at="osaka",
        victim="osaka/agent",
    )


async def test_a_journal_deleted_in_the_middle_finishes_the_failover(world: World) -> None:
    await fail_over_with_a_kill(
        world,
        Direction.PRIMARY_TO_RECOVERY,
        verb="fail_over",
        at="osaka",
        victim="osaka/agent",
        lost="sites/osaka/agent/journal.db*",
    )


async def test_status_and_operator_file_follow_what_is_killed_and_started(folder: Path) -> None:
    before = load_operator_file(Layout.at(folder).operator_file)
    assert lab(folder, "status").returncode == 0
    assert lab(folder, "kill", "osaka/agent").returncode == 0
    assert lab(folder, "status").returncode == 1
    twice = lab(folder, "kill", "osaka/agent")
    assert twice.returncode == 1
    assert "make lab-start PROCESS=osaka/agent" in twice.stderr
    assert lab(folder, "start", "osaka/agent").returncode == 0
    assert lab(folder, "status").returncode == 0
    after = load_operator_file(Layout.at(folder).operator_file)
    assert after.sites["osaka"].agent.pid != before.sites["osaka"].agent.pid
    assert after.sites["tokyo"] == before.sites["tokyo"]
    unknown = lab(folder, "kill", "kyoto/agent")
    assert unknown.returncode == 1
    assert "tokyo/agent" in unknown.stderr


async def test_guests_end_with_their_vmm_server(world: World) -> None:
    copies = {name: await world.machine(name) for name in world.sites}
    (site,) = (name for name, copy in copies.items() if copy["run_state"] == "Running")
    guest = copies[site]["guest_pid"]
    assert process_facts(guest) is not None
    await world.lab("kill", f"{site}/vmm", "--signal", "KILL")
    facts = process_facts(guest)
    assert facts is None or facts.state in ("Z", "X")
    await world.lab("start", f"{site}/vmm")

    async def runs() -> bool | None:
        # Started again only once its agent has confirmed the epoch with the hub.
        return True if (await world.machine(site))["run_state"] == "Running" else None

    await wait_for("web01 to run again", runs, HELD_SECONDS_MAX)


async def test_one_wrong_token_opens_nothing(world: World) -> None:
    wrong = ManagementClient(world.file.sites["tokyo"].management_url, "0" * 64, world.file.ca_file)
    async with wrong:
        with pytest.raises(ManagementError, match="401"):
            await wrong.inventory()
