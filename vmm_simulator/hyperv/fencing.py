"""Fencing: this copy is not the active one any more; it ends and cannot be started."""

import structlog

from vmm_simulator.hyperv.host import Host
from vmm_simulator.store import InventoryStore
from vmm_simulator.vmm.records import MachineRecord
from vmm_simulator.vmm.transitions import fenced

log = structlog.get_logger(__name__)


async def fence(
    store: InventoryStore,
    host: Host,
    machine_id: str,
    reason: str,
    *,
    sent_epoch: int | None = None,
) -> None:
    """Forbid writes at once, note the fence durably, then end the guest (decision 4).

    `sent_epoch`: what was refused was sent under this epoch. A refusal that comes after the copy
    was made the active one again, under a higher epoch, says nothing of it, and changes nothing.
    """

    def change(machine: MachineRecord) -> MachineRecord:
        return machine if _is_late(machine, sent_epoch) else fenced(machine)

    if _is_late(store.machine(machine_id), sent_epoch):
        log.info("late_refusal_passed_over", machine_id=machine_id, epoch=sent_epoch)
        return
    host.backend.forbid_writes(machine_id)
    machine = await store.change_machine(machine_id, change)
    if _is_late(machine, sent_epoch):
        host.backend.allow_writes(machine_id)
        log.info("late_refusal_passed_over", machine_id=machine_id, epoch=sent_epoch)
        return
    await host.guests.kill(machine)
    log.warning("copy_fenced", machine_id=machine_id, epoch=machine.epoch, cause=reason)


def _is_late(machine: MachineRecord, sent_epoch: int | None) -> bool:
    return sent_epoch is not None and sent_epoch < machine.epoch
