"""A recovery plan from its saving to its deletion, whose job logs are kept (job_log_stories)."""

import asyncio
from collections.abc import Awaitable, Callable

from pydantic import JsonValue

from service_hub.domain.jobs import JobState
from service_hub.domain.plans import PlanGroup, PlanRequest
from service_hub.domain.protection import Operation
from service_hub.domain.recovery_plans import GroupType, PlanAction, PlanScript, RecoveryGroup
from service_hub.plan_ports import PlanContent
from tests.support.hub_stories import protected
from tests.support.hub_world import MACHINE_ID, HubWorld
from tests.support.many_items import Sites
from wire_contract.vocabulary import Side

STEPS_MAX = 2000
AHEAD = {"failover_direction": "PrimaryToRecovery"}
DRILL: JsonValue = {
    "logical_network_id": "logical-test",
    "cloud_ids": ["osaka-cloud"],
    "networks": [
        {"name": "n", "like": "VLANNetwork", "dynamic_addresses": True, "subnets": []},
    ],
    "sources": ["network"],
}

Done = Callable[[HubWorld, str], Awaitable[None]]
"""Answers until a job has ended."""


async def saved(world: HubWorld, done: Done) -> None:
    """A recovery plan that is saved, changed, run with a script and a person, and deleted."""
    await protected(world)
    looks = PlanAction(name="Look", kinds=(Operation.PLANNED_FAILOVER,), manual="Look at the door.")
    runs = PlanAction(
        name="Tell",
        kinds=(Operation.PLANNED_FAILOVER,),
        script=PlanScript(path="tell.sh", side=Side.RECOVERY),
    )
    boot = RecoveryGroup(
        group_type=GroupType.BOOT, members=(MACHINE_ID,), before=(looks,), after=(runs,)
    )
    plans, vault = world.recovery_plans, world.vault
    for content in (
        PlanContent((boot,), "tokyo-fabric", "osaka-fabric"),
        PlanContent((RecoveryGroup(group_type=GroupType.BOOT), boot)),
    ):
        await done(world, (await plans.save(vault, "Payroll", content, world.identity())).id)
    run = await plans.run(vault, "Payroll", Operation.PLANNED_FAILOVER, AHEAD, world.identity())
    for _ in range(STEPS_MAX):
        if (await world.job(run.id)).state is JobState.SUSPENDED:
            break
        await asyncio.sleep(0.01)
    await world.jobs.resume(vault, run.id, "it is locked", world.identity())
    await Sites(world).ended(run.id)
    await done(world, (await plans.delete(vault, "Payroll", world.identity())).id)


async def tested(world: HubWorld) -> None:
    """A plan that is tested in networks which its job makes."""
    await protected(world)
    request = PlanRequest(
        "plan-id",
        "Payroll",
        Operation.TEST_FAILOVER,
        (PlanGroup("Group 1", (MACHINE_ID,)),),
        {**AHEAD, "network_id": None, "drill": DRILL},
        providers={Side.PRIMARY: "tokyo-provider", Side.RECOVERY: "osaka-provider"},
        servers={Side.PRIMARY: "tokyo-vmm", Side.RECOVERY: "osaka-vmm"},
    )
    run = await world.plans.start_plan(world.vault, request, world.identity())
    await Sites(world).ended(run.id)
