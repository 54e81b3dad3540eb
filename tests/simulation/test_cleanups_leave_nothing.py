"""A clean-up leaves a site as it was: after the test of a machine and of a plan, in any network."""

from pathlib import Path
from typing import Any, Final

from pydantic import JsonValue

from service_hub.domain.jobs import Job, JobState
from service_hub.domain.protection import Operation
from tests.support.kill_stories import DRILL
from tests.support.plans_on_fabrics import PlanWorld, plan_world
from tests.support.simulator_estate import MACHINE

AHEAD: Final[dict[str, Any]] = {"failover_direction": "PrimaryToRecovery"}
OF_A_MACHINE: Final[dict[str, dict[str, JsonValue]]] = {
    "none": {"network_id": None},
    "existing": {"network_id": "network"},
    "created": {"network_id": None, "drill": DRILL},
}
OF_A_PLAN: Final[dict[str, dict[str, JsonValue]]] = {
    "none": {"network_id": None},
    "existing": {
        "test_network": {"fabric": "osaka-fabric", "network_id": "network", "logical": False}
    },
    "created": {
        "test_network": {"fabric": "osaka-fabric", "network_id": "logical-test", "logical": True}
    },
}


def left_at(plans: PlanWorld) -> tuple[object, ...]:
    """Return what osaka has: machines and their adapters, networks, pools, addresses, files."""
    inventory = plans.inventory("osaka")
    folder = plans.world.root / "estate" / "osaka"
    return (
        sorted((each.machine_id, each.nics) for each in inventory.machines.values()),
        inventory.fabric.networks,
        inventory.fabric.address_pools,
        sorted(inventory.grants),
        sorted(str(each) for each in folder.rglob("*.img")),
    )


async def of_machine(plans: PlanWorld, operation: Operation, **arguments: JsonValue) -> Job:
    """Do an operation on one machine; its job as it ended."""
    identity = plans.world.identity()
    begun: Job = await plans.world.call(
        lambda hub: hub.protection.request(hub.vault, MACHINE, operation.value, arguments, identity)
    )
    return await plans.ended(begun)


async def test_a_clean_up_leaves_nothing_whoever_was_tested_in_whatever_network(
    tmp_path: Path,
) -> None:
    async with plan_world(tmp_path) as plans:
        await plans.save()
        before = left_at(plans)
        for run, networks in ((of_machine, OF_A_MACHINE), (PlanWorld.run, OF_A_PLAN)):
            for words, network in networks.items():
                tested = await run(plans, Operation.TEST_FAILOVER, **AHEAD, **network)
                assert tested.state is JobState.SUCCEEDED, (words, tested.errors)
                during = left_at(plans)
                assert during != before, words
                made = len(plans.inventory("osaka").fabric.networks) > len(before[1])  # type: ignore[arg-type]
                assert made == (words == "created"), words
                cleaned = await run(plans, Operation.TEST_FAILOVER_CLEANUP, comments="seen")
                assert cleaned.state is JobState.SUCCEEDED, (words, cleaned.errors)
                assert left_at(plans) == before, words
