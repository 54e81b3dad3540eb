"""Plans to be killed in the middle of: every plan of the table, over two protected machines.

The failover has two groups, with something for a person to do between them; in the others both
machines stand side by side.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

from pydantic import JsonValue

from service_hub.domain.jobs import Job, JobState
from service_hub.domain.plans import PlanGroup, PlanRequest
from service_hub.domain.protection import TRANSITIONS, Operation, ProtectionState
from service_hub.domain.records import Provider
from service_hub.domain.scenarios import plan_key
from service_hub.ports.use_cases import RequestIdentity
from tests.support.hub_world import HubWorld
from tests.support.kill_first_copies import first_copy_stories
from tests.support.kill_overrides import override_stories
from tests.support.kill_stories import (
    DRILL,
    Story,
    asking,
    create_policy,
    no_job_runs,
    pair,
    rest_of,
    rests_in,
    stories,
)
from tests.support.kill_undo import undo_stories
from tests.support.kill_world import KillWorld
from tests.support.simulator_estate import CLOUD, MACHINE
from wire_contract.vocabulary import Side

Groups = tuple[PlanGroup, ...]

FURTHER = "vm-2"
GROUND = "two protected machines"
SIDE_BY_SIDE = (PlanGroup("Group 1", (MACHINE, FURTHER)),)
ONE_BY_ONE = (
    PlanGroup("Group 1", (MACHINE,)),
    PlanGroup("Group 2", (FURTHER,), manual_action="lead the users to the other site"),
)
AHEAD: dict[str, JsonValue] = {
    "failover_direction": "PrimaryToRecovery",
    "source_operations_required": True,
}
_IN_TURN = (PlanGroup("Group 1", (MACHINE,)), PlanGroup("Group 2", (FURTHER,)))
"""Side by side, who comes first gets the first address of the networks' pool: a kill changes it."""

IN_NETWORKS = "plan tested in its own networks"
WITHOUT_NETWORKS = "plan's own networks cleaned up"
_DRILL: dict[str, JsonValue] = {
    "failover_direction": "PrimaryToRecovery",
    "network_id": None,
    "drill": {
        "logical_network_id": DRILL["logical_network_id"],
        "networks": DRILL["networks"],
        "sources": ["network"],
        "cloud_ids": [CLOUD["osaka"]],
    },
}
"""What a plan's test asks for whose machines are all connected to one network."""

Told = tuple[Operation, ProtectionState, dict[str, JsonValue], Groups]
TOLD: tuple[Told, ...] = (
    (Operation.PLANNED_FAILOVER, ProtectionState.PROTECTED, AHEAD, ONE_BY_ONE),
    (Operation.UNPLANNED_FAILOVER, ProtectionState.PROTECTED, AHEAD, SIDE_BY_SIDE),
    (Operation.TEST_FAILOVER, ProtectionState.PROTECTED, AHEAD, SIDE_BY_SIDE),
    (Operation.TEST_FAILOVER_CLEANUP, ProtectionState.TEST_OPEN, {}, SIDE_BY_SIDE),
    (Operation.COMMIT, ProtectionState.PLANNED_FAILED_OVER, {}, SIDE_BY_SIDE),
    (Operation.CANCEL_FAILOVER, ProtectionState.PLANNED_FAILED_OVER, {}, SIDE_BY_SIDE),
    (Operation.REVERSE_REPLICATE, ProtectionState.PLANNED_FAILED_OVER, {}, SIDE_BY_SIDE),
)


async def _protect_two(world: KillWorld) -> None:
    protected = rests_in(_rest(Operation.ENABLE, ProtectionState.UNPROTECTED))
    for ask, over in (
        (create_policy, no_job_runs),
        (pair, no_job_runs),
        (asking(Operation.ENABLE), protected),
        (asking(Operation.ENABLE, FURTHER), protected),
    ):
        await ask(world)
        await world.settled(over)


def _rest(operation: Operation, state: ProtectionState) -> ProtectionState:
    return rest_of(TRANSITIONS[state][operation])[0]


def _planned(request: PlanRequest) -> Callable[[KillWorld], Awaitable[None]]:
    async def start(hub: HubWorld, identity: RequestIdentity) -> Job:
        found = [each.record for each in await hub.store.find(Provider)]
        ends = {Side.PRIMARY: "tokyo-fabric", Side.RECOVERY: "osaka-fabric"}
        at = {
            side: each for side, name in ends.items() for each in found if each.fabric_name == name
        }
        known = replace(
            request,
            providers={side: each.id for side, each in at.items()},
            servers={side: each.vmm_id for side, each in at.items()},
        )
        return await hub.plans.start_plan(hub.vault, known, identity)

    async def ask(world: KillWorld) -> None:
        identity = world.identity()
        job: Job = await world.call(lambda hub: start(hub, identity))
        for group in request.groups:
            if group.manual_action is not None:
                await _done_by_a_person(world, job.id)

    return ask


async def _done_by_a_person(world: KillWorld, job_id: str) -> None:
    async def is_suspended() -> bool:
        job: Job = await world.call(lambda hub: hub.job(job_id))
        return job.state is JobState.SUSPENDED

    await world.until(is_suspended, "the plan waits for a person")
    identity = world.identity()
    await world.call(lambda hub: hub.jobs.resume(hub.vault, job_id, "done", identity))


def plan_stories() -> Iterator[Story]:
    """Return the story of each plan; what one builds on stands before it."""
    protected = rests_in(_rest(Operation.ENABLE, ProtectionState.UNPROTECTED))
    further = (FURTHER,)
    yield Story(GROUND, None, frozenset(), _protect_two, protected, further, is_ground=True)
    reached = {ProtectionState.PROTECTED: GROUND}
    for operation, state, arguments, groups in TOLD:
        key = plan_key(operation)
        rest = _rest(operation, state)
        request = PlanRequest("plan-id", "Payroll", operation, groups, arguments)
        yield Story(
            key,
            reached[state],
            frozenset({key}),
            _planned(request),
            rests_in(rest),
            further,
            is_repeat=True,
        )
        reached.setdefault(rest, key)


def plans_in_networks() -> Iterator[Story]:
    """Return the stories of a plan's test in networks that are made for it, and of its clean-up."""
    further = (FURTHER,)
    asked: tuple[tuple[str, str, Operation, dict[str, JsonValue], ProtectionState], ...] = (
        (IN_NETWORKS, GROUND, Operation.TEST_FAILOVER, _DRILL, ProtectionState.TEST_OPEN),
        (
            WITHOUT_NETWORKS,
            IN_NETWORKS,
            Operation.TEST_FAILOVER_CLEANUP,
            {},
            ProtectionState.PROTECTED,
        ),
    )
    for name, after, operation, arguments, rest in asked:
        request = PlanRequest("plan-id", "Payroll", operation, _IN_TURN, arguments)
        covers = frozenset({plan_key(operation)})
        yield Story(name, after, covers, _planned(request), rests_in(rest), further, is_repeat=True)


def every_story() -> dict[str, Story]:
    """Return every story by its name, of operations and of plans."""
    items = (*stories().values(), *override_stories(), *first_copy_stories(), *undo_stories())
    found = (*items, *plan_stories(), *plans_in_networks())
    return {story.name: story for story in found}
