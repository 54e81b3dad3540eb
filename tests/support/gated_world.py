"""Real hub, agents and simulated sites, where an agent can be held at a command of its own.

Then something can be asked of the job exactly before or after the effect of that command.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from service_hub.domain.jobs import Job
from service_hub.domain.protection import Operation, ProtectionState, expected_direction
from service_hub.domain.records import ProtectedItem
from tests.support.hub_world import HubWorld
from tests.support.kill_matrix import matrix_folder, quiet_logs
from tests.support.kill_programs import Trap
from tests.support.kill_stories import QUICK_WATCH_SECONDS, stories
from tests.support.kill_world import SITES, KillWorld, kill_world
from tests.support.simulator_estate import MACHINE
from wire_contract.vocabulary import RunState

UNTIL_PROTECTED = ("create_policy", "pair_clouds", "EnableProtection of Unprotected")
SECONDS_MAX = 30.0


class Gate:
    """Holds an agent at the nth command of an operation until it is opened."""

    def __init__(self) -> None:
        self._point, self._left = "", 0
        self.reached, self.opened = asyncio.Event(), asyncio.Event()

    def arm(self, point: str, nth: int) -> None:
        """Hold the agent that reaches this point for the nth time from now on."""
        self._point, self._left = point, nth
        self.reached, self.opened = asyncio.Event(), asyncio.Event()

    async def pass_by(self, program: str, name: str) -> None:
        """Wait here, if it is the place."""
        if program not in SITES or name != self._point:
            return
        self._left -= 1
        if self._left == 0:
            self.reached.set()
            await self.opened.wait()


@contextmanager
def gates() -> Iterator[Gate]:
    """A gate at every failpoint of both agents."""
    made = Gate()

    async def reach(trap: Trap, name: str) -> None:
        trap.reach_now(name)
        await made.pass_by(trap._program, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trap, "reach", reach)
        yield made


@asynccontextmanager
async def protected_machine() -> AsyncIterator[KillWorld]:
    """Run everything up to a protected machine."""
    with quiet_logs(), matrix_folder() as folder:
        async with kill_world(folder / "world", watch_seconds=QUICK_WATCH_SECONDS) as world:
            for name in UNTIL_PROTECTED:
                await stories()[name].ask(world)
                await world.settled(stories()[name].over)
            yield world


async def newest_job(hub: HubWorld) -> Job:
    """Return the job that was made last."""
    return [each.record for each in await hub.store.find(Job)][-1]


async def item_of(hub: HubWorld) -> ProtectedItem:
    """Return the protected machine's item."""
    found = await hub.store.get(ProtectedItem, MACHINE)
    assert found is not None
    return found.record


async def running_copies(world: KillWorld) -> list[str]:
    """Return where the machine, or a test of it, runs."""
    return [
        name
        for name, site in world.sites.items()
        for machine in site.fabric.store.machines.values()
        if site.fabric.host_of(machine).guests.run_state(machine) is RunState.RUNNING
        and (machine.hyperv_id == MACHINE or machine.test_machine_of is not None)
    ]


async def ended(world: KillWorld, job_id: str) -> Job:
    """Return the job once it has ended."""
    found: Job | None = None

    async def holds() -> bool:
        nonlocal found
        present = await world.call(lambda hub: hub.store.get(Job, job_id))
        found = present.record
        return bool(found.finished)

    await world.until(holds, f"job {job_id} has ended")
    assert found is not None
    return found


async def ask(
    world: KillWorld,
    operation: Operation,
    state: ProtectionState = ProtectionState.PROTECTED,
) -> None:
    """Request an operation as an operator does."""
    await stories()[f"{operation.value} of {state.value}"].ask(world)


async def request(world: KillWorld, operation: Operation) -> None:
    """Request a failover away from where the machine runs, whatever state its item is in."""
    identity = world.identity()
    active = (await world.call(item_of)).active_location
    arguments = {"failover_direction": expected_direction(operation, active)}
    await world.call(
        lambda hub: hub.protection.request(hub.vault, MACHINE, operation.value, arguments, identity)
    )


async def cancel(world: KillWorld, job_id: str) -> None:
    """Cancel a job as an operator does."""
    identity = world.identity()
    await world.call(lambda hub: hub.jobs.cancel(hub.vault, job_id, identity))


async def restart(world: KillWorld, job_id: str) -> None:
    """Restart a job as an operator does."""
    identity = world.identity()
    await world.call(lambda hub: hub.jobs.restart(hub.vault, job_id, identity))


async def cancel_at(
    world: KillWorld,
    gate: Gate,
    operation: Operation | None,
    place: tuple[str, int],
    state: ProtectionState = ProtectionState.PROTECTED,
) -> Job:
    """Request an operation, unless it runs, and cancel it when an agent has reached a place."""
    if operation is not None:
        gate.arm(*place)
        await ask(world, operation, state)
    await asyncio.wait_for(gate.reached.wait(), SECONDS_MAX)
    job = await world.call(running_job)
    await cancel(world, job.id)
    gate.opened.set()
    return await ended(world, job.id)


async def running_job(hub: HubWorld) -> Job:
    """Return the job that has not ended; there is one."""
    (job,) = [each.record for each in await hub.store.find(Job) if not each.record.finished]
    return job
