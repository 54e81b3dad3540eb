"""Writes the audit log: a line in the transaction of each change, another with what was answered.

What an operator's request stores is found by the context that the request runs in: a use case need
not hand its committer who asked. Where a request makes a job, the line is stored with the job.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from service_hub.domain.accept_rate import AcceptRate
from service_hub.domain.access import OperatorIdentity
from service_hub.domain.audit import AskedRequest, AuditEntry, AuditEvent, entry_of
from service_hub.domain.errors import StaleVersionError
from service_hub.ports.changes import Change
from service_hub.ports.stores import Committer
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import RequestIdentity

STRANGERS_PER_SECOND: Final = 2.0
STRANGERS_AT_ONCE: Final = 100
"""Refusals without a valid token that are written; more are counted: nobody fills a disk."""

ADDRESS_OF_THE_HUB: Final = "hub"
"""Where requests come from that nobody sends at this moment: injected events of a schedule."""


@dataclass(slots=True)
class OpenRequest:
    """A request that is being answered, as far as it is known."""

    asked: AskedRequest
    job_id: str | None = None
    stored: bool = False
    over: bool = False


_OPEN: Final[ContextVar[OpenRequest | None]] = ContextVar("audited_request", default=None)


def open_request() -> OpenRequest | None:
    """Return the request in whose context this runs, unless it has been answered."""
    found = _OPEN.get()
    return None if found is None or found.over else found


@contextmanager
def request_open(asked: AskedRequest) -> Iterator[OpenRequest]:
    """Let what runs inside belong to this request; tasks that outlive it no longer do."""
    opened = OpenRequest(asked)
    token = _OPEN.set(opened)
    try:
        yield opened
    finally:
        opened.over = True
        _OPEN.reset(token)


def asked_by(operator: OperatorIdentity) -> None:
    """Note who asks."""
    found = open_request()
    if found is not None:
        found.asked = replace(found.asked, principal=operator.principal, roles=operator.role)


def asked_in(vault_id: str) -> None:
    """Note which vault is meant."""
    found = open_request()
    if found is not None:
        found.asked = replace(found.asked, vault_id=vault_id)


def correlation() -> str | None:
    """Return the id that ties the audit log, the answer and the hub's log together."""
    found = open_request()
    return None if found is None else found.asked.correlation_id


def job_stored(identity: RequestIdentity, vault_id: str, job_id: str, now: datetime) -> AuditEntry:
    """Return the line that is stored with the job of a request."""
    found = open_request()
    if found is None:
        asked = AskedRequest(
            method=identity.method,
            target=identity.path,
            address=ADDRESS_OF_THE_HUB,
            correlation_id=identity.correlation_id,
            client_request_id=identity.client_request_id,
            principal=identity.principal,
        )
    else:
        asked, found.job_id, found.stored = found.asked, job_id, True
    asked = replace(asked, vault_id=vault_id)
    return entry_of(
        AuditEvent.CHANGE_STORED, asked, now, job_id=job_id, injection_id=identity.injection_id
    )


class AuditedCommitter:
    """The Committer of the hub's ports: a change that a request asks for takes its line along."""

    def __init__(self, committer: Committer, clock: Clock) -> None:
        self._committer = committer
        self._clock = clock

    async def commit(self, change: Change) -> int:
        """Store the change and return its number; raises StaleVersionError, then nothing is."""
        found = open_request()
        if found is None or found.stored or change.audit:
            return await self._committer.commit(change)
        if not found.asked.vault_id and change.saves:
            found.asked = replace(found.asked, vault_id=change.saves[0].record.vault_id)
        line = entry_of(AuditEvent.CHANGE_STORED, found.asked, self._clock.now())
        number = await self._committer.commit(change + Change(audit=(line,)))
        found.stored = True
        return number

    async def commit_all(self, changes: Sequence[Change]) -> list[int | StaleVersionError]:
        """Store each alone, in order, and return as Store.apply does."""
        return await self._committer.commit_all(changes)


class AuditTrail:
    """Writes what was answered."""

    def __init__(self, committer: Committer, clock: Clock) -> None:
        self._committer = committer
        self._clock = clock
        self._strangers = AcceptRate(STRANGERS_PER_SECOND, STRANGERS_AT_ONCE)
        self._unrecorded = 0

    async def answered(self, opened: OpenRequest, status: int, code: str | None) -> None:
        """Store what came of a request; of strangers only so many."""
        now = self._clock.now()
        if not opened.asked.principal and self._strangers.ask(now.timestamp()) is not None:
            self._unrecorded += 1
            return
        line = entry_of(
            AuditEvent.REQUEST_ANSWERED,
            opened.asked,
            now,
            status=status,
            code=code,
            job_id=opened.job_id,
            unrecorded=self._unrecorded,
        )
        self._unrecorded = 0
        await self._committer.commit(Change(audit=(line,)))
