"""The hub is killed in the middle of a plan, as the shipped scenario does it, in a real lab."""

from pathlib import Path

import pytest

from tests.support.lab_scenarios import drills
from tests.support.lab_world import assert_nothing_happened_twice, opened_world


@pytest.mark.timeout(600)
async def test_a_hub_that_is_killed_mid_plan_goes_on_where_it_was(tmp_path: Path) -> None:
    with drills(tmp_path) as found:
        async with opened_world(found.lab) as world:
            found.holds("hub-killed-mid-plan")
            effects = await world.sites["osaka"].effects()
        jobs = {each["command_id"].partition("/")[0] for each in effects if each["verb"] == "start"}
        assert len(jobs) == 2, "each machine was started by a job of its own"
        for job in jobs:
            assert_nothing_happened_twice(effects, job)
