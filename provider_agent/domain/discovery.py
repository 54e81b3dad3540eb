"""What changed on the fabric since the hub was last told (docs/wire-contract.md)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from wire_contract.vmm_interface import InventoryView, MachineView

PROGRESS_STEP_PERCENT: Final = 5.0
"""Smallest step of a copy's progress that is worth a report."""


@dataclass(frozen=True, slots=True)
class Differences:
    """`changed`: machines to report. `structural`: the whole inventory is to be sent.

    `confirmation_lost`: a copy's epoch was confirmed at the look before and is not now: its host
    has restarted (or the hub has just said that it is not the active copy).
    """

    changed: tuple[MachineView, ...]
    structural: bool
    confirmation_lost: bool


def differences(
    reported: Mapping[str, MachineView], before: InventoryView | None, now: InventoryView
) -> Differences:
    """Compare `now` with what was reported per machine, and with the inventory before.

    Progress is compared with the last report, not with the last look: many small steps count.
    """
    earlier = {machine.machine_id: machine for machine in before.machines} if before else {}
    changed = tuple(
        machine
        for machine in now.machines
        if _worth_reporting(reported.get(machine.machine_id), machine)
    )
    lost = any(
        machine.protected_item is not None
        and not machine.epoch_confirmed
        and (former := earlier.get(machine.machine_id)) is not None
        and former.epoch_confirmed
        for machine in now.machines
    )
    structural = before is None or _structure(before) != _structure(now)
    return Differences(changed, structural, lost)


def _followed(machine: MachineView) -> bool:
    return (
        machine.protected_item is not None
        or machine.replication is not None
        or machine.test_machine_of is not None
        or machine.protection_asked_at is not None
    )


def _worth_reporting(reported: MachineView | None, now: MachineView) -> bool:
    if reported is None:
        return _followed(now)
    return _significant(reported) != _significant(now) or _progressed(reported, now)


def _significant(machine: MachineView) -> tuple[object, ...]:
    replication = machine.replication
    return (
        machine.run_state,
        machine.fenced,
        machine.epoch,
        machine.protected_item,
        machine.protection_asked_at,
        machine.started_without_hub,
        machine.protection_end_asked_at,
        machine.nics,
        replication and (replication.mode, replication.state, replication.health),
        replication and (replication.relationship_id, replication.peer_machine_id),
        replication and replication.failed_over_to,
        replication and replication.exported,
        # The newest state is another one every cycle, and is always there: kept points count.
        replication and tuple(point.point_id for point in replication.recovery_points[1:]),
        replication and tuple(code.code for code in replication.health_codes),
    )


def _progressed(reported: MachineView, now: MachineView) -> bool:
    former, present = _percent(reported), _percent(now)
    if former is None or present is None:
        return former is not present
    return abs(present - former) >= PROGRESS_STEP_PERCENT


def _percent(machine: MachineView) -> float | None:
    return machine.replication.progress_percent if machine.replication is not None else None


def _structure(inventory: InventoryView) -> tuple[object, ...]:
    """Return what only changes when an operator changes the estate; order does not matter."""
    return (
        inventory.vmm,
        {cloud.cloud_id: cloud for cloud in inventory.clouds},
        {host.fqdn: host for host in inventory.hosts},
        {network.network_id: network for network in inventory.networks},
        {each.classification_id: each for each in inventory.classifications},
        {each.host_group_id: each for each in inventory.host_groups},
        {each.name: each for each in inventory.clusters},
        {
            machine.machine_id: (
                machine.hyperv_id,
                machine.name,
                machine.cloud_id,
                machine.host,
                machine.generation,
                machine.protected_item,
                machine.test_machine_of,
                machine.disks,
                machine.nics,
                machine.processors,
                machine.memory_megabytes,
                machine.recovery_points,
            )
            for machine in inventory.machines
        },
    )
