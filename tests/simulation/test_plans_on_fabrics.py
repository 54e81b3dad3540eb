"""Recovery plans on real fabrics: a test in networks of its own, and scripts that change DNS."""

import json
import shutil
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import JsonValue

from service_hub.domain.jobs import Job, JobState
from service_hub.domain.protection import Operation
from service_hub.domain.recovery_plans import PlanAction, PlanScript
from tests.support.kill_plans import FURTHER
from tests.support.kill_stories import REFUSED_CODE
from tests.support.name_server import name_server
from tests.support.plans_on_fabrics import PlanWorld, plan_world
from wire_contract.faults import Fault
from wire_contract.vocabulary import FaultKind, Side, Verb

AHEAD: Final[dict[str, Any]] = {"failover_direction": "PrimaryToRecovery"}
SAMPLES = Path(__file__).resolve().parents[2] / "deploy/scripts"
ENVIRONMENT: Final = "CreateTestEnvironmentTask"
FAILOVERS = (Operation.PLANNED_FAILOVER, Operation.TEST_FAILOVER)


def estate_of(plans: PlanWorld, site: str) -> tuple[Any, ...]:
    """Return what a test must leave as it was: machines, networks, pools, addresses given."""
    inventory = plans.inventory(site)
    return (
        sorted(inventory.machines),
        inventory.fabric.networks,
        inventory.fabric.address_pools,
        sorted(inventory.grants),
    )


def succeeded(job: Job) -> Job:
    assert job.state is JobState.SUCCEEDED, job.errors
    return job


async def test_a_plan_is_tested_in_one_network_that_goes_with_the_clean_up(tmp_path: Path) -> None:
    async with plan_world(tmp_path) as plans:
        await plans.save()
        before = estate_of(plans, "osaka")
        named: JsonValue = {"fabric": "osaka-fabric", "network_id": "logical-test", "logical": True}
        tested = succeeded(await plans.run(Operation.TEST_FAILOVER, **AHEAD, test_network=named))
        osaka = plans.inventory("osaka")
        (made,) = [each for each in osaka.fabric.networks if each.test_of is not None]
        assert made.test_of == tested.id
        # Once for all: the machines' own jobs make none.
        assert [each.task_id for each in tested.tasks][1] == ENVIRONMENT
        for each in await children(plans, tested):
            assert each.run(ENVIRONMENT) is None
        testers = machines_on_test(osaka)
        assert set(made.test_users) == {tested.id, *testers}
        for user in testers:
            assert [nic.network_id for nic in osaka.machines[user].nics] == [made.network_id]
        assert len(testers) == 2
        succeeded(await plans.run(Operation.TEST_FAILOVER_CLEANUP, comments="seen"))
        assert estate_of(plans, "osaka") == before


async def test_what_a_failed_test_of_a_plan_made_goes_as_far_as_no_machine_needs_it(
    tmp_path: Path,
) -> None:
    async with plan_world(tmp_path) as plans:
        await plans.save(before=(script("Ready", "ready.sh"),))
        folder = plans.library("osaka") / "RPScripts"
        folder.mkdir()
        refuses = folder / "ready.sh"
        refuses.touch(mode=0o700)
        refuses.write_text("#!/bin/sh\nexit 1\n")
        before = estate_of(plans, "osaka")
        named: JsonValue = {"fabric": "osaka-fabric", "network_id": "logical-test", "logical": True}
        failed = await plans.run(Operation.TEST_FAILOVER, **AHEAD, test_network=named)
        assert failed.state is JobState.FAILED
        (only,) = machines_on_test(plans.inventory("osaka"))
        (kept,) = [e for e in plans.inventory("osaka").fabric.networks if e.test_of is not None]
        assert kept.test_users == (only,)
        refuses.write_text("#!/bin/sh\nexit 0\n")
        identity = plans.world.identity()
        begun = {each.task_id: each.attempt for each in failed.tasks}
        await plans.world.call(lambda hub: hub.jobs.restart(hub.vault, failed.id, identity))
        tested = succeeded(await plans.ended(failed))
        again = {each.task_id for each in tested.tasks if each.attempt > begun[each.task_id]}
        assert ENVIRONMENT in again
        assert not {each.task_id for each in tested.tasks[:1]} & again
        assert "Group1Task" not in again, "what had succeeded is not done again"
        assert len(machines_on_test(plans.inventory("osaka"))) == 2
        succeeded(await plans.run(Operation.TEST_FAILOVER_CLEANUP, comments="seen"))
        assert estate_of(plans, "osaka") == before


async def test_a_test_of_a_plan_that_fails_at_its_first_machine_leaves_nothing(
    tmp_path: Path,
) -> None:
    async with plan_world(tmp_path) as plans:
        await plans.save()
        before = estate_of(plans, "osaka")
        refusal = Fault(verb=Verb.PREPARE_TEST_MACHINE, kind=FaultKind.REFUSE, code=REFUSED_CODE)
        plans.world.sites["osaka"].faults.replace((refusal,))
        named: JsonValue = {"fabric": "osaka-fabric", "network_id": "logical-test", "logical": True}
        failed = await plans.run(Operation.TEST_FAILOVER, **AHEAD, test_network=named)
        assert failed.state is JobState.FAILED
        assert estate_of(plans, "osaka") == before


def machines_on_test(inventory: Any) -> list[str]:
    """Return the ids of the test machines that a site has."""
    return [each.machine_id for each in inventory.machines.values() if each.test_machine_of]


async def children(plans: PlanWorld, parent: Job) -> list[Job]:
    """Return the jobs of a plan's machines."""
    found = await plans.world.call(lambda hub: hub.store.find(Job, parent_id=parent.id))
    return [each.record for each in found]


def script(name: str, file: str, undo: str = "") -> PlanAction:
    """Return an action that runs a sample at the recovery side."""
    run = PlanScript(path=f"RPScripts\\{file}", side=Side.RECOVERY, seconds=60, undo_path=undo)
    return PlanAction(name=name, kinds=FAILOVERS, script=run)


def output_of(job: Job, name: str) -> str:
    """Return what the script of an action said."""
    (task,) = [spec.task_id for spec in job.own_specs if spec.script and spec.script.action == name]
    result: Any = job.context[f"result:{task}"]
    return str(result["output"])


@pytest.mark.needs("knotd")
async def test_a_plan_tells_dns_where_its_machines_are_and_takes_it_back(tmp_path: Path) -> None:
    async with plan_world(tmp_path) as plans:
        scripts = plans.library("osaka") / "RPScripts"
        scripts.mkdir()
        for file in SAMPLES.glob("*.py"):
            shutil.copy(file, scripts)
        address = f"{plans.world.estate.prefix}.53"
        zones = ("corp.example", "drill.example")
        with name_server(tmp_path / "dns", address, zones, ["vm-2 A 10.1.0.12"]) as server:
            settings = scripts / "update_dns.json"
            settings.touch(mode=0o600)
            settings.write_text(json.dumps(server.settings(zones[0], test_zone=zones[1])))
            await plans.save(
                after=(
                    script("Read", "read_ip_address.py"),
                    script("Name", "update_dns.py", "RPScripts\\update_dns_undo.py"),
                )
            )
            live, drill = "vm-2.corp.example", "vm-2.drill.example"
            assert (server.asked(live), server.asked(drill)) == (["10.1.0.12"], None)
            named: JsonValue = {"fabric": "osaka-fabric", "network_id": "network", "logical": False}
            succeeded(await plans.run(Operation.TEST_FAILOVER, **AHEAD, test_network=named))
            (there,) = server.asked(drill) or [""]
            assert there.startswith("10.2.0.")
            assert server.asked(live) == ["10.1.0.12"]
            succeeded(await plans.run(Operation.TEST_FAILOVER_CLEANUP, comments=""))
            assert server.asked(drill) is None
            done = succeeded(await plans.run(Operation.PLANNED_FAILOVER, **AHEAD))
            machines = plans.inventory("osaka").machines.values()
            (replica,) = [each for each in machines if each.protected_item == FURTHER]
            assert server.asked(live) == [replica.nics[0].address]
            assert output_of(done, "Read") == f"VM-2 {replica.nics[0].address}\n"
            succeeded(await plans.run(Operation.CANCEL_FAILOVER))
            assert server.asked(live) == ["10.1.0.12"]
            assert server.asked(f"_site-recovery.{live}", "TXT") is None
