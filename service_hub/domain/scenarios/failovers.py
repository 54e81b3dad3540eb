"""Failovers of an item and what follows them: commit, reverse replication (recorded.md, 4 to 7).

In reverse replication the direction is that of the *next* failover, so PRIMARY is the copy that
runs now and RECOVERY the former primary (hence the recorded name VmShutdownVmOnSecondary).
"""

from dataclasses import replace
from typing import Final

from service_hub.domain.protection import ProtectionState
from service_hub.domain.scenarios.specs import (
    BOTH,
    NO_RETRY,
    PRIMARY,
    RECOVERY,
    SETTLING_RETRY,
    Scenario,
    Target,
    TaskSpec,
    update_states,
)
from wire_contract.vocabulary import Side, Verb
from wire_contract.vocabulary.job_names import job_names
from wire_contract.vocabulary.task_names import task_names

FINAL_CHANGES_SECONDS_MAX: Final = 3600
"""Longest for sending what is still outstanding before a planned failover."""

# Before the former active copy is started again, this one must be known to be off.
_START_REPLICA: Final = TaskSpec(
    *task_names("StartVmOnSecondary"),
    RECOVERY,
    Verb.START,
    undo=Verb.SHUT_DOWN,
    undo_must_hold=True,
)

PLANNED_FAILOVER: Final = Scenario(
    *job_names("planned_failover"),
    (
        TaskSpec(
            *task_names("PlannedFailoverPreflightChecksTask"),
        ),
        TaskSpec(
            *task_names("ShutdownVmOnPrimary"),
            PRIMARY,
            Verb.SHUT_DOWN,
            undo=Verb.START,
        ),
        TaskSpec(
            *task_names("PrepareForFailoverTask"),
            PRIMARY,
            Verb.PREPARE_FAILOVER,
            seconds=FINAL_CHANGES_SECONDS_MAX,
            undo=Verb.CANCEL_FAILOVER,
            undo_on_failure=True,
        ),
        TaskSpec(
            *task_names("FailoverTask"),
            RECOVERY,
            Verb.FAIL_OVER,
            undo=Verb.CANCEL_FAILOVER,
            undo_on_failure=True,
            raises_epoch=True,
            leaves=ProtectionState.PLANNED_FAILED_OVER,
        ),
        _START_REPLICA,
    ),
)

TAKE_BACK_FIRST: Final = TaskSpec(
    *task_names("TakeBackFailoverTask"),
    BOTH,
    Verb.CANCEL_FAILOVER,
    retry=SETTLING_RETRY,
)
"""What a planned failover does first where an earlier one was not fully taken back (ours).

A replica that is failed over takes no changes, so that the source could not be prepared. Where
nothing is left to take back, this changes nothing."""

AFTER_FAILED_UNDO: Final = (
    TAKE_BACK_FIRST,
    # What ran at the replica meanwhile is compared first; that begins by itself.
    replace(PLANNED_FAILOVER.task("PrepareForFailoverTask"), retry=SETTLING_RETRY),
)
"""The specs of a planned failover's tasks that differ there."""

UNPLANNED_FAILOVER: Final = Scenario(
    *job_names("unplanned_failover"),
    (
        TaskSpec(
            *task_names("UnplannedFailoverPreflightChecksTask"),
        ),
        TaskSpec(
            *task_names("ShutdownVmOnPrimaryForUFO"),
            PRIMARY,
            Verb.SHUT_DOWN,
            undo=Verb.START,
            go_on_after_failure=True,
            done_at_once_if="source_operations_not_required",
            retry=NO_RETRY,
        ),
        TaskSpec(
            *task_names("PrepareForUnPlannedFailoverTask"),
            PRIMARY,
            Verb.SYNCHRONIZE,
            # Lifts the fence of the copy that gets the authority back, so that it can be started.
            undo=Verb.CANCEL_FAILOVER,
            go_on_after_failure=True,
            retry=NO_RETRY,
            skipped_if="source_operations_not_required",
        ),
        TaskSpec(
            *task_names("FailoverTask"),
            RECOVERY,
            Verb.FAIL_OVER,
            undo=Verb.CANCEL_FAILOVER,
            undo_on_failure=True,
            raises_epoch=True,
            leaves=ProtectionState.UNPLANNED_FAILED_OVER,
        ),
        _START_REPLICA,
    ),
)

COMMIT: Final = Scenario(
    *job_names("commit"),
    (
        TaskSpec(*task_names("VmCommitPrerequisitesCheckTask")),
        TaskSpec(*task_names("VmCommitTask"), RECOVERY, Verb.COMMIT, no_way_back=True),
    ),
)


CHANGE_RECOVERY_POINT: Final = Scenario(
    *job_names("change_recovery_point"),
    (
        TaskSpec(*task_names("ChangeRecoveryPointPreflightChecksTask")),
        TaskSpec(
            *task_names("ShutdownFailedOverVmTask"), RECOVERY, Verb.SHUT_DOWN, undo=Verb.START
        ),
        TaskSpec(
            *task_names("ChangeRecoveryPointTask"),
            RECOVERY,
            Verb.CHANGE_RECOVERY_POINT,
            undo_on_failure=True,
            leaves=ProtectionState.UNPLANNED_FAILED_OVER,
            leaves_once_begun=True,
        ),
        TaskSpec(*task_names("StartAtRecoveryPointTask"), RECOVERY, Verb.START),
    ),
)
"""Before a commit: the failed-over copy stands at another point; what it wrote is given up.

What it wrote cannot come back, but it can be started again wherever it stands.
"""


_SOURCE_TAKEN_BACK: Final = TaskSpec(
    *task_names("CancelFailoverOnSourceTask"),
    RECOVERY,
    Verb.CANCEL_FAILOVER,
    retry=SETTLING_RETRY,
)
"""The source is prepared for a planned failover no more; where it was not, this changes nothing."""


def _cancel(key: str, leaves: ProtectionState) -> Scenario:
    """Return how a failover is undone: PRIMARY is the copy that runs, RECOVERY its source.

    The authority goes back as soon as the replica may have been reverted, so that nothing leads
    back to what it wrote; from then on the source is the item's place, whatever fails.
    """
    return Scenario(
        *job_names(key),
        (
            TaskSpec(*task_names("CancelFailoverPreflightChecksTask")),
            TaskSpec(
                *task_names("ShutdownFailedOverVmTask"), PRIMARY, Verb.SHUT_DOWN, undo=Verb.START
            ),
            TaskSpec(
                *task_names("CancelFailoverOnReplicaTask"),
                PRIMARY,
                Verb.CANCEL_FAILOVER,
                raises_epoch=True,
                no_way_back=True,
                leaves=leaves,
                leaves_once_begun=True,
            ),
            _SOURCE_TAKEN_BACK,
            TaskSpec(*task_names("StartSourceTask"), RECOVERY, Verb.START),
        ),
    )


CANCEL_PLANNED_FAILOVER: Final = _cancel(
    "cancel_planned_failover", ProtectionState.PLANNED_UNDO_FAILED
)
CANCEL_UNPLANNED_FAILOVER: Final = _cancel(
    "cancel_unplanned_failover", ProtectionState.UNPLANNED_UNDO_FAILED
)


OTHER_COPY_LOST: Final = "other_copy_lost"
"""Flag of an override: an operator has said that nothing of the other copy can run any more."""


def _override(key: str, leaves: ProtectionState) -> Scenario:
    """Return how a fence is overridden: PRIMARY is the other copy, RECOVERY the one to be started.

    The authority moves with the new epoch under which the other copy is fenced, or is declared
    lost. The copy that was fenced is started last: never beside one that can still be told.
    """

    def tells(task_id: str, sides: tuple[Side, ...], skipped_if: str | None = None) -> TaskSpec:
        return TaskSpec(
            *task_names(task_id),
            sides,
            Verb.CONFIRM_EPOCH,
            # Whichever comes first raises it: the other copy may be one that nobody can tell.
            raises_epoch=True,
            no_way_back=True,
            leaves=leaves,
            leaves_once_begun=True,
            skipped_if=skipped_if,
        )

    return Scenario(
        *job_names(key),
        (
            TaskSpec(*task_names("OverrideFencePreflightChecksTask")),
            tells("FenceOtherCopyTask", PRIMARY, OTHER_COPY_LOST),
            tells("LiftFenceTask", RECOVERY),
            # A planned failover whose point was changed has left it prepared.
            _SOURCE_TAKEN_BACK,
            TaskSpec(*task_names("StartSourceTask"), RECOVERY, Verb.START),
        ),
    )


OVERRIDE_FENCE: Final = _override("override_fence", ProtectionState.UNPLANNED_UNDO_FAILED)
OVERRIDE_FENCE_COMMITTED: Final = _override("override_fence_committed", ProtectionState.OVERRIDDEN)


def _reverse(*, planned: bool, keeping: bool = False) -> tuple[TaskSpec, ...]:
    committed = (
        ProtectionState.PLANNED_COMMITTED if planned else ProtectionState.UNPLANNED_COMMITTED
    )
    shut_down = TaskSpec(
        *task_names("VmShutdownVmOnSecondaryTask"),
        RECOVERY,
        Verb.SHUT_DOWN,
    )
    keep = TaskSpec(*task_names("KeepFormerSourceTask"), RECOVERY, Verb.KEEP_COPY, Target.KEPT_COPY)
    initial_replication = TaskSpec(
        *task_names("VmStartInitialReplicationTask"),
        PRIMARY,
        Verb.START_INITIAL_REPLICATION,
    )
    return (
        TaskSpec(
            *task_names("VmReverseReplicationPrerequisitesCheckTask"),
        ),
        TaskSpec(
            *task_names("VmCommitTask"),
            PRIMARY,
            Verb.COMMIT,
            skipped_if="already_committed",
            no_way_back=True,
            leaves=committed,
        ),
        *(() if planned else (shut_down,)),
        *((keep,) if keeping else ()),
        TaskSpec(
            *task_names("VmPrepareForReverseReplicationTask"),
            RECOVERY,
            Verb.PREPARE_REVERSE,
        ),
        TaskSpec(
            *task_names("VmInitiateReverseReplicationTask"),
            PRIMARY,
            Verb.REVERSE_REPLICATE,
        ),
        *(() if planned else (initial_replication,)),
        update_states(),
    )


REVERSE_AFTER_PLANNED: Final = Scenario(*job_names("reverse_after_planned"), _reverse(planned=True))
REVERSE_AFTER_UNPLANNED: Final = Scenario(
    *job_names("reverse_after_unplanned"), _reverse(planned=False)
)
REVERSE_KEEPING: Final = Scenario(
    *job_names("reverse_keeping"), _reverse(planned=False, keeping=True)
)
"""What the former source wrote meanwhile is set aside before its disks are overwritten."""
