"""A mapped network on real fabrics: attached, carried through a failover, and brought back."""

from pathlib import Path
from typing import Any

from service_hub.domain.jobs import Job, JobState
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import MachineObservation, ProtectedItem
from tests.support.hub_world import HubWorld
from tests.support.kill_stories import QUICK_WATCH_SECONDS, stories
from tests.support.kill_world import KillWorld, kill_world, light_world
from tests.support.simulator_estate import MACHINE
from wire_contract.vocabulary import Side

ENABLE = f"{Operation.ENABLE.value} of {ProtectionState.UNPROTECTED.value}"
BEFORE = ("create_policy", "pair_clouds", "map_network", ENABLE)
"""Mapped first: the replica is attached when its initial replication has ended."""


async def the_item(world: KillWorld) -> ProtectedItem:
    """Return the item as it is stored."""
    found: Any = await world.call(lambda hub: hub.store.get(ProtectedItem, MACHINE))
    item: ProtectedItem = found.record
    return item


async def done(world: KillWorld, operation: Operation) -> Job:
    """Do an operation away from where the item runs; its job as it ended."""
    identity, item = world.identity(), await the_item(world)
    ahead = item.active_location is Side.PRIMARY
    arguments = {"failover_direction": "PrimaryToRecovery" if ahead else "RecoveryToPrimary"}

    async def ask(hub: HubWorld) -> Job:
        return await hub.protection.request(
            hub.vault, MACHINE, operation.value, arguments, identity
        )

    begun: Job = await world.call(ask)

    async def has_ended() -> bool:
        job: Job = await world.call(lambda hub: hub.job(begun.id))
        return job.finished

    await world.until(has_ended, "the job has ended")
    job: Job = await world.call(lambda hub: hub.job(begun.id))
    assert job.state is JobState.SUCCEEDED, job.errors
    return job


def network_at(world: KillWorld, site: str, machine_id: str) -> str | None:
    """Return which network a copy's adapter is on, as the site itself has it."""
    (nic,) = world.sites[site].fabric.store.machines[machine_id].nics
    return nic.network_id


async def test_a_mapped_network_is_attached_kept_and_brought_back(tmp_path: Path) -> None:
    known = stories()
    with light_world():
        async with kill_world(tmp_path, watch_seconds=QUICK_WATCH_SECONDS) as world:
            for name in BEFORE:
                await known[name].ask(world)
                over = known["pair_clouds"].over if name == "map_network" else known[name].over
                await world.settled(over)
            replica = (await the_item(world)).recovery_machine_id
            assert network_at(world, "osaka", replica) == "network"

            await done(world, Operation.PLANNED_FAILOVER)
            assert network_at(world, "osaka", replica) == "network"
            await done(world, Operation.REVERSE_REPLICATE)
            # Somebody takes the running machine off its network: so is the source's, once back.
            site = world.sites["osaka"].fabric.store
            off = site.machines[replica].nics[0].model_copy(update={"network_id": None})
            await site.change_machine(
                replica, lambda each: each.model_copy(update={"nics": (off,)})
            )

            async def is_told() -> bool:
                found: Any = await world.call(
                    lambda hub: hub.store.get(MachineObservation, f"osaka-provider/{replica}")
                )
                nics = found.record.machine.nics
                return bool(nics) and nics[0].network_id is None

            await world.until(is_told, "the hub knows of it")
            assert network_at(world, "tokyo", MACHINE) == "network"
            await done(world, Operation.PLANNED_FAILOVER)
            assert (await the_item(world)).active_location is Side.PRIMARY
            assert network_at(world, "tokyo", MACHINE) is None
