"""The operator: the official Azure SDK clients, pointed at the hub, and how a job is followed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from azure.core.exceptions import HttpResponseError
from azure.core.pipeline import PipelineResponse
from azure.core.polling import AsyncLROPoller
from azure.mgmt.recoveryservices.aio import RecoveryServicesClient
from azure.mgmt.recoveryservicessiterecovery import models
from azure.mgmt.recoveryservicessiterecovery.aio import SiteRecoveryManagementClient

from service_shell.errors import ProgramError
from site_recovery_cli.sdk_clients import BearerCredential, open_clients

JOB_POLL_SECONDS: Final = 0.15
JOB_SECONDS_MAX: Final = 180.0
TOKEN_LIFETIME: Final = timedelta(hours=24)
FINISHED_STATES: Final = frozenset({"Succeeded", "Failed", "Cancelled"})
TASK_FINISHED_STATES: Final = frozenset({"Succeeded", "Failed", "Other"})

TaskListener = Callable[[models.ASRTask], None]
Begin = Callable[..., Awaitable[AsyncLROPoller[Any]]]


@dataclass(frozen=True, slots=True)
class HubAddress:
    """Where the hub is and which vault is meant."""

    base_url: str
    ca_file: str
    subscription_id: str
    resource_group: str
    vault: str


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """A job that succeeded, and how long it took from the request to its end."""

    name: str
    seconds: float
    job: models.Job


class JobFailedError(ProgramError):
    """A job did not succeed; the message says what the service and the provider said."""


@dataclass(slots=True)
class Operator:
    """An operator at work in one vault, through the official SDK alone."""

    address: HubAddress
    vaults: RecoveryServicesClient
    recovery: SiteRecoveryManagementClient

    @property
    def scope(self) -> tuple[str, str]:
        """Resource group and vault, the first two arguments of every call."""
        return self.address.resource_group, self.address.vault

    @property
    def vault_arm_id(self) -> str:
        """ARM id of the vault."""
        group, vault = self.scope
        return (
            f"/subscriptions/{self.address.subscription_id}/resourceGroups/{group}"
            f"/providers/Microsoft.RecoveryServices/vaults/{vault}"
        )

    async def run(
        self,
        what: str,
        begin: Begin,
        on_task: TaskListener | None = None,
        seconds_max: float = JOB_SECONDS_MAX,
    ) -> FinishedJob:
        """Begin an operation, follow its job to the end and return it; JobFailedError otherwise.

        `begin` is a `begin_…` method of the SDK with everything but its keyword options bound.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        place = JobPlace()
        try:
            async with asyncio.timeout(seconds_max):
                poller = await begin(raw_response_hook=place.note)
                watch = _TaskWatch(on_task)
                job = await self.follow(place.name(what), watch)
                seconds = loop.time() - started
                if job.properties is None or job.properties.state != "Succeeded":
                    raise JobFailedError(f"{what}: {failure_text(job)}")
                await poller.result()
        except TimeoutError as error:
            raise JobFailedError(
                f"{what} was not finished in {seconds_max:g} s (job {place.job})"
            ) from error
        except HttpResponseError as error:
            raise JobFailedError(f"{what} was refused: {error.message}") from error
        return FinishedJob(place.name(what), seconds, job)

    async def follow(self, job_name: str, watch: "_TaskWatch") -> models.Job:
        """Return the job once it is finished, telling of each task as it ends."""
        while True:
            job = await self.recovery.replication_jobs.get(*self.scope, job_name)
            watch.see(job)
            if job.properties is not None and job.properties.state in FINISHED_STATES:
                return job
            await asyncio.sleep(JOB_POLL_SECONDS)


@contextlib.asynccontextmanager
async def open_operator(address: HubAddress, token: str, now: datetime) -> AsyncIterator[Operator]:
    """Open both SDK clients; they verify the hub with the lab's bundle and nothing else."""
    credential = BearerCredential(token, now + TOKEN_LIFETIME)
    async with open_clients(
        address.base_url, address.subscription_id, credential, address.ca_file
    ) as sdk:
        yield Operator(address, sdk.vaults, sdk.recovery)


@dataclass(slots=True)
class JobPlace:
    """Takes the job's id from the answer's Location, as the SDK's other clients do."""

    job: str = ""

    def note(self, response: PipelineResponse[Any, Any]) -> None:
        """Look at an answer; the first one that names a job wins."""
        location = response.http_response.headers.get("Location", "")
        if not self.job and "/operationresults/" in location.lower():
            self.job = location.partition("?")[0].rstrip("/").rpartition("/")[2]

    def name(self, what: str) -> str:
        """Return the job's name; ProgramError when the hub named none."""
        if not self.job:
            raise ProgramError(f"{what}: the hub's answer names no job; look at the hub's log")
        return self.job


@dataclass(slots=True)
class _TaskWatch:
    """Tells of each task once, when it has ended."""

    listener: TaskListener | None
    _told: set[str] = field(default_factory=set)

    def see(self, job: models.Job) -> None:
        """Look at a job as it is now."""
        tasks = (job.properties.tasks if job.properties is not None else None) or []
        for task in tasks:
            name = task.task_id or task.name or ""
            if task.state in TASK_FINISHED_STATES and name not in self._told:
                self._told.add(name)
                if self.listener is not None:
                    self.listener(task)


def failure_text(job: models.Job) -> str:
    """Say what a job's errors say, in one line."""
    properties = job.properties
    if properties is None:
        return "the job has no content"
    texts = []
    for error in properties.errors or []:
        for details in (error.provider_error_details, error.service_error_details):
            message = getattr(details, "error_message", None) or getattr(details, "message", None)
            said = (message, getattr(details, "recommended_action", None))
            texts += [" ".join(each for each in said if each)]
    texts = [text for text in texts if text]
    reason = "; ".join(texts) or "no error is recorded"
    return f"job {job.name} is {properties.state} ({properties.state_description}): {reason}"


def task_seconds(task: models.ASRTask) -> float | None:
    """Return how long a task took; None where it did not run."""
    if task.start_time is None or task.end_time is None or task.state == "Other":
        return None
    return max(0.0, (task.end_time - task.start_time).total_seconds())
