"""Jobs of recovery plans: their tasks depend on the plan, so that each job carries its own."""

from collections.abc import Mapping
from typing import Final

from service_hub.domain.scenarios.specs import Scenario
from wire_contract.vocabulary.job_names import job_names

PLANS: Final[Mapping[str, Scenario]] = {
    key: Scenario(*job_names(key), ())
    for key in (
        "plan_planned_failover",
        "plan_unplanned_failover",
        "plan_test_failover",
        "plan_test_failover_cleanup",
        "plan_commit",
        "plan_reverse",
    )
}
"""Every job over many items under the key that a stored job keeps."""
