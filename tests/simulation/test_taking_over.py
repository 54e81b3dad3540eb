"""A machine that Hyper-V Replica replicates already comes under protection as it is."""

from datetime import timedelta
from pathlib import Path

import pytest

from service_hub.domain.jobs import CancelRequested, JobState
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import ProtectedItem
from service_hub.domain.taking_over import relationship_to_take_over
from tests.support.hub_stories import ask, completed, paired, until_done
from tests.support.hub_world import MACHINE_ID, HubWorld, hub_world
from tests.support.site_views import inventory, machine, replication
from wire_contract.events import Assignment
from wire_contract.reports import ProviderError
from wire_contract.vmm_interface import MachineView
from wire_contract.vocabulary import ReplicationMode, ReplicationState

S, M = ReplicationState, ReplicationMode
REPLICA = "replica-of-before"


def primary(state: ReplicationState = S.REPLICATING) -> MachineView:
    view = replication(state, M.PRIMARY)
    peer = {"peer_machine_id": REPLICA, "peer_host": "osaka-host1.example", "peer_port": 8085}
    return machine(MACHINE_ID, "tokyo", view.model_copy(update=peer))


def replica(**changes: object) -> MachineView:
    view = machine(REPLICA, "osaka", replication(S.REPLICATING, M.REPLICA))
    return view.model_copy(update=changes)


async def shown(world: HubWorld) -> None:
    """Both sites show the relationship that somebody made at the hosts."""
    for site, view in (("tokyo", primary()), ("osaka", replica())):
        await world.reports.inventory(world.providers[site], inventory(site, (view,)))


async def enable(world: HubWorld) -> str:
    job = await world.protection.enable(
        world.vault,
        container=("tokyo-fabric", "tokyo-cloud"),
        item_name=MACHINE_ID,
        machine_id=MACHINE_ID,
        policy_name="p",
        identity=world.identity(),
    )
    return job.id


async def test_relationship_and_replica_are_taken_over(tmp_path: Path) -> None:
    asked: list[Assignment] = []

    def note(assignment: Assignment) -> ProviderError | None:
        asked.append(assignment)
        return None

    async with hub_world(tmp_path) as world:
        await paired(world)
        await shown(world)
        done = await until_done(world, await enable(world), note)
        # The primary is told first, and no replica is placed.
        assert done == [
            "tokyo enable_replication e1",
            "tokyo start_initial_replication e1",
            "tokyo update_protection e1",
            "osaka update_protection e1",
        ]
        arguments = asked[0].arguments
        assert arguments["relationship_id"] == "r"
        assert arguments["replica_machine_id"] == asked[3].target == REPLICA
        assert arguments["replica_host"] == "osaka-host1.example"
        assert arguments["replica_port"] == 8085
        item = await world.item()
        assert (item.recovery_machine_id, item.taken_over) == (REPLICA, True)
        await completed(world)
        assert (await world.item()).state is ProtectionState.PROTECTED


async def test_what_was_shown_before_protection_ended_is_not_taken_over(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await paired(world)
        await shown(world)
        await until_done(world, await enable(world))
        await completed(world)
        world.clock.time += timedelta(minutes=1)
        await until_done(world, await ask(world, Operation.DISABLE))
        assert (await until_done(world, await enable(world)))[0] == "osaka place_replica e2"
        await completed(world)
        # What is shown afterwards is there, whoever made it.
        await until_done(world, await ask(world, Operation.DISABLE))
        world.clock.time += timedelta(minutes=1)
        await shown(world)
        assert (await until_done(world, await enable(world)))[0] == "tokyo enable_replication e3"


async def test_cancelled_it_replicates_as_before(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await paired(world)
        await shown(world)
        job_id = await enable(world)
        await world.engine.feed(job_id, CancelRequested(world.clock.now(), "anna", "not yet"))
        done = await until_done(world, job_id)
        assert not [each for each in done if "disable" in each]
        assert (await world.job(job_id)).state is JobState.CANCELLED
        assert await world.store.get(ProtectedItem, MACHINE_ID) is None


@pytest.mark.parametrize(
    ("own", "other"),
    [
        (machine(MACHINE_ID, "tokyo"), replica()),
        (primary(S.RESYNCHRONIZING), replica()),
        (primary(), None),
        (primary(), replica(hyperv_id="another")),
        (primary(), replica(cloud_id="another")),
        (primary(), replica(protected_item="another")),
        (primary(), replica(replication=None)),
        (primary(), replica(replication=replication(S.REPLICATING, M.PRIMARY))),
    ],
)
def test_what_is_not_one_relationship_is_not_taken_over(
    own: MachineView, other: MachineView | None
) -> None:
    seen = inventory("osaka", () if other is None else (other,))
    assert relationship_to_take_over(own, seen, "osaka-cloud") is None
    assert relationship_to_take_over(primary(), inventory("osaka", (replica(),)), "osaka-cloud")
