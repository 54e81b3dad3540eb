"""The field's status of a machine, and whether it can be protected as it is; pure.

Statuses: behaviour section 6 (only Running and PowerOff fit for enabling); disks and hosts: the
support matrix to a secondary site (behaviour 3.5) and the seed's prerequisites.
"""

from enum import StrEnum

from vmm_simulator.vmm.clusters import broker_missing
from vmm_simulator.vmm.inventory import Inventory
from vmm_simulator.vmm.records import MachineRecord
from vmm_simulator.vmm.rules import DISKS_MAX
from wire_contract.vocabulary import RunState


class Status(StrEnum):
    """VMM's status of a machine, as far as this fabric has it."""

    RUNNING = "Running"
    POWER_OFF = "PowerOff"
    SAVED = "Saved"
    PAUSED = "Paused"
    UNDER_MIGRATION = "Under Migration"
    CREATING = "Creating"


def status(machine: MachineRecord, run_state: RunState) -> Status:
    """Return the status; `run_state` is read from the machine's process."""
    if machine.reserved:
        return Status.CREATING
    if machine.migrating_to is not None:
        return Status.UNDER_MIGRATION
    if run_state is not RunState.OFF:
        return Status.PAUSED if run_state is RunState.PAUSED else Status.RUNNING
    return Status.SAVED if machine.saved else Status.POWER_OFF


def unfit_for_protection(
    inventory: Inventory, machine: MachineRecord, run_state: RunState
) -> str | None:
    """Return in words why a machine cannot be protected now, None where nothing speaks against it.

    Saved and paused: behaviour 5, "not running and not powered off: start or turn off".
    The cloud's pairing and the host's preparation are asked by the relationship's own checks.
    """
    cloud = inventory.clouds.get(machine.cloud_id)
    if cloud is not None and cloud.capability_profile != "Hyper-V":
        return f"cloud {cloud.name} has the capability profile {cloud.capability_profile}"
    if machine.saved:
        return "it is saved; start it or turn it off"
    if run_state is RunState.PAUSED:
        return "it is paused; resume it or turn it off"
    if machine.migrating_to is not None:
        return f"it is being moved to {machine.migrating_to}; wait for its end"
    if not 1 <= len(machine.disks) <= DISKS_MAX:
        return f"it has {len(machine.disks)} disks; 1 to {DISKS_MAX} can be protected"
    host = inventory.hosts.get(machine.host)
    return None if host is None else broker_missing(inventory.fabric, host)
