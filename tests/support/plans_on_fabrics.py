"""Two protected machines in virtual networks with address pools, on real fabrics, and a plan."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from pydantic import JsonValue

from service_hub.domain.jobs import Job
from service_hub.domain.protection import Operation
from service_hub.domain.records import ProtectedItem
from service_hub.domain.recovery_plans import GroupType, PlanAction, RecoveryGroup
from service_hub.plan_ports import PlanContent
from service_hub.ports.use_cases import RequestIdentity
from tests.support.hub_world import HubWorld
from tests.support.kill_plans import FURTHER, GROUND, every_story
from tests.support.kill_stories import QUICK_WATCH_SECONDS
from tests.support.kill_world import KillWorld, kill_world, light_world
from tests.support.simulator_estate import MACHINE
from vmm_simulator.vmm.adapters import Wish, with_adapters
from vmm_simulator.vmm.estate_records import (
    AddressPoolRecord,
    AddressType,
    Isolation,
    LibraryShareRecord,
    SubnetRecord,
)
from vmm_simulator.vmm.inventory import Edit, Inventory

PLAN: Final = "Payroll"
SUBNETS: Final[Mapping[str, str]] = {"tokyo": "10.1.0", "osaka": "10.2.0"}
ADDRESSES: Final[Mapping[str, str]] = {MACHINE: "10.1.0.11", FURTHER: "10.1.0.12"}


@dataclass(frozen=True)
class PlanWorld:
    """A world in which a plan of two groups over two machines can be run."""

    world: KillWorld

    def library(self, site: str) -> Path:
        """Return the folder of a site's library share."""
        return self.world.root / f"library-{site}"

    async def save(
        self, before: Sequence[PlanAction] = (), after: Sequence[PlanAction] = ()
    ) -> None:
        """Save the plan: one machine in each group, actions around the second group."""
        groups = (
            RecoveryGroup(group_type=GroupType.BOOT, members=(MACHINE,)),
            RecoveryGroup(
                group_type=GroupType.BOOT,
                members=(FURTHER,),
                before=tuple(before),
                after=tuple(after),
            ),
        )
        identity = self.world.identity()
        content = PlanContent(groups, "tokyo-fabric", "osaka-fabric")
        await self.ended(
            await self.world.call(
                lambda hub: hub.recovery_plans.save(hub.vault, PLAN, content, identity)
            )
        )

    async def begun(self, operation: Operation, **arguments: JsonValue) -> Job:
        """Begin an operation on the plan."""
        identity = self.world.identity()
        job: Job = await self.world.call(lambda hub: _run(hub, operation, arguments, identity))
        return job

    async def run(self, operation: Operation, **arguments: JsonValue) -> Job:
        """Do an operation on the plan; its job as it ended."""
        return await self.ended(await self.begun(operation, **arguments))

    async def ended(self, begun: Job) -> Job:
        """Return a job once it has ended and has let go of the plan and its machines."""
        job = await self.until(begun.id, lambda job: job.finished)

        async def is_free() -> bool:
            items = await self.world.call(lambda hub: hub.store.find(ProtectedItem))
            return all(each.record.plan is None for each in items)

        await self.world.until(is_free, "the plan has let its machines go")
        return job

    async def until(self, job_id: str, reached: Any) -> Job:
        """Return a job once it is as wanted."""

        async def holds() -> bool:
            return bool(reached(await self.job(job_id)))

        await self.world.until(holds, "the job is as wanted")
        return await self.job(job_id)

    async def job(self, job_id: str) -> Job:
        """Return a job as it is now."""
        job: Job = await self.world.call(lambda hub: hub.job(job_id))
        return job

    def inventory(self, site: str) -> Inventory:
        """Return what a site has."""
        return self.world.sites[site].fabric.store.inventory


async def _run(
    hub: HubWorld,
    operation: Operation,
    arguments: Mapping[str, JsonValue],
    identity: RequestIdentity,
) -> Job:
    return await hub.recovery_plans.run(hub.vault, PLAN, operation, arguments, identity)


@asynccontextmanager
async def plan_world(folder: Path) -> AsyncIterator[PlanWorld]:
    """Protect two machines with static addresses, networks mapped; nothing of a plan is there."""
    with light_world():
        async with kill_world(
            folder, watch_seconds=QUICK_WATCH_SECONDS, further=(FURTHER,)
        ) as world:
            made = PlanWorld(world)
            for site in SUBNETS:
                made.library(site).mkdir()
                store = world.sites[site].fabric.store
                share = LibraryShareRecord(
                    unc=f"\\\\vmm.{site}.example\\MSCVMMLibrary", folder=str(made.library(site))
                )
                await store.edit(partial(_furnished, site=site, share=share))
            store = world.sites["tokyo"].fabric.store
            for machine_id in ADDRESSES:
                await store.edit(partial(_addressed, machine_id=machine_id))
            identity, ends = world.identity(), ("tokyo-fabric", "osaka-fabric")
            await every_story()[GROUND].ask(world)
            await world.settled(every_story()[GROUND].over)
            mapped: Job = await world.call(
                lambda hub: hub.networks.map(
                    hub.vault,
                    name="map",
                    primary=(ends[0], "network"),
                    recovery=(ends[1], "network"),
                    identity=identity,
                )
            )
            await made.until(mapped.id, lambda job: job.finished)
            yield made


def _furnished(inventory: Inventory, site: str, share: LibraryShareRecord) -> Edit:
    """Return the edit that makes the site's network a virtual one with a pool, and its library."""
    fabric, subnet = inventory.fabric, SUBNETS[site]
    network = fabric.networks[0].model_copy(
        update={
            "network_type": Isolation.NETWORK_VIRTUALIZATION.value,
            "subnets": (SubnetRecord(name="web", address_list=(f"{subnet}.0/24",)),),
        }
    )
    pool = AddressPoolRecord(
        pool_id=f"pool-{site}",
        name="pool",
        network_id=network.network_id,
        subnet="web",
        first=f"{subnet}.10",
        last=f"{subnet}.50",
    )
    update = {"networks": (network,), "address_pools": (pool,), "library_shares": (share,)}
    return Edit(put=(fabric.model_copy(update=update),))


def _addressed(inventory: Inventory, machine_id: str) -> Edit:
    machine = inventory.machines[machine_id]
    nic = machine.nics[0].nic_id if machine.nics else f"{machine_id}-nic"
    wish = Wish(nic, "network", "web", AddressType.STATIC, ADDRESSES[machine_id])
    return with_adapters(inventory, machine, [wish])
