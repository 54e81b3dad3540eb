"""Counting what happens to a relationship, durably, and telling the figures of an interval."""

from collections.abc import Callable

import structlog

from service_shell.clock import Clock
from vmm_simulator.hyperv.statistics import INTERVAL_EVENT, Statistics, rolled
from vmm_simulator.store import InventoryStore
from vmm_simulator.vmm.records import MachineRecord
from vmm_simulator.vmm.transitions import with_relationship

log = structlog.get_logger(__name__)

Count = Callable[[Statistics], Statistics]
MachineChange = Callable[[MachineRecord], MachineRecord]


def unchanged(machine: MachineRecord) -> MachineRecord:
    """Return the machine as it is: nothing but the counters changes."""
    return machine


class Counting:
    """The counters of the machines of a site; the monitoring settings are those of their hosts."""

    def __init__(self, store: InventoryStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def count(
        self, machine_id: str, count: Count, change: MachineChange = unchanged
    ) -> MachineRecord:
        """Count, and change the record besides, in one durable change.

        A machine that has no relationship any more is left as it is.
        """
        ended: list[Statistics] = []

        def apply(machine: MachineRecord) -> MachineRecord:
            relationship = machine.relationship
            if relationship is None:
                return machine
            monitoring = self._store.host(machine.host).monitoring
            present = rolled(relationship.statistics, monitoring, self._clock.now())
            if relationship.statistics.begins_at not in (None, present.begins_at):
                ended.append(relationship.statistics)
            return change(with_relationship(machine, statistics=count(present)))

        machine = await self._store.change_machine(machine_id, apply)
        for former in ended:
            log.info(
                "monitoring_interval_ended",
                event_id=INTERVAL_EVENT,
                machine_id=machine_id,
                **former.model_dump(mode="json"),
            )
        return machine
