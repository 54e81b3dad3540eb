"""One end of a relationship as it crosses the network; pure: what is live comes as facts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from vmm_simulator.hyperv.backend import RecoveryPoint
from vmm_simulator.hyperv.health import Facts, HealthCode, codes, health
from vmm_simulator.hyperv.statistics import Monitoring, Statistics, rolled
from vmm_simulator.vmm.records import MachineRecord
from vmm_simulator.vmm.relationship_records import PointRecord, RelationshipRecord
from vmm_simulator.vmm.transitions import position
from wire_contract.vmm_interface import (
    GuestAnswer,
    HealthCodeView,
    RecoveryPointView,
    ReplicationSettingsView,
    ReplicationStatisticsView,
    ReplicationView,
)
from wire_contract.vocabulary import RunState


@dataclass(frozen=True, slots=True)
class LiveFacts:
    """What is read from processes and disks at the moment of looking, never remembered.

    `monitoring` are the settings of the machine's host; `vmm_fqdn` names the server in texts;
    `tested` says that a test machine of this replica exists now.
    """

    run_state: RunState
    epoch_confirmed: bool
    pending_bytes: int
    tracked_bytes: int
    last_record: int
    progress_percent: float | None
    failures_in_a_row: int
    guest: GuestAnswer | None
    now: datetime
    interval_override: float | None
    vmm_fqdn: str
    monitoring: Monitoring
    recovery_points: Sequence[RecoveryPoint]
    tested: bool


def replication_view(machine: MachineRecord, facts: LiveFacts) -> ReplicationView | None:
    """Return this end of the machine's relationship, None where it has none."""
    relationship = machine.relationship
    if relationship is None:
        return None
    statistics = rolled(relationship.statistics, facts.monitoring, facts.now)
    judged = Facts(
        position=position(machine),
        fenced=machine.fenced,
        failures_in_a_row=facts.failures_in_a_row,
        statistics=statistics,
        monitoring=facts.monitoring,
        last_replication_at=relationship.last_replication_at,
        established_at=relationship.established_at,
        now=facts.now,
    )
    return ReplicationView(
        relationship_id=relationship.relationship_id,
        mode=relationship.mode,
        state=relationship.state,
        health=health(judged),
        peer_host=relationship.peer_host,
        peer_port=relationship.peer_port,
        peer_machine_id=relationship.peer_machine_id,
        interval_seconds=_interval(relationship, facts),
        progress_percent=facts.progress_percent,
        transferred_bytes=relationship.transferred_bytes,
        last_replication_at=relationship.last_replication_at,
        last_cut=relationship.last_cut,
        last_cut_record=relationship.last_cut_record,
        pending_bytes=facts.pending_bytes,
        tracked_bytes=facts.tracked_bytes,
        last_record=facts.last_record,
        recovery_points=tuple(_point(each) for each in facts.recovery_points),
        failed_over_to=(
            None if relationship.failed_over_to is None else _point(relationship.failed_over_to)
        ),
        scheduled_at=relationship.scheduled_at,
        resynchronize_at=relationship.resynchronize_at,
        exported=relationship.exported,
        settings=ReplicationSettingsView(
            interval_seconds=relationship.interval_seconds,
            recovery_points=relationship.recovery_points,
            application_consistent_hours=relationship.application_consistent_hours,
            compression=relationship.compression,
            authentication=relationship.authentication.value,
            self_fence_seconds=relationship.self_fence_seconds,
        ),
        statistics=_statistics(statistics, facts),
        health_codes=tuple(_code(each, machine, facts) for each in codes(judged)),
        last_error=relationship.last_error,
    )


def _point(point: RecoveryPoint | PointRecord) -> RecoveryPointView:
    return RecoveryPointView(
        point_id=point.point_id, taken_at=point.taken_at, kind=point.kind.value
    )


def _statistics(statistics: Statistics, facts: LiveFacts) -> ReplicationStatisticsView:
    return ReplicationStatisticsView(
        begins_at=statistics.begins_at or facts.now,
        cycle_count=statistics.cycle_count,
        success_count=statistics.success_count,
        miss_count=statistics.miss_count,
        size_bytes_average=statistics.average_size_bytes,
        size_bytes_max=statistics.size_bytes_max,
        latency_seconds_average=round(statistics.average_latency_seconds, 6),
        latency_seconds_max=round(statistics.latency_seconds_max, 6),
        network_failure_count=statistics.network_failure_count,
        failure_count=statistics.failure_count,
        application_consistent_failure_count=statistics.application_consistent_failure_count,
        last_test_failover_at=statistics.last_test_failover_at,
        test_failover_running=facts.tested,
    )


def _code(code: HealthCode, machine: MachineRecord, facts: LiveFacts) -> HealthCodeView:
    named = f"'{machine.name}' in '{facts.vmm_fqdn}'|'{machine.cloud_id}'"
    return HealthCodeView(
        code=code.code,
        level=code.level,
        message=code.text.format(machine=named),
        possible_causes=code.causes,
        recommended_action=code.remedy,
    )


def _interval(relationship: RelationshipRecord, facts: LiveFacts) -> int:
    """The interval in force, in whole seconds: a laboratory may have shortened it."""
    if facts.interval_override is None:
        return relationship.interval_seconds
    return max(1, round(facts.interval_override))
