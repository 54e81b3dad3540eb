"""Test failover and its clean-up (recorded.md, 2 and 3)."""

from typing import Final

from service_hub.domain.scenarios.specs import (
    RECOVERY,
    Scenario,
    Target,
    TaskSpec,
)
from wire_contract.vocabulary import Verb
from wire_contract.vocabulary.job_names import job_names
from wire_contract.vocabulary.task_names import task_names

TEST_FAILOVER: Final = Scenario(
    *job_names("test_failover"),
    (
        TaskSpec(
            *task_names("TestFailoverPreflightChecksTask"),
        ),
        TaskSpec(
            *task_names("BeginTestFailoverTask"),
            RECOVERY,
            Verb.CREATE_TEST_MACHINE,
            Target.TEST_MACHINE,
            undo=Verb.REMOVE_TEST_MACHINE,
            undo_on_failure=True,
        ),
        TaskSpec(
            *task_names("PrepareTestProtectedEntitiesTask"),
            RECOVERY,
            Verb.PREPARE_TEST_MACHINE,
            Target.TEST_MACHINE,
            undo_on_failure=True,
        ),
        TaskSpec(
            *task_names("BootTestProtectedEntitiesTask"),
            RECOVERY,
            Verb.START,
            Target.TEST_MACHINE,
            undo=Verb.SHUT_DOWN,
            undo_on_failure=True,
        ),
    ),
)

_CHECK, *_REST = TEST_FAILOVER.tasks

CREATE_TEST_ENVIRONMENT: Final = TaskSpec(
    *task_names("CreateTestEnvironmentTask"),
    RECOVERY,
    Verb.CREATE_TEST_NETWORKS,
    Target.SITE,
    undo=Verb.REMOVE_TEST_NETWORKS,
    undo_on_failure=True,
)
"""Of one machine's test; a plan's has it once, for all of its machines."""

TEST_FAILOVER_WITH_NETWORKS: Final = Scenario(
    *job_names("test_failover_with_networks"),
    (
        _CHECK,
        CREATE_TEST_ENVIRONMENT,
        *_REST,
    ),
)
"""Networks are made for the test alone (behaviour.md, 2.8)."""

TEST_FAILOVER_CLEANUP: Final = Scenario(
    *job_names("test_failover_cleanup"),
    (
        TaskSpec(
            *task_names("TestFailoverCleanupPreflightChecksTask"),
        ),
        TaskSpec(
            *task_names("EndTestFailoverTask"),
            RECOVERY,
            Verb.SHUT_DOWN,
            Target.TEST_MACHINE,
            undo=Verb.START,
        ),
        TaskSpec(
            *task_names("CleanupTestProtectedEntitiesTask"),
            RECOVERY,
            Verb.REMOVE_TEST_MACHINE,
            Target.TEST_MACHINE,
            no_way_back=True,
        ),
    ),
)

CLEANUP_WITH_NETWORKS: Final = Scenario(
    *job_names("test_failover_cleanup_with_networks"),
    (
        *TEST_FAILOVER_CLEANUP.tasks,
        TaskSpec(
            *task_names("CleanupTestEnvironmentTask"),
            RECOVERY,
            Verb.REMOVE_TEST_NETWORKS,
            Target.SITE,
            no_way_back=True,
        ),
    ),
)
"""The networks that were made for the test go last."""
