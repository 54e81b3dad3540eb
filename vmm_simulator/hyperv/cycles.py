"""All replication cycles of a site: one task per sending machine, owned by one task group."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from service_shell.clock import Clock
from vmm_simulator.hyperv.cycle import Progress, ReplicationCycle
from vmm_simulator.hyperv.groups import Groups
from vmm_simulator.store import InventoryStore
from vmm_simulator.vmm.transitions import sends

log = structlog.get_logger(__name__)


class Cycles:
    """Starts a cycle where a copy sends, and stops it where it must not go on."""

    def __init__(
        self,
        store: InventoryStore,
        group: asyncio.TaskGroup,
        make: Callable[[str], ReplicationCycle],
        clock: Clock,
    ) -> None:
        self._store = store
        self._group = group
        self._make = make
        self._cycles: dict[str, ReplicationCycle] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._importing: dict[str, Progress] = {}
        self._groups = Groups(
            store,
            clock,
            lambda each: self.cycle(each).shipping,
            lambda each: self.cycle(each).wake(),
        )

    def cycle(self, machine_id: str) -> ReplicationCycle:
        """Return the cycle of a machine, also to send once without its task."""
        if machine_id not in self._cycles:
            cycle = self._make(machine_id)
            cycle.groups = self._groups
            self._cycles[machine_id] = cycle
        return self._cycles[machine_id]

    def ensure(self, machine_id: str) -> None:
        """Have a task run while the machine sends; begin the next cycle now."""
        if not sends(self._store.machine(machine_id)):
            return
        cycle = self.cycle(machine_id)
        task = self._tasks.get(machine_id)
        if task is None or task.done():
            self._tasks[machine_id] = self._group.create_task(
                cycle.run(), name=f"replication {machine_id}"
            )
        cycle.wake()

    def ensure_all(self) -> None:
        """Do so for every machine."""
        for machine_id in self._store.machines:
            self.ensure(machine_id)

    async def stop(self, machine_id: str) -> None:
        """Return when no transfer of this machine is under way; the marks stay."""
        task = self._tasks.pop(machine_id, None)
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait([task])
        cycle = self._cycles.pop(machine_id, None)
        if cycle is not None:
            # Its group may have cut for it meanwhile: the next cut holds that too.
            await cycle.shipping.give_back()

    async def stop_all(self) -> None:
        """Stop every cycle."""
        for machine_id in list(self._tasks):
            await self.stop(machine_id)

    @contextmanager
    def importing(self, machine_id: str) -> Iterator[Callable[[int, int], None]]:
        """Show an import as the transfer of the machine: give what is yielded (done, total)."""
        progress = self._importing[machine_id] = Progress(bytes_total=1)

        def note(done: int, total: int) -> None:
            progress.bytes_done, progress.bytes_total = done, total

        try:
            yield note
        finally:
            self._importing.pop(machine_id, None)

    def progress(self, machine_id: str) -> Progress | None:
        """Return how far the transfer or import under way is, or None."""
        if machine_id in self._importing:
            return self._importing[machine_id]
        cycle = self._cycles.get(machine_id)
        return None if cycle is None else cycle.shipping.progress

    def failures_in_a_row(self, machine_id: str) -> int:
        """Return how many cycles have failed since the last that succeeded."""
        cycle = self._cycles.get(machine_id)
        return 0 if cycle is None else cycle.shipping.failures_in_a_row
