"""The open jobs of registered servers: who leaves, and who waits for an inventory."""

from datetime import datetime

from service_hub.domain.jobs import Job, JobState, PartSucceeded, TaskState
from service_hub.domain.records import Provider
from service_hub.domain.servers import UNREGISTER
from service_hub.ports.changes import Versioned
from service_hub.ports.running import JobRunner
from service_hub.ports.stores import Reader
from wire_contract.vocabulary import Side


async def leaving_by(reader: Reader, provider: Provider) -> Job | None:
    """Return the open job that deletes a server, or None."""
    for found in await _open_jobs(reader, provider.vault_id):
        job = found.record
        if job.scenario_key == UNREGISTER and job.providers[Side.PRIMARY] == provider.id:
            return job
    return None


async def end_refreshes(
    reader: Reader, runner: JobRunner, provider: Provider, now: datetime
) -> None:
    """Tell the jobs that wait for a server's inventory that it has come."""
    for found in await _open_jobs(reader, provider.vault_id):
        job = found.record
        for task in job.tasks:
            if task.state is not TaskState.IN_PROGRESS or not job.spec(task.task_id).asks_inventory:
                continue
            for part in task.parts:
                if job.providers[part.side] == provider.id:
                    done = PartSucceeded(now, task.task_id, part.side, task.attempt, {}, now)
                    await runner.feed(job.id, done)


async def _open_jobs(reader: Reader, vault_id: str) -> list[Versioned[Job]]:
    return [
        found
        for state in (JobState.NOT_STARTED, JobState.IN_PROGRESS)
        for found in await reader.find(Job, vault_id=vault_id, state=state.value)
    ]
