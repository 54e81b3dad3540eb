"""Jobs: looked at, cancelled, restarted, resumed."""

from service_hub.arm.api import ArmApi
from service_hub.arm.bodies import ResumeInput, read
from service_hub.arm.calls import Answer, Call
from service_hub.arm.event_filter import asked_filter
from service_hub.arm.ids import VaultIds
from service_hub.arm.long_running import request_accepted
from service_hub.arm.paging import asked_of_jobs, page_of_jobs
from service_hub.arm.plan_bodies import with_signatures
from service_hub.arm.render_jobs import job_body, listed_job_body
from service_hub.arm.surroundings import networks
from service_hub.domain.errors import NotFoundError


class JobHandlers:
    """What operators ask of jobs."""

    def __init__(self, api: ArmApi) -> None:
        self._api = api

    async def get(self, call: Call) -> Answer:
        """Answer with one job, all tasks and errors; its `x-ms-request-id` is the job."""
        vault = await self._api.vault(call)
        job = await self._api.jobs.find(vault, call.folded("job"))
        names: dict[str, str] = {}
        if job.context.get("network_id"):
            names = {
                network.network_id: network.friendly_name
                for fabric in await self._api.fabrics.list(vault)
                for network in networks(fabric)
            }
        children = await self._api.jobs.children(vault, job)
        body = job_body(vault, job, names, children)
        return Answer(body=body, request_ids=(VaultIds(vault).job(job.id),))

    async def list(self, call: Call) -> Answer:
        """Answer with the jobs of a vault that `$filter` asks for, the newest first."""
        vault = await self._api.vault(call)
        after, limit = asked_of_jobs(call)
        wanted = asked_filter(call)
        found = await self._api.jobs.list(vault, wanted, after, limit)
        bodies = [listed_job_body(vault, job) for job in found.jobs]
        return page_of_jobs(call, bodies, found.last, self._api.public_url)

    async def cancel(self, call: Call) -> Answer:
        """Have what was done taken back; a plan's job takes signatures (ours)."""
        vault = await self._api.vault(call)
        who = with_signatures(call.identity, call.body)
        job = await self._api.jobs.cancel(vault, call.folded("job"), who)
        return request_accepted(self._api, vault, job, "cancel")

    async def restart(self, call: Call) -> Answer:
        """Have a failed job go on from the task that failed; a plan's takes signatures (ours)."""
        vault = await self._api.vault(call)
        who = with_signatures(call.identity, call.body)
        job = await self._api.jobs.restart(vault, call.folded("job"), who)
        return request_accepted(self._api, vault, job, "restart")

    async def resume(self, call: Call) -> Answer:
        """Have a suspended job go on; a body without comments, or none at all, is enough."""
        wanted = read(call.body, ResumeInput) if call.body else ResumeInput()
        vault = await self._api.vault(call)
        who = with_signatures(call.identity, call.body)
        job = await self._api.jobs.resume(
            vault, call.folded("job"), wanted.properties.comments, who
        )
        return request_accepted(self._api, vault, job, "resume")

    async def result(self, call: Call) -> Answer:
        """Answer with the job that something was asked of, as it is now."""
        if call.folded("job") != call.folded("operation"):
            raise NotFoundError(call.name("operation"))
        return await self.get(call)
