"""A hub restored from a backup that is older than two failovers, with every process real."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lab.registration import wait_connected
from lab.story_protection import wait_protected
from tests.support.lab_world import (
    World,
    commit_and_reverse,
    fail_over,
    opened_world,
    raised_estate,
)
from wire_contract.vocabulary import Direction

pytestmark = [pytest.mark.needs("mkfs.ext4"), pytest.mark.timeout(300)]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    with raised_estate(tmp_path) as path:
        async with opened_world(path) as opened:
            yield opened


async def test_backup_two_failovers_restore_and_a_third_failover(world: World) -> None:
    """The restored hub knows nothing of two failovers; the sites tell it, and the third runs."""
    backup = world.folder / "backup.db"
    await world.hub("database", "backup", "--output", str(backup))
    before = int((await world.machine("osaka"))["epoch"])
    for direction in (Direction.PRIMARY_TO_RECOVERY, Direction.RECOVERY_TO_PRIMARY):
        await fail_over(world, direction)
        await commit_and_reverse(world, direction)
    between = int((await world.machine("osaka"))["epoch"])
    assert between > before
    await world.lab("kill", "hub", "--signal", "TERM")
    await world.hub("database", "restore", "--input", str(backup))
    await world.lab("start", "hub")
    await wait_connected(world.operator, [f"vmm01.{name}.contoso.example" for name in world.sites])
    await wait_protected(world.item)
    await fail_over(world, Direction.PRIMARY_TO_RECOVERY)
    taken_over = await world.machine("osaka")
    assert taken_over["run_state"] == "Running"
    assert taken_over["epoch"] > between
    assert (await world.machine("tokyo"))["run_state"] == "Off"
