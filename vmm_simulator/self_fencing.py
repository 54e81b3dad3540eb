"""Stops guests whose host has reached neither hub nor replica for as long as their policy says.

The guest ends and waits for its epoch, as after a restart of its host: it runs again once the hub
has confirmed, through the provider, that this copy is still the active one.
"""

import asyncio
from datetime import datetime
from typing import Final

import structlog

from vmm_simulator.hyperv.replica_finding import other_end
from vmm_simulator.hyperv.silence import Act, Heard, act_now, stands_by
from vmm_simulator.problems import RefusedError
from vmm_simulator.verbs.call import Fabric
from vmm_simulator.vmm.records import MachineRecord
from wire_contract.vocabulary import ReplicationMode, RunState

LOOK_SECONDS: Final = 0.5
ASKING_SECONDS_MAX: Final = 3.0
"""Longest that the replica's host may take; it is asked while there is time for that."""

log = structlog.get_logger(__name__)


class SelfFencing:
    """Watches the sources of a site; what was heard is forgotten with the process on purpose.

    A host that starts has no protected guest running before its epoch is confirmed.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._hub_at = asyncio.get_running_loop().time()
        self._replica_at: dict[str, tuple[datetime | None, float]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._asked_at: dict[str, float] = {}

    def hub_heard(self) -> None:
        """Note that the provider has just had an answer of the hub."""
        self._hub_at = asyncio.get_running_loop().time()

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        store = self._fabric.store
        async with asyncio.TaskGroup() as group:
            while True:
                number, machines = store.change_number, list(store.machines.values())
                watched = [each for each in machines if _is_watched(each)]
                for machine in watched:
                    await self._look_at(machine, group)
                # Not at each of a plan's thousands of changes: a look goes through all machines.
                await asyncio.sleep(LOOK_SECONDS)
                if not watched:
                    # Nobody is to stop by himself: a change of settings is news.
                    await store.wait_for_change(number)

    async def _look_at(self, machine: MachineRecord, group: asyncio.TaskGroup) -> None:
        relationship, machine_id = machine.relationship, machine.machine_id
        assert relationship is not None, "it is watched"
        assert relationship.self_fence_seconds is not None, "it is watched"
        if self._fabric.host_of(machine).guests.run_state(machine) is RunState.OFF:
            self._replica_at.pop(machine_id, None)
            return
        now = asyncio.get_running_loop().time()
        seen = self._replica_at.get(machine_id)
        if seen is None or seen[0] != relationship.last_replication_at:
            self._replica_at[machine_id] = seen = (relationship.last_replication_at, now)
        seconds = relationship.self_fence_seconds
        asked = now - self._asked_at.get(machine_id, -seconds) < max(LOOK_SECONDS, seconds / 10)
        match act_now(Heard(self._hub_at, seen[1]), seconds, now, asked=asked):
            case Act.STOP:
                await self._stop(machine, seconds)
            case Act.ASK if machine_id not in self._asking:
                self._asked_at[machine_id] = now
                task = group.create_task(self._ask(machine))
                self._asking[machine_id] = task
                task.add_done_callback(lambda _: self._asking.pop(machine_id, None))
            case _:
                return

    async def _ask(self, machine: MachineRecord) -> None:
        """Ask the replica's host whether it still is one; no answer is an answer too."""
        relationship = machine.relationship
        assert relationship is not None, "only sources are asked about"
        began = asyncio.get_running_loop().time()
        host = self._fabric.host_of(machine)
        try:
            async with asyncio.timeout(ASKING_SECONDS_MAX):
                other = await other_end(host, relationship)
        except (RefusedError, OSError, TimeoutError) as error:
            log.info("replica_not_reached", machine_id=machine.machine_id, cause=repr(error))
            return
        if stands_by(other.mode, other.state, other.epoch, machine.epoch):
            # As of when it was asked: it may have taken over since.
            self._replica_at[machine.machine_id] = (relationship.last_replication_at, began)

    async def _stop(self, machine: MachineRecord, seconds: int) -> None:
        # First the word, then the guest: nothing starts it again before the hub confirms it.
        self._fabric.confirmed.discard(machine.machine_id)
        try:
            await self._fabric.host_of(machine).guests.kill(machine)
        except RefusedError as refusal:
            # Its disks take no writes any more; looked at again in a moment.
            log.error("self_fence_failed", machine_id=machine.machine_id, cause=refusal.message)  # noqa: TRY400 -- the refusal says it all
            return
        log.warning(
            "guest_stopped_by_itself",
            machine_id=machine.machine_id,
            epoch=machine.epoch,
            seconds=seconds,
            cause="neither the hub nor the replica was reached",
        )


def _is_watched(machine: MachineRecord) -> bool:
    relationship = machine.relationship
    return (
        relationship is not None
        and relationship.self_fence_seconds is not None
        and relationship.mode is ReplicationMode.PRIMARY
    )
