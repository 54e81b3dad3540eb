"""Jobs of recovery plans: saved, deleted, run; the tasks of a run are the plan's own."""

from collections.abc import Mapping
from typing import Final

from service_hub.domain.scenarios.specs import Scenario, TaskSpec
from wire_contract.vocabulary.job_names import job_names
from wire_contract.vocabulary.task_names import task_names

PLANS: Final[Mapping[str, Scenario]] = {
    key: Scenario(*job_names(key), ())
    for key in (
        "plan_planned_failover",
        "plan_unplanned_failover",
        "plan_test_failover",
        "plan_test_failover_cleanup",
        "plan_commit",
        "plan_cancel_failover",
        "plan_reverse",
    )
}
"""Every job over many items under the key that a stored job keeps."""

CREATE_PLAN: Final = Scenario(
    *job_names("create_plan"), (TaskSpec(*task_names("SaveRecoveryPlanTask")),)
)
UPDATE_PLAN: Final = Scenario(
    *job_names("update_plan"), (TaskSpec(*task_names("SaveRecoveryPlanTask")),)
)
DELETE_PLAN: Final = Scenario(
    *job_names("delete_plan"), (TaskSpec(*task_names("DeleteRecoveryPlanTask")),)
)
