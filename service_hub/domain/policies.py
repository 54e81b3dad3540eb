"""What a replication policy may say, and what a relationship under it gets (seed, step 4).

Sources: behaviour.md, sections 1.4, 2.2 and 8.2; arm-api.md, section 2.1.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from math import ceil
from typing import Any, Final

from pydantic import JsonValue

from service_hub.domain.records import ReplicationPolicy
from wire_contract.vmm_interface import InventoryView
from wire_contract.vocabulary import CERTIFICATE_PORT, KERBEROS_PORT

HYPERV_2012: Final = "HyperVReplica2012"
HYPERV_2012_R2: Final = "HyperVReplica2012R2"
FREQUENCIES_SECONDS: Final = (30, 300, 900)
FREQUENCY_2012_SECONDS: Final = 300
"""Hosts of Windows Server 2012 replicate every five minutes, whatever is asked (seed, step 4.6)."""

RECOVERY_POINTS_MAX: Final = {HYPERV_2012: 15, HYPERV_2012_R2: 24}
APPLICATION_CONSISTENT_HOURS_MAX: Final = 12
KERBEROS: Final = 1
CERTIFICATE: Final = 2
SELF_FENCE_SECONDS_MAX: Final = 3_600
"""An unplanned failover waits as long; who waits for hours has another plan."""

SELF_FENCE_HEARTBEATS_MIN: Final = 3
"""One may be lost and one be late before a healthy source counts as cut off."""

PORT_MIN, PORT_MAX = 1, 65_535
PATH_CHARACTERS_MAX: Final = 900
"""With the folder of a machine below it, a path stays within what a fabric takes (1,024)."""

_VERSION_2012: Final = "2012"
_UNC: Final = re.compile(r"\\\\[^\\/:*?\"<>|\x00-\x1f]+(\\[^\\/:*?\"<>|\x00-\x1f]+)+\\?")
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class PolicyProblem:
    """Which property is wrong, and what it may be."""

    target: str
    message: str


def policy_problem(policy: ReplicationPolicy) -> PolicyProblem | None:
    """Return the first thing that is wrong with a policy, or None."""
    for target, is_wrong, message in _RULES:
        if is_wrong(policy):
            return PolicyProblem(target, f"{target} {message(policy)}")
    return None


def self_fence_problem(policy: ReplicationPolicy, heartbeat: timedelta) -> PolicyProblem | None:
    """Return why guests under a policy would be stopped although their source hears the hub.

    A source hears of it once a heartbeat (architecture, decision 4): a time that is hardly longer
    stops healthy guests.
    """
    least = _least_self_fence_seconds(heartbeat)
    if policy.self_fence_seconds == 0 or policy.self_fence_seconds >= least:
        return None
    words = (
        f"is 0 (off) or at least {least}: {SELF_FENCE_HEARTBEATS_MIN} heartbeats of"
        f" {heartbeat.total_seconds():g} s. Sooner, guests would be stopped whose server is well;"
        " for a shorter time lower heartbeat_seconds in the hub's configuration"
    )
    return PolicyProblem("selfFenceSeconds", f"selfFenceSeconds {words}")


def heartbeat_for(policies: Iterable[ReplicationPolicy], heartbeat: timedelta) -> timedelta:
    """Return how often a server is to be heard of where its sources may stop by themselves.

    As configured, or more often where policies were made when that was less.
    """
    times = [each.self_fence_seconds for each in policies if each.self_fence_seconds]
    if not times:
        return heartbeat
    return min(heartbeat, timedelta(seconds=max(min(times) // SELF_FENCE_HEARTBEATS_MIN, 1)))


def _least_self_fence_seconds(heartbeat: timedelta) -> int:
    return ceil(SELF_FENCE_HEARTBEATS_MIN * heartbeat.total_seconds())


def with_defaults(settings: dict[str, Any]) -> dict[str, Any]:
    """Return requested settings with the port that goes with their authentication.

    A host answers Kerberos (HTTP) on 8083 and certificates (HTTPS) on 8084 (seed, step 4.10).
    """
    if "replication_port" in settings:
        return settings
    kerberos = settings.get("allowed_authentication_type") == KERBEROS
    return {**settings, "replication_port": KERBEROS_PORT if kerberos else CERTIFICATE_PORT}


def authentication_of(policy: ReplicationPolicy) -> str:
    """Return how hosts prove to each other who they are, as the fabric's verbs name it."""
    return "kerberos" if policy.allowed_authentication_type == KERBEROS else "certificate"


def relationship_settings(
    policy: ReplicationPolicy, host_version: str | None, machine_points: int | None = None
) -> dict[str, JsonValue]:
    """Return the settings of a relationship whose source is on a host of this version.

    One policy serves clouds with hosts of 2012 and of 2012 R2: those of 2012 get what they know.
    `machine_points` is what was set at the machine in VMM; it counts where it is more.
    """
    is_2012 = host_version == _VERSION_2012 or policy.provider_type == HYPERV_2012
    points = max(policy.recovery_points, machine_points or 0)
    hours = policy.application_consistent_hours
    if is_2012:
        points = min(points, RECOVERY_POINTS_MAX[HYPERV_2012])
    return {
        "interval_seconds": (
            FREQUENCY_2012_SECONDS if is_2012 else policy.replication_frequency_seconds
        ),
        "recovery_points": points,
        "application_consistent_hours": hours if hours < points else 0,
        "compression": policy.compression,
        "authentication": authentication_of(policy),
        **({"self_fence_seconds": policy.self_fence_seconds} if policy.self_fence_seconds else {}),
    }


def too_few_points(
    policy: ReplicationPolicy, host_version: str | None, machine_points: int | None
) -> str | None:
    """Return why what was set at a machine in VMM does not fit its cloud's policy, or None.

    It is not to be less than what the cloud asks for (seed, step 4.7), as its host can keep it.
    """
    least = relationship_settings(policy, host_version)["recovery_points"]
    assert isinstance(least, int), "points are counted"
    if machine_points is None or machine_points >= least:
        return None
    return (
        f"the machine has {machine_points} additional recovery points in VMM, and the policy"
        f" '{policy.name}' asks for {least}"
    )


def points_of_machine(
    policy: ReplicationPolicy, view: InventoryView, machine_id: str
) -> str | None:
    """Return why a machine's own points do not fit, from what its server told; or None."""
    machine = next((each for each in view.machines if each.machine_id == machine_id), None)
    if machine is None:
        return None
    versions = {host.fqdn: host.version for host in view.hosts}
    return too_few_points(policy, versions.get(machine.host), machine.recovery_points)


def is_offline(policy: ReplicationPolicy) -> bool:
    """Return whether first copies travel on a medium."""
    return policy.initial_replication_method == "Offline"


def initial_replication_at(policy: ReplicationPolicy, now: datetime) -> datetime | None:
    """Return when a copy that is asked for now begins: at the policy's time of day, UTC.

    That is within 24 hours (behaviour.md, 4.1.1); None: at once.
    """
    at = start_time(policy.online_start_time)
    if at is None:
        return None
    due = now.replace(hour=at.hour, minute=at.minute, second=at.second, microsecond=0)
    return due if due > now else due + _DAY


def start_time(text: str) -> time | None:
    """Return a time of day that is written HH:MM:SS, None for the empty text; ValueError."""
    if not text:
        return None
    if re.fullmatch(r"\d\d:\d\d:\d\d", text, re.ASCII) is None:
        msg = f"{text!r} is no time of day"
        raise ValueError(msg)
    hour, minute, second = map(int, text.split(":"))
    return time(hour, minute, second)


def server_of(path: str) -> str:
    """Return the computer that a UNC path is on."""
    return path.lstrip("\\").split("\\", 1)[0]


def _is_path(path: str) -> bool:
    parts = path.split("\\")
    return (
        len(path) <= PATH_CHARACTERS_MAX
        and _UNC.fullmatch(path) is not None
        and not {".", ".."} & set(parts)
    )


def _has_no_start_time(policy: ReplicationPolicy) -> bool:
    try:
        start_time(policy.online_start_time)
    except ValueError:
        return True
    return False


def _hours_exceed_points(policy: ReplicationPolicy) -> bool:
    # Points are hourly: behaviour.md, 8.6.
    return 0 < policy.application_consistent_hours >= policy.recovery_points


_POINTS, _HOURS = "recoveryPoints", "applicationConsistentSnapshotFrequencyInHours"
_EXPORT, _IMPORT = "offlineReplicationExportPath", "offlineReplicationImportPath"
_UNC_WORDS: Final = (
    r"is the UNC path of a share or of a folder below one (\\server\share), of at most"
    f" {PATH_CHARACTERS_MAX} characters, where initialReplicationMethod is Offline"
)

_RULES: Final[
    tuple[
        tuple[str, Callable[[ReplicationPolicy], bool], Callable[[ReplicationPolicy], str]],
        ...,
    ]
] = (
    (
        "replicationFrequencyInSeconds",
        lambda it: it.replication_frequency_seconds not in FREQUENCIES_SECONDS,
        lambda _: "is 30, 300 or 900",
    ),
    (
        "replicationFrequencyInSeconds",
        lambda it: (
            it.provider_type == HYPERV_2012
            and it.replication_frequency_seconds != FREQUENCY_2012_SECONDS
        ),
        lambda _: "is 300 for hosts of Windows Server 2012: leave it out",
    ),
    (
        _POINTS,
        lambda it: not 0 <= it.recovery_points <= RECOVERY_POINTS_MAX[it.provider_type],
        lambda it: f"is 0 to {RECOVERY_POINTS_MAX[it.provider_type]}",
    ),
    (
        _HOURS,
        lambda it: not 0 <= it.application_consistent_hours <= APPLICATION_CONSISTENT_HOURS_MAX,
        lambda _: "is 0 (off) to 12",
    ),
    (_HOURS, _hours_exceed_points, lambda _: "must be less than recoveryPoints"),
    (
        "selfFenceSeconds",
        lambda it: not 0 <= it.self_fence_seconds <= SELF_FENCE_SECONDS_MAX,
        lambda _: f"is 0 (off) to {SELF_FENCE_SECONDS_MAX}",
    ),
    (
        "replicationPort",
        lambda it: not PORT_MIN <= it.replication_port <= PORT_MAX,
        lambda _: "is 1 to 65535",
    ),
    (
        "onlineReplicationStartTime",
        _has_no_start_time,
        lambda _: "is a time of day in UTC, 00:00:00 to 23:59:59, or empty to begin at once",
    ),
    (
        "onlineReplicationStartTime",
        lambda it: is_offline(it) and bool(it.online_start_time),
        lambda _: "is of a copy over the network: leave it empty where the copy is Offline",
    ),
    (
        _EXPORT,
        lambda it: is_offline(it) and not _is_path(it.offline_export_path),
        lambda _: _UNC_WORDS,
    ),
    (
        _IMPORT,
        lambda it: is_offline(it) and not _is_path(it.offline_import_path),
        lambda _: _UNC_WORDS,
    ),
    (
        _EXPORT,
        lambda it: not is_offline(it) and bool(it.offline_export_path),
        lambda _: "is of an Offline copy: leave it empty where the method is OverNetwork",
    ),
    (
        _IMPORT,
        lambda it: not is_offline(it) and bool(it.offline_import_path),
        lambda _: "is of an Offline copy: leave it empty where the method is OverNetwork",
    ),
)
"""Property, whether it is wrong, and what it is instead."""
