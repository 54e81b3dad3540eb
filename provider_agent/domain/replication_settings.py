"""Whether the relationships of a cloud have the settings that were asked for; pure."""

from typing import Final

from provider_agent.domain.read_back import Expected, ReadBack, differs, first
from wire_contract.vmm_interface import ReplicationView

_2012: Final = "2012"
_2012_INTERVAL_SECONDS: Final = 300
_2012_POINTS_MAX: Final = 15
"""What hosts of Windows Server 2012 know, whatever is asked (behaviour 1.4)."""


def settings_unmet(expected: Expected, seen: ReadBack) -> str | None:
    """Return why a relationship of the cloud is not set as asked, or null."""
    named = expected.arguments.get("relationship_ids")
    versions = {host.fqdn: host.version for host in seen.hosts}
    for machine in seen.machines:
        replication = machine.replication
        if replication is None:
            continue
        if isinstance(named, list) and replication.relationship_id not in named:
            continue
        is_2012 = versions.get(machine.host) == _2012
        reason = _differs(expected, replication, machine.recovery_points or 0, is_2012=is_2012)
        if reason is not None:
            return f"machine {machine.name}: {reason}"
    return None


def _differs(
    expected: Expected, found: ReplicationView, at_machine: int, *, is_2012: bool
) -> str | None:
    settings, asked = found.settings, expected.arguments
    if settings is None:
        return "the fabric does not tell the settings of its replication"
    interval, points = asked.get("interval_seconds"), asked.get("recovery_points")
    if isinstance(points, int):
        # More that was set at the machine counts (seed, step 4.7).
        points = max(points, at_machine)
    if is_2012:
        interval = _2012_INTERVAL_SECONDS
        points = min(points, _2012_POINTS_MAX) if isinstance(points, int) else points
    hours = asked.get("application_consistent_hours")
    return first(
        differs("interval_seconds", interval, settings.interval_seconds),
        differs("recovery_points", points, settings.recovery_points),
        differs("application_consistent_hours", hours, settings.application_consistent_hours),
        differs("compression", asked.get("compression"), settings.compression),
        differs("authentication", asked.get("authentication"), settings.authentication),
        differs("self_fence_seconds", asked.get("self_fence_seconds"), settings.self_fence_seconds),
        differs("peer_port", asked.get("replica_port"), found.peer_port),
    )
