"""Jobs, for looking at."""

from service_hub.arm.api import ArmApi
from service_hub.arm.calls import Answer, Call
from service_hub.arm.ids import VaultIds
from service_hub.arm.paging import page
from service_hub.arm.render_jobs import job_body, listed_job_body
from service_hub.arm.surroundings import networks


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
        return Answer(body=job_body(vault, job, names), request_ids=(VaultIds(vault).job(job.id),))

    async def list(self, call: Call) -> Answer:
        """Answer with all jobs of a vault, the newest first."""
        vault = await self._api.vault(call)
        bodies = [listed_job_body(vault, job) for job in await self._api.jobs.list(vault)]
        return page(call, bodies, self._api.public_url)
