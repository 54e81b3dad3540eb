"""The verb that gives the relationships of a cloud other settings (Set-VMReplication)."""

import structlog

from vmm_simulator.hyperv.backend import Authentication
from vmm_simulator.hyperv.schedule import (
    INTERVAL_SECONDS_2012,
    INTERVALS_SECONDS,
    points_kept,
)
from vmm_simulator.problems import bad_arguments
from vmm_simulator.verbs.arguments import UpdateReplication
from vmm_simulator.verbs.call import Call, Result
from vmm_simulator.vmm.records import MachineRecord
from vmm_simulator.vmm.transitions import with_relationship

_VERSION_2012 = "2012"

log = structlog.get_logger(__name__)


def check_update(call: Call[UpdateReplication]) -> None:
    """Refuse an interval that no host knows, and Kerberos where a host cannot take part in it."""
    call.fabric.store.cloud(call.target)
    if call.arguments.interval_seconds not in INTERVALS_SECONDS:
        allowed = ", ".join(map(str, INTERVALS_SECONDS))
        raise bad_arguments(f"interval_seconds: hosts replicate every {allowed} seconds")
    if call.arguments.authentication is Authentication.KERBEROS:
        for machine in _machines(call):
            call.fabric.host_of(machine).tickets()


async def update_replication(call: Call[UpdateReplication]) -> Result:
    """Set what each relationship of the cloud has; the next cycle goes by it.

    A host of 2012 keeps its five minutes, and at most 15 points (behaviour 1.4); more points that
    were set at a machine stay.
    """
    for machine in _machines(call):
        wanted = _settings(call, machine)
        await call.fabric.store.change_machine(
            machine.machine_id,
            lambda each, wanted=wanted: (  # type: ignore[misc]
                each if each.relationship is None else with_relationship(each, **wanted)
            ),
        )
        call.fabric.cycles.ensure(machine.machine_id)
        log.info("replication_settings_changed", machine_id=machine.machine_id, **wanted)
        call.reached(f"updated {machine.name}")
    return {}


def _machines(call: Call[UpdateReplication]) -> list[MachineRecord]:
    """Return the machines of the cloud whose relationships are meant, by name."""
    named = call.arguments.relationship_ids
    return sorted(
        (
            machine
            for machine in call.fabric.store.machines.values()
            if machine.cloud_id == call.target
            and machine.relationship is not None
            and (named is None or machine.relationship.relationship_id in named)
        ),
        key=lambda machine: machine.name,
    )


def _settings(call: Call[UpdateReplication], machine: MachineRecord) -> dict[str, object]:
    asked, version = call.arguments, call.fabric.store.host(machine.host).version
    is_2012 = version == _VERSION_2012
    points = points_kept(version, asked.recovery_points, machine.recovery_points)
    return {
        "interval_seconds": INTERVAL_SECONDS_2012 if is_2012 else asked.interval_seconds,
        "recovery_points": points,
        "application_consistent_hours": asked.application_consistent_hours,
        "compression": asked.compression,
        "authentication": asked.authentication,
        "self_fence_seconds": asked.self_fence_seconds,
        "peer_port": asked.replica_port,
    }
