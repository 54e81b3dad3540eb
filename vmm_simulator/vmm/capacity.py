"""What hosts and clouds have room for; pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from vmm_simulator.vmm.estate_records import CapacityRecord
from vmm_simulator.vmm.records import CloudRecord, HostRecord, MachineRecord

GIGABYTE: Final = 2**30


@dataclass(frozen=True, slots=True)
class Needs:
    """What a machine takes: processors, memory, disks."""

    processors: int = 1
    memory_megabytes: int = 1024
    disk_bytes: int = 0

    @classmethod
    def of(cls, machine: MachineRecord) -> "Needs":
        """Return what a machine takes."""
        disks = sum(disk.size_bytes for disk in machine.disks)
        return cls(machine.processors, machine.memory_megabytes, disks)


def host_short_of(host: HostRecord, machines: Iterable[MachineRecord], needs: Needs) -> str | None:
    """Return in words what a host has too little of for one more machine, or None.

    Placement rates hosts by what all machines on them may take, running or not (behaviour 2.3).
    """
    if host.processors is None and host.memory_megabytes is None:
        return None  # Nobody counts: thousands of machines are not added up for it.
    present = [Needs.of(each) for each in machines if each.host == host.fqdn]
    rows = (
        ("processors", host.processors, [each.processors for each in present], needs.processors),
        (
            "MB of memory",
            host.memory_megabytes,
            [each.memory_megabytes for each in present],
            needs.memory_megabytes,
        ),
    )
    for noun, limit, taken, wanted in rows:
        if limit is not None and sum(taken) + wanted > limit:
            return f"{wanted} {noun} are needed, {max(0, limit - sum(taken))} are free"
    return None


def cloud_short_of(
    cloud: CloudRecord, machines: Iterable[MachineRecord], needs: Needs
) -> str | None:
    """Return in words which limit of a cloud one more machine would pass, or None."""
    if cloud.capacity == CapacityRecord():
        return None  # Nobody counts: thousands of machines are not added up for it.
    present = [Needs.of(each) for each in machines if each.cloud_id == cloud.cloud_id]
    for noun, limit, taken, wanted in _rows(cloud, present, needs):
        if limit is not None and taken + wanted > limit:
            return (
                f"{wanted:g} {noun} are needed, {max(0.0, limit - taken):g} of {limit:g} are free"
            )
    return None


def _rows(
    cloud: CloudRecord, present: Sequence[Needs], needs: Needs
) -> tuple[tuple[str, int | None, float, float], ...]:
    capacity = cloud.capacity
    return (
        (
            "processors",
            capacity.processors,
            sum(each.processors for each in present),
            needs.processors,
        ),
        (
            "MB of memory",
            capacity.memory_megabytes,
            sum(each.memory_megabytes for each in present),
            needs.memory_megabytes,
        ),
        (
            "GB of storage",
            capacity.storage_gigabytes,
            sum(each.disk_bytes for each in present) / GIGABYTE,
            needs.disk_bytes / GIGABYTE,
        ),
        ("quota points", capacity.quota_points, len(present), 1),
        ("machines", capacity.machines, len(present), 1),
    )
