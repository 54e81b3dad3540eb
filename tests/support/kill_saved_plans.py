"""Recovery plans that are saved and deleted, to be killed in the middle of (kill_stories)."""

from service_hub.domain.recovery_plans import GroupType, RecoveryGroup
from service_hub.plan_ports import PlanContent
from tests.support.kill_world import KillWorld


async def plan_saved(world: KillWorld) -> None:
    """Save a plan without machines, which is saved anew where it is there."""
    identity = world.identity()
    content = PlanContent(
        (RecoveryGroup(group_type=GroupType.BOOT),), "tokyo-fabric", "osaka-fabric"
    )
    await world.call(lambda hub: hub.recovery_plans.save(hub.vault, "Payroll", content, identity))


async def plan_deleted(world: KillWorld) -> None:
    """Delete that plan."""
    identity = world.identity()
    await world.call(lambda hub: hub.recovery_plans.delete(hub.vault, "Payroll", identity))
