"""An item comes under protection: enabling, and what follows the initial replication."""

from typing import Final

from service_hub.domain.scenarios.specs import (
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
        ),
        TaskSpec(
            *task_names("EnableProtectionTask"),
            PRIMARY,
            Verb.ENABLE_REPLICATION,
        ),
        TaskSpec(
            *task_names("StartInitialReplicationTask"),
            PRIMARY,
            Verb.START_INITIAL_REPLICATION,
        ),
        update_states(),
    ),
)


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
            TaskSpec(
                *task_names("ReplicaConfigurationTask"),
                skipped_if="no_network_mapping",
            ),
            update_states(skipped_if=None if final else "states_updated_later"),
        ),
    )


COMPLETE_PRIMARY: Final = _completion("complete_primary", PRIMARY, final=False)
COMPLETE_RECOVERY: Final = _completion("complete_recovery", RECOVERY, final=True)
