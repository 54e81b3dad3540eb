"""Jobs of the hub in memory: they end when they are asked for; requests take effect at once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service_hub.domain.errors import NotFoundError
from service_hub.domain.job_filters import job_filter
from service_hub.domain.job_requests import check_action
from service_hub.domain.jobs import Action, Job, JobState, Request, TaskRun, TaskState
from service_hub.domain.protection import Operation
from service_hub.domain.records import Vault
from service_hub.domain.scenarios import GroupSpec, TaskSpec
from service_hub.ports.stores import JobPage, JobPlace
from service_hub.ports.use_cases import RequestIdentity
from tests.unit.arm.arm_estate import MACHINE, NOW
from tests.unit.arm.arm_hub import MemoryHub

OTHER_MACHINE = "0b2d6e0e-4c56-4d3a-9d0e-51f5c1a0f001"


@dataclass
class MemoryJobs:
    """JobUseCases; asking for a running job is what ends it."""

    hub: MemoryHub

    async def find(self, vault: Vault, job_id: str) -> Job:
        """Return one as it is, and let it end afterwards."""
        del vault
        if job_id not in self.hub.jobs:
            raise NotFoundError(job_id)
        job = self.hub.jobs[job_id]
        if self.hub.finish_jobs and job.state is JobState.IN_PROGRESS:
            self.hub.end(job)
        return job

    async def children(self, vault: Vault, job: Job) -> Sequence[Job]:
        """Return the jobs that the groups of a job run."""
        del vault
        return [each for each in self.hub.jobs.values() if each.parent_id == job.id]

    async def list(
        self, vault: Vault, wanted: Mapping[str, str], after: JobPlace | None, limit: int
    ) -> JobPage:
        """Return some, newest first."""
        del vault
        asked = job_filter(wanted, None)
        mine = [each for each in self.hub.jobs.values() if each.parent_id is None]
        listed = [each for each in mine if asked.takes(each)]
        placed = [(JobPlace(number, job.id), job) for number, job in enumerate(listed)][::-1]
        behind = [each for each in placed if after is None or each[0] < after]
        shown = behind[:limit]
        last = shown[-1][0] if len(behind) > limit else None
        return JobPage([job for _, job in shown], last)

    async def counts(self, vault: Vault) -> Mapping[JobState, int]:
        """Return how many there are in each state."""
        del vault
        return Counter(each.state for each in self.hub.jobs.values() if each.parent_id is None)

    async def cancel(self, vault: Vault, job_id: str, identity: RequestIdentity) -> Job:
        """Cancel it at once."""
        job = await self._asked(vault, job_id, "Cancel", identity)
        update = {"state": JobState.CANCELLED, "cancel": job.requests[-1], "ended_at": NOW}
        return self._put(job.model_copy(update=update))

    async def restart(self, vault: Vault, job_id: str, identity: RequestIdentity) -> Job:
        """Let it run again."""
        job = await self._asked(vault, job_id, "Restart", identity)
        update = {"state": JobState.IN_PROGRESS, "ended_at": None, "errors": ()}
        return self._put(job.model_copy(update=update))

    async def resume(
        self, vault: Vault, job_id: str, comments: str, identity: RequestIdentity
    ) -> Job:
        """Let it go on."""
        job = await self._asked(vault, job_id, "Resume", identity, comments)
        return self._put(job.model_copy(update={"state": JobState.IN_PROGRESS}))

    async def _asked(
        self,
        vault: Vault,
        job_id: str,
        action: Action,
        identity: RequestIdentity,
        comments: str = "",
    ) -> Job:
        finishing, self.hub.finish_jobs = self.hub.finish_jobs, False
        try:
            job = await self.find(vault, job_id)
        finally:
            self.hub.finish_jobs = finishing
        check_action(job, action)
        self.hub.identities.append(identity)
        request = Request(action=action, at=NOW, principal=identity.principal, comments=comments)
        return job.model_copy(update={"requests": (*job.requests, request)})

    def _put(self, job: Job) -> Job:
        self.hub.jobs[job.id] = job
        return job


def plan_with_children(hub: MemoryHub, job: Job) -> Job:
    """Give a job of the hub a group of two members, one of which runs, and a manual action."""
    group = GroupSpec(operation=Operation.PLANNED_FAILOVER, members=(MACHINE, OTHER_MACHINE))
    specs = (
        TaskSpec("Group1", "Group1FailoverTask", "Group 1: failover", group=group),
        TaskSpec("Check", "ManualActionTask", "Check the site", manual_action="Look at the door."),
    )
    update = {"parent_id": job.id, "parent_task": "Group1", "item_id": MACHINE}
    other_end = "d" if job.id.endswith("c") else "c"
    child = job.model_copy(update={"id": f"{job.id[:-1]}{other_end}", **update})
    child = hub.start(child)
    hub.jobs[child.id] = child
    runs = (
        TaskRun(task_id="Group1", state=TaskState.IN_PROGRESS, attempt=1, started_at=NOW),
        TaskRun(task_id="Check", state=TaskState.NOT_STARTED),
    )
    plan = job.model_copy(
        update={"own_specs": specs, "tasks": runs, "item_id": None, "state": JobState.IN_PROGRESS}
    )
    hub.jobs[job.id] = plan
    return plan


def suspended(hub: MemoryHub, plan: Job) -> Job:
    """Let the group of a plan have ended; its manual action waits for a person."""
    runs = (
        TaskRun(
            task_id="Group1", state=TaskState.SUCCEEDED, attempt=1, started_at=NOW, ended_at=NOW
        ),
        TaskRun(task_id="Check", state=TaskState.IN_PROGRESS, attempt=1, started_at=NOW),
    )
    hub.jobs[plan.id] = plan.model_copy(update={"state": JobState.SUSPENDED, "tasks": runs})
    return hub.jobs[plan.id]
