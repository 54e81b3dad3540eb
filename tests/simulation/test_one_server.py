"""One server with two clouds: a machine is protected from one to the other, failed over and back.

Both ends of every job are the same provider; hub, provider, server and hosts are the real ones on
played time and network.
"""

import asyncio
from contextlib import chdir
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from service_hub.domain.jobs import Job
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import ContainerMapping, ProtectedItem
from tests.support.hub_world import HubWorld
from tests.support.kill_matrix import quiet_logs
from tests.support.kill_stories import WATCH_SECONDS, no_job_runs
from tests.support.kill_world import KillWorld, estate_world
from tests.support.played_network import NetworkLoop, played_network
from tests.support.ring_estate import OWN, TAKING, RingEstate, cloud_of, machine_of, paired_ring
from tests.support.walk_ways import arguments_for
from vmm_simulator.vmm.records import MachineRecord
from wire_contract.vocabulary import RunState, Side

SITE = "tokyo"
MACHINE = machine_of(SITE)
FABRIC = f"{SITE}-fabric"
PLAYED_SECONDS_MAX = 3_000.0
NETWORK = "network"


async def the_item(world: KillWorld) -> ProtectedItem | None:
    """Return the machine's item, None while it is unprotected."""
    found: Any = await world.call(lambda hub: hub.store.get(ProtectedItem, MACHINE))
    return None if found is None else found.record


async def done(world: KillWorld, operation: Operation) -> None:
    """Do an operation, and let the machine be protected or failed over after it."""
    identity = world.identity()

    async def ask(hub: HubWorld) -> Job:
        if operation is Operation.ENABLE:
            return await hub.protection.enable(
                hub.vault,
                container=(FABRIC, cloud_of(SITE, OWN)),
                item_name=MACHINE,
                machine_id=MACHINE,
                policy_name="p",
                identity=identity,
            )
        item = await hub.store.get(ProtectedItem, MACHINE)
        assert item is not None
        arguments = arguments_for(operation, item.record.active_location)
        return await hub.protection.request(
            hub.vault, MACHINE, operation.value, arguments, identity
        )

    await world.call(ask)
    rests = {ProtectionState.PROTECTED, ProtectionState.PLANNED_FAILED_OVER}

    async def at_rest() -> bool:
        item = await the_item(world)
        return item is not None and item.state in rests and await world.call(no_job_runs)

    if operation is Operation.DISABLE:
        await no_job(world)
    else:
        await world.until(at_rest, f"{operation} is done", seconds_max=PLAYED_SECONDS_MAX)


def content(machine: MachineRecord) -> bytes:
    """Return what is on the disk of a copy."""
    return Path(machine.disks[0].path).read_bytes()


async def no_job(world: KillWorld) -> None:
    """Return once all jobs have succeeded."""

    async def holds() -> bool:
        over: bool = await world.call(no_job_runs)
        return over

    await world.until(holds, "no job runs", seconds_max=PLAYED_SECONDS_MAX)


async def map_network(world: KillWorld) -> None:
    """Map the server's network to itself."""
    identity = world.identity()
    await world.call(
        lambda hub: hub.networks.map(
            hub.vault,
            name="map",
            primary=(FABRIC, NETWORK),
            recovery=(FABRIC, NETWORK),
            identity=identity,
        )
    )
    await no_job(world)


async def told(world: KillWorld) -> None:
    """Protect, fail over, reverse, fail back, disable, and separate the clouds again."""
    store = world.sites[SITE].fabric.store
    await paired_ring(world, [SITE])
    await map_network(world)
    await done(world, Operation.ENABLE)
    item = await the_item(world)
    assert item is not None
    replica = item.recovery_machine_id
    clouds = {each: store.machines[each].cloud_id for each in (MACHINE, replica)}
    assert clouds == {MACHINE: cloud_of(SITE, OWN), replica: cloud_of(SITE, TAKING)}
    assert store.machines[MACHINE].host != store.machines[replica].host
    assert [nic.network_id for nic in store.machines[replica].nics] == [NETWORK]

    for runs, rests, side in ((replica, MACHINE, Side.RECOVERY), (MACHINE, replica, Side.PRIMARY)):
        await done(world, Operation.PLANNED_FAILOVER)
        guests = {
            each: world.sites[SITE]
            .fabric.host_of(store.machines[each])
            .guests.run_state(store.machines[each])
            for each in (runs, rests)
        }
        assert guests == {runs: RunState.RUNNING, rests: RunState.OFF}
        contents = {content(store.machines[each]) for each in guests}
        assert len(contents) == 1, "a planned failover loses nothing"
        await done(world, Operation.REVERSE_REPLICATE)
        after = await the_item(world)
        assert after is not None
        assert after.active_location is side

    await done(world, Operation.DISABLE)
    assert await the_item(world) is None
    assert replica not in store.machines, "the policy has replicas deleted"
    identity, cloud = world.identity(), (FABRIC, cloud_of(SITE, TAKING))
    name = f"{SITE}-to-{SITE}"
    await world.call(lambda hub: hub.pairing.remove(hub.vault, cloud, name, identity))
    await no_job(world)
    assert await world.call(lambda hub: hub.store.find(ContainerMapping)) == []


def test_one_server_with_two_clouds_protects_from_one_to_the_other(tmp_path: Path) -> None:
    async def story() -> None:
        folder = Path("world")
        (folder / "estate").mkdir(parents=True)
        estate = RingEstate(folder / "estate", sites=(SITE,))
        async with estate_world(folder, estate, (SITE,), watch_seconds=WATCH_SECONDS) as world:
            await told(world)

    begin = datetime.now(UTC)
    with (
        quiet_logs(),
        played_network(),
        chdir(tmp_path),
        asyncio.Runner(loop_factory=lambda: NetworkLoop(begin, "one server")) as runner,
    ):
        runner.run(story())
