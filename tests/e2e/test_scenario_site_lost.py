"""Shipped scenarios, run by the command line against two real sites and a real hub."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from lab.layout import Layout
from lab.operator_file import load_operator_file
from lab.waiting import wait_for
from tests.support.lab_commands import command, logged_in
from tests.support.lab_world import World, opened_world, raised_estate

SECONDS_MAX = 400
SITE = "vmm01.tokyo.contoso.example"


async def cut_and_healed(folder: Path, world: World) -> None:
    """Run the scenario of the link; afterwards change sets get through again."""
    scenario = ("inject", "run", "deploy/scenarios/link-cut.yaml", "--set", f"site={SITE}")
    done = command(folder, *scenario)
    assert done.returncode == 0, done.stdout + done.stderr
    before = (await world.machine("osaka"))["replication"]["last_cut"]

    async def look() -> bool | None:
        seen = (await world.machine("osaka"))["replication"]["last_cut"]
        return True if seen > before else None

    await wait_for("a change set after the link was healed", look, 60)


@pytest.mark.timeout(SECONDS_MAX + 200)
async def test_a_lost_site_is_injected_failed_over_and_given_back(tmp_path: Path) -> None:
    with raised_estate(tmp_path) as lab:
        async with opened_world(lab) as world:
            logged_in(tmp_path, load_operator_file(Layout.at(lab).operator_file))
            await cut_and_healed(tmp_path, world)
            report = tmp_path / "report.xml"
            scenario = ("inject", "run", "deploy/scenarios/site-lost.yaml")
            done = command(tmp_path, *scenario, "--set", f"site={SITE}", "--junit", str(report))
            assert done.returncode == 0, done.stdout + done.stderr
            suite = ET.parse(report).getroot()  # noqa: S314 -- our own file
            assert suite.attrib["failures"] == "0"
            assert suite.attrib["skipped"] == "0"
            # The replica runs, and it is the real one: its guest has a process and the new epoch.
            at_osaka = await world.machine("osaka")
            assert at_osaka["run_state"] == "Running"
            assert at_osaka["guest_pid"]
            told = json.loads(command(tmp_path, "inject", "list", "-o", "json").stdout)
            # The newest first.
            assert [each["kind"] for each in told] == [
                "site_outage",
                "unplanned_failover",
                "site_outage",
                "replication_fault",
                "replication_fault",
            ]
            job = await world.operator.recovery.replication_jobs.get(
                *world.operator.scope, told[1]["jobId"]
            )
            details: Any = job.properties.custom_details if job.properties else None
            assert details.affected_object_details["injectionId"] == told[1]["injectionId"]
            # An expectation that does not hold is an exit code, and what follows is not begun.
            again = command(tmp_path, *scenario, "--set", "item=gone", "--set", f"site={SITE}")
            assert again.returncode != 0
