"""An item comes under protection and leaves it; what follows the initial replication."""

from dataclasses import replace
from typing import Final

from service_hub.domain.protection import ProtectionState
from service_hub.domain.scenarios.specs import (
    NO_RETRY,
    PRIMARY,
    RECOVERY,
    Scenario,
    TaskSpec,
    update_states,
)
from wire_contract.vocabulary import Side, Verb
from wire_contract.vocabulary.job_names import job_names
from wire_contract.vocabulary.task_names import task_names

ENABLE: Final = Scenario(
    *job_names("enable"),
    (
        TaskSpec(
            *task_names("EnableProtectionPreflightChecksTask"),
        ),
        TaskSpec(
            *task_names("CreateProtectionTargetTask"),
            RECOVERY,
            Verb.PLACE_REPLICA,
            undo=Verb.DISABLE_REPLICATION,
        ),
        TaskSpec(
            *task_names("EnableProtectionTask"),
            PRIMARY,
            Verb.ENABLE_REPLICATION,
            undo=Verb.DISABLE_REPLICATION,
        ),
        TaskSpec(
            *task_names("StartInitialReplicationTask"),
            PRIMARY,
            Verb.START_INITIAL_REPLICATION,
        ),
        update_states(undo=Verb.UPDATE_PROTECTION),
    ),
)


TAKE_OVER: Final = (
    # Its replica is known. The primary hears of the epoch first: a replica that knew a higher one
    # would refuse its changes, and have it stopped.
    replace(ENABLE.task("CreateProtectionTargetTask"), sides=(), verb=None, undo=None),
    replace(ENABLE.task("EnableProtectionTask"), undo=None),
)
"""Enabling what replicates already: the job makes nothing of it, so that nothing is undone."""


def _completion(key: str, side: tuple[Side, ...], *, final: bool) -> Scenario:
    return Scenario(
        *job_names(key),
        (
            TaskSpec(
                *task_names("CompleteInitialReplicationTask"),
                side,
                Verb.COMPLETE_INITIAL_REPLICATION,
            ),
            TaskSpec(
                *task_names("ReplicaConfigurationPreflightChecksTask"),
            ),
            # The primary is connected already; without a mapping the replica stays apart.
            TaskSpec(
                *task_names("ReplicaConfigurationTask"),
                side,
                Verb.CONNECT_ADAPTERS,
                skipped_if="no_network_mapping",
            ),
            update_states(skipped_if=None if final else "states_updated_later"),
        ),
    )


COMPLETE_PRIMARY: Final = _completion("complete_primary", PRIMARY, final=False)
COMPLETE_RECOVERY: Final = _completion("complete_recovery", RECOVERY, final=True)

# Recorded are three tasks without a check (recorded.md, 8): also what is half enabled is ended.
_DISABLE_SOURCE: Final = TaskSpec(
    *task_names("DisableProtectionOnPrimaryTask"),
    PRIMARY,
    Verb.DISABLE_REPLICATION,
    leaves=ProtectionState.DISABLE_FAILED,
)
_DISABLE_TARGET: Final = TaskSpec(
    *task_names("DisableProtectionOnSecondaryTask"),
    RECOVERY,
    Verb.DISABLE_REPLICATION,
    leaves=ProtectionState.DISABLE_FAILED,
)

DISABLE: Final = Scenario(
    *job_names("disable"), (_DISABLE_SOURCE, _DISABLE_TARGET, update_states())
)

AFTER_DELETION: Final = (replace(update_states(), sides=PRIMARY),)
"""The specs of a removal's tasks that differ where the replica goes: it can be told nothing."""


def _by_force(spec: TaskSpec) -> TaskSpec:
    return replace(spec, go_on_after_failure=True, retry=NO_RETRY)


PURGE: Final = Scenario(
    *job_names("purge"),
    (
        TaskSpec(*task_names("PurgeProtectionPreflightChecksTask")),
        _by_force(_DISABLE_SOURCE),
        _by_force(_DISABLE_TARGET),
        # Each end by itself: who is given up must not take the other's task away.
        _by_force(replace(update_states(), sides=PRIMARY)),
        _by_force(
            TaskSpec(*task_names("UpdateDraStateOnSecondaryTask"), RECOVERY, Verb.UPDATE_PROTECTION)
        ),
    ),
)
"""What can be reached is tidied; whoever is gone is told in the job what to run there later."""

REPAIR: Final = Scenario(
    *job_names("repair"),
    (
        TaskSpec(*task_names("RepairReplicationPreflightChecksTask")),
        TaskSpec(*task_names("RepairReplicationTask"), PRIMARY, Verb.RESYNCHRONIZE),
        update_states(),
    ),
)
