"""VMM's job history: notes what administrators have done, reads what the provider has done."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

from pydantic import ValidationError

from service_shell.clock import Clock
from service_shell.errors import ProgramError
from vmm_simulator.journal import Change, Effect, Journal
from vmm_simulator.problems import RefusedError
from vmm_simulator.vmm.jobs import (
    JOBS_SHOWN,
    JobRecord,
    ProviderEffect,
    ended_by_restart,
    history,
    kept,
)
from wire_contract.vmm_fabric import JobView

_JOB: Final = "job"
ERROR_CHARACTERS_MAX: Final = 1000


class JobHistory:
    """The administrators' jobs in the journal, the newest kept; a job under way is one as well."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._jobs: dict[int, JobRecord] = {}

    async def load(self) -> None:
        """Read what the journal holds; what was under way when the site went down has failed."""
        try:
            bodies = await self._journal.documents(_JOB)
            jobs = [JobRecord.model_validate_json(body) for body in bodies]
        except ValidationError as error:
            raise ProgramError(
                "the journal holds a damaged job; restore it from a copy, or move the data"
                " directory away to begin anew"
            ) from error
        self._jobs = {each.number: each for each in jobs}
        for job in jobs:
            if job.ended_at is None:
                await self._put(ended_by_restart(job, self._clock.now()))

    @asynccontextmanager
    async def job(self, name: str, target: str) -> AsyncIterator[None]:
        """Note a job that lasts as long as the block; a refusal is its error."""
        number = max(self._jobs, default=0) + 1
        job = JobRecord(number=number, name=name, target=target, began_at=self._clock.now())
        await self._put(job)
        error: str | None = "broken off"
        try:
            yield
            error = None
        except RefusedError as refusal:
            error = refusal.message[:ERROR_CHARACTERS_MAX]
            raise
        finally:
            ended = {"ended_at": self._clock.now(), "error": error}
            await self._put(job.model_copy(update=ended))

    async def views(self, service_account: str) -> tuple[JobView, ...]:
        """Return the newest jobs of administrators and provider, newest first."""
        effects = await self._journal.newest_effects(JOBS_SHOWN)
        return history(self._jobs.values(), (_of_ledger(each) for each in effects), service_account)

    async def _put(self, job: JobRecord) -> None:
        jobs = {**self._jobs, job.number: job}
        stay = {each.number for each in kept(jobs.values())}
        changes = [Change(_JOB, _identity(number), None) for number in jobs if number not in stay]
        changes.append(Change(_JOB, _identity(job.number), job.model_dump_json()))
        self._jobs = {number: each for number, each in jobs.items() if number in stay}
        await self._journal.save(changes)


def _identity(number: int) -> str:
    return f"{number:012}"


def _of_ledger(effect: Effect) -> ProviderEffect:
    done_at = None if effect.done_at is None else datetime.fromisoformat(effect.done_at)
    return ProviderEffect(
        number=effect.number,
        verb=effect.verb,
        target=effect.target,
        began_at=datetime.fromisoformat(effect.began_at),
        done_at=done_at,
        outcome=effect.outcome,
    )
