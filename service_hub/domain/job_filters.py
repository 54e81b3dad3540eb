"""Which jobs a list is asked for: the fields of the dialect's JobQueryParameter; pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from service_hub.domain.asked_moments import asked_moment
from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.jobs import Job, JobState

_STATES: Final[Mapping[str, JobState]] = {
    **{state.value.lower(): state for state in JobState},
    # The two spellings of the dialect (arm-api.md, section 3).
    "canceled": JobState.CANCELLED,
}
KNOWN: Final = ("JobStatus", "StartTime", "EndTime", "AffectedObjectTypes", "JobName", "FabricId")
"""What a list of jobs can be filtered by."""


@dataclass(frozen=True, slots=True)
class JobFilter:
    """What is asked for; None: whatever it is. Text is compared without case.

    A job began between `begin` and `end`, both included; one that has not begun counts from when
    it was asked for. `name` is its scenario's, or its text's.
    """

    state: JobState | None = None
    begin: datetime | None = None
    end: datetime | None = None
    target_type: str | None = None
    name: str | None = None
    provider_ids: Collection[str] | None = None

    def takes(self, job: Job) -> bool:
        """Return whether a job is asked for."""
        at = job.started_at or job.created_at
        scenario = job.scenario
        names = {scenario.name.lower(), scenario.friendly_name.lower()}
        return (
            (self.state is None or job.state is self.state)
            and (self.begin is None or at >= self.begin)
            and (self.end is None or at <= self.end)
            and (self.target_type is None or scenario.target_type.lower() == self.target_type)
            and (self.name is None or self.name in names)
            and (
                self.provider_ids is None
                or any(each in self.provider_ids for each in job.providers.values())
            )
        )


def job_filter(wanted: Mapping[str, str], provider_ids: Collection[str] | None) -> JobFilter:
    """Return the filter of comparisons by lower-case name; InvalidRequestError.

    `provider_ids` are those of the server that `fabricid` names.
    """
    unknown = wanted.keys() - {each.lower() for each in KNOWN}
    if unknown:
        raise InvalidRequestError(
            f"Jobs can't be filtered by '{min(unknown)}'. Use {', '.join(KNOWN)}.", "$filter"
        )
    state = wanted.get("jobstatus")
    if state is not None and state.lower() not in _STATES:
        known = ", ".join(each.value for each in JobState)
        raise InvalidRequestError(f"'JobStatus' must be one of {known}.", "$filter")
    name, target = wanted.get("jobname"), wanted.get("affectedobjecttypes")
    return JobFilter(
        state=None if state is None else _STATES[state.lower()],
        begin=asked_moment(wanted, "starttime"),
        end=asked_moment(wanted, "endtime"),
        target_type=None if target is None else target.lower(),
        name=None if name is None else name.lower(),
        provider_ids=provider_ids,
    )
