"""Replication policies."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol

from pydantic import ValidationError

from service_hub.domain.errors import InvalidRequestError, NotFoundError
from service_hub.domain.jobs import Job
from service_hub.domain.pairs import DELETE_POLICY
from service_hub.domain.planning import JobIdentity, plan_policy_job
from service_hub.domain.policies import policy_problem, self_fence_problem, with_defaults
from service_hub.domain.records import ReplicationPolicy, Vault
from service_hub.ports.changes import Change, Save
from service_hub.ports.running import JobRunner
from service_hub.ports.stores import Reader
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import RequestIdentity
from service_hub.services.requests import RequestLedger


class PolicyChanger(Protocol):
    """Changes a policy, and what replicates under it."""

    async def change(
        self, vault: Vault, name: str, settings: Mapping[str, Any], identity: RequestIdentity
    ) -> Job:
        """Return the job that brings the change to a pair; NotFoundError."""


class PolicyService:
    """The PolicyUseCases of the hub's ports."""

    def __init__(
        self,
        *,
        reader: Reader,
        runner: JobRunner,
        clock: Clock,
        requests: RequestLedger,
        changes: PolicyChanger,
        heartbeat: timedelta,
    ) -> None:
        self._heartbeat = heartbeat
        self._changes = changes
        self._reader = reader
        self._runner = runner
        self._clock = clock
        self._requests = requests

    async def create(
        self, vault: Vault, name: str, settings: Mapping[str, Any], identity: RequestIdentity
    ) -> Job:
        """Create a policy by a job; a policy of that name must not be in the way."""
        return await self._requests.once(
            identity, lambda: self._create(vault, name, settings, identity)
        )

    async def _create(
        self, vault: Vault, name: str, settings: Mapping[str, Any], identity: RequestIdentity
    ) -> Job:
        policy_id, settings = self._clock.new_id(), with_defaults(dict(settings))
        try:
            policy = ReplicationPolicy(id=policy_id, vault_id=vault.id, name=name, **settings)
        except ValidationError as error:
            first = error.errors()[0]
            target = ".".join(str(part) for part in first["loc"])
            raise InvalidRequestError(f"{target}: {first['msg']}", target) from error
        problem = policy_problem(policy) or self_fence_problem(policy, self._heartbeat)
        if problem is not None:
            raise InvalidRequestError(problem.message, problem.target)
        found = await self._reader.find(ReplicationPolicy, vault_id=vault.id, name=name)
        expected = None
        if found:
            present = found[0].record
            if present.model_copy(update={"id": policy_id}) != policy:
                raise InvalidRequestError(
                    f"a policy named '{name}' exists with other settings: "
                    "choose another name, or change that policy (PATCH)",
                    "name",
                )
            policy = present
        job_identity = JobIdentity(self._clock.new_id(), activity(identity), self._clock.now())
        job = plan_policy_job(policy, job_identity)
        change = Change(saves=(Save(policy, expected),)) + self._requests.remember(identity, job)
        await self._runner.start(job, change)
        return job

    async def change(
        self, vault: Vault, name: str, settings: Mapping[str, Any], identity: RequestIdentity
    ) -> Job:
        """Change a policy, and bring that to the pairs under it by jobs; NotFoundError."""
        return await self._changes.change(vault, name, settings, identity)

    async def delete(self, vault: Vault, name: str, identity: RequestIdentity) -> Job:
        """Delete a policy by a job, which fails while clouds are paired under it; NotFoundError."""

        async def decide() -> Job:
            policy = await self.find(vault, name)
            now = self._clock.now()
            planned = JobIdentity(self._clock.new_id(), activity(identity), now)
            job = plan_policy_job(policy, planned, DELETE_POLICY)
            await self._runner.start(job, self._requests.remember(identity, job))
            return job

        return await self._requests.once(identity, decide)

    async def find(self, vault: Vault, name: str) -> ReplicationPolicy:
        """Return one, names compared without case."""
        found = await self._reader.find(ReplicationPolicy, vault_id=vault.id, name=name)
        if not found:
            raise NotFoundError(name)
        return found[0].record

    async def list(self, vault: Vault) -> list[ReplicationPolicy]:
        """Return all of a vault."""
        found = await self._reader.find(ReplicationPolicy, vault_id=vault.id)
        return [each.record for each in found]


def activity(identity: RequestIdentity) -> str:
    """Return a job's activity id as recorded: client request id and correlation id."""
    return f"{identity.client_request_id} ActivityId: {identity.correlation_id}"
