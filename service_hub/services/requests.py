"""Knows a request that is sent again: the SDK repeats even POST, and must not fail over twice.

A key is the principal, method, path and client request id; it is stored in the transaction that
makes the job (arm-api.md, section 3, retries).
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from service_hub.domain.errors import ConflictError, StaleVersionError
from service_hub.domain.jobs import Job
from service_hub.domain.records import RequestKey
from service_hub.ports.changes import NEW, Change, Delete, Save
from service_hub.ports.stores import Committer, Reader, WideReader
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import RequestIdentity
from service_hub.services.audit import job_stored

KEPT: Final = timedelta(hours=24)
"""How long a repeated request is known; clients repeat for seconds (arm-api.md, section 3)."""

PRUNED_AT_ONCE: Final = 500

TRIES_MAX: Final = 20
"""How often a request is decided anew because what it is about had changed meanwhile."""


class RequestLedger:
    """Finds the job that an earlier sending of the same request made."""

    def __init__(self, *, reader: Reader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock

    async def earlier(self, identity: RequestIdentity) -> Job | None:
        """Return the job of the same request; ConflictError for another body under its id."""
        found = await self._reader.get(RequestKey, _key(identity))
        if found is None:
            return None
        if found.record.body_digest != identity.body_digest:
            raise ConflictError(
                f"the request id {identity.client_request_id} was used on this path with another "
                "body: send a new x-ms-client-request-id"
            )
        job = await self._reader.get(Job, found.record.job_id)
        return None if job is None else job.record

    async def once(self, identity: RequestIdentity, decide: Callable[[], Awaitable[Job]]) -> Job:
        """Return the job of the same request, or what `decide` makes of it.

        `decide` stores what `remember` returns, and is asked again when what it decided on had
        changed meanwhile; the same request at the same moment is such a change.
        """
        for _ in range(TRIES_MAX):
            if (earlier := await self.earlier(identity)) is not None:
                return earlier
            try:
                return await decide()
            except StaleVersionError:
                continue
        raise StaleVersionError(f"{identity.path} found no quiet moment in {TRIES_MAX} tries")

    def remember(self, identity: RequestIdentity, job: Job) -> Change:
        """Return the change that notes which job a request made, with its line of the audit log."""
        key = RequestKey(
            id=_key(identity),
            vault_id=job.vault_id,
            body_digest=identity.body_digest,
            job_id=job.id,
            created_at=self._clock.now(),
        )
        line = job_stored(identity, job.vault_id, job.id, key.created_at)
        return Change(saves=(Save(key, NEW),), audit=(line,))


class RequestKeyPruning:
    """Forgets requests that nobody sends again."""

    def __init__(self, *, reader: WideReader, committer: Committer, clock: Clock) -> None:
        self._reader = reader
        self._committer = committer
        self._clock = clock

    async def prune(self) -> int:
        """Forget what is older than a day, portion by portion; return how many."""
        before, count = self._clock.now() - KEPT, 0
        while found := await self._reader.old_request_keys(before, PRUNED_AT_ONCE):
            deletes = [Delete(RequestKey, each) for each in found]
            await self._committer.commit(Change(deletes=deletes))
            count += len(found)
        return count


def _key(identity: RequestIdentity) -> str:
    parts = (identity.principal, identity.method, identity.path, identity.client_request_id)
    return "\n".join(parts)
