"""Fencing: this copy is not the active one any more; it ends and cannot be started."""

import structlog

from vmm_simulator.hyperv.host import Host
from vmm_simulator.store import InventoryStore
from vmm_simulator.vmm.transitions import fenced

log = structlog.get_logger(__name__)


async def fence(store: InventoryStore, host: Host, machine_id: str, reason: str) -> None:
    """Forbid writes at once, note the fence durably, then end the guest (decision 4)."""
    host.backend.forbid_writes(machine_id)
    machine = await store.change_machine(machine_id, fenced)
    await host.guests.kill(machine)
    log.warning("copy_fenced", machine_id=machine_id, epoch=machine.epoch, cause=reason)
