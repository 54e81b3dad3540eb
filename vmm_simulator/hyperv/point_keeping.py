"""Keeping recovery points on a replica's host, as its policy asks (behaviour 1.7).

A point that cannot be kept never holds replication up: it is told in the log and as the last
error, and the next change set that comes an hour later is tried again.
"""

import structlog

from vmm_simulator.hyperv.backend import (
    AppliedCut,
    BackendStateError,
    CutKind,
    PointKind,
    ReplicationBackend,
)
from vmm_simulator.hyperv.schedule import KeptPoints, point_due
from vmm_simulator.vmm.records import MachineRecord

log = structlog.get_logger(__name__)


async def keep_point(
    backend: ReplicationBackend, machine: MachineRecord, applied: AppliedCut, kind: CutKind | None
) -> str | None:
    """Keep what has just arrived where it is due, drop what is over; why not, or None.

    After a comparison the old points go: they lead to disks that were not the primary's.
    """
    relationship = machine.relationship
    if relationship is None:
        return None
    machine_id = machine.machine_id
    try:
        if kind is CutKind.DIFFERENCES:
            await backend.drop_points(machine_id)
        # The newest state is listed first, kept or not; what is behind it is kept.
        kept = backend.recovery_points(machine_id)[1:]
        newest_at = kept[0].taken_at if kept else None
        due = point_due(
            KeptPoints(relationship.recovery_points, newest_at),
            applied.taken_at,
            applied.consistency,
        )
        if due is None:
            return None
        point = await backend.make_point(machine_id, due)
        await backend.merge_points(machine_id, relationship.recovery_points)
    except (OSError, BackendStateError) as error:
        log.warning("recovery_point_not_kept", machine_id=machine_id, cause=str(error))
        return f"a recovery point could not be kept: {error}"
    log.info("recovery_point_kept", machine_id=machine_id, point_id=point.point_id, kind=due)
    return None


async def keep_planned_point(backend: ReplicationBackend, machine_id: str) -> None:
    """Let the state of a planned failover be the only point there is."""
    await backend.drop_points(machine_id)
    await backend.make_point(machine_id, PointKind.PLANNED)
