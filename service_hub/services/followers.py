"""What follows from the end of a job, in the order in which it is asked."""

from collections.abc import Sequence

from service_hub.domain.jobs import Job
from service_hub.ports import Followers


class AllFollowers:
    """Several Followers of the hub's ports as one; telling them twice changes nothing."""

    def __init__(self, followers: Sequence[Followers]) -> None:
        self._followers = tuple(followers)

    def awaits(self, job: Job) -> bool:
        """Whether anything may follow from the end of this job."""
        return any(each.awaits(job) for each in self._followers)

    async def job_ended(self, job: Job) -> None:
        """Look whether anything follows."""
        for each in self._followers:
            if each.awaits(job):
                await each.job_ended(job)
