"""The job of an event that is injected into a laboratory site (ours: the original has none)."""

from typing import Final

from service_hub.domain.scenarios.specs import NO_RETRY, Scenario, TaskSpec
from wire_contract.vocabulary.job_names import job_names
from wire_contract.vocabulary.task_names import task_names

INJECT_EVENT: Final = Scenario(
    *job_names("inject_event"),
    # Setting what is set already changes nothing, so that it may be done again after a kill.
    (TaskSpec(*task_names("InjectEventTask"), retry=NO_RETRY),),
)
