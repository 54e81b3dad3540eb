"""The hub's own task of an event that is injected into a laboratory site."""

from service_hub.domain import errors
from service_hub.domain.checks import job_error
from service_hub.domain.injections import INJECT, event_of
from service_hub.domain.jobs import Job, JobError
from service_hub.injection_ports import Laboratory, LaboratoryError
from service_hub.ports.running import Checker
from service_hub.ports.surroundings import Clock


class InjectionTasks:
    """Carries that task out; a Checker beside that of all other jobs."""

    def __init__(self, *, clock: Clock, laboratory: Laboratory, otherwise: Checker) -> None:
        self._clock = clock
        self._laboratory = laboratory
        self._otherwise = otherwise

    async def check(self, job: Job, task_id: str) -> JobError | None:
        """Return why a job must stop at one of the hub's own tasks, or None when it is done."""
        if job.scenario_key != INJECT:
            return await self._otherwise.check(job, task_id)
        event, site, arguments = event_of(job)
        try:
            await self._laboratory.inject(site, event, arguments)
        except LaboratoryError as error:
            now, name = self._clock.now(), job.target_object_name
            return job_error(errors.SITE_NOT_INJECTED, now, name=name, detail=str(error))
        return None
