"""What one transaction stores, and what it answers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final, Generic, NamedTuple, TypeVar

from pydantic import JsonValue

from service_hub.domain.audit import AuditEntry
from service_hub.domain.errors import StaleVersionError
from service_hub.domain.records import ProviderStream, Record
from wire_contract.vocabulary import EventType

R = TypeVar("R", bound=Record)

NEW = 0
"""Expected version of a record that must not exist yet."""


@dataclass(frozen=True, slots=True)
class Versioned(Generic[R]):
    """A record as it was read, and the version a Change must name."""

    record: R
    version: int


@dataclass(frozen=True, slots=True)
class Save:
    """Store a record; `expected_version` NEW = must not exist, None = whatever is there.

    `document`: its text, where who saves it has it already (domain.job_document).
    """

    record: Record
    expected_version: int | None
    document: str | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a record; nothing happens when it is gone already."""

    kind: type[Record]
    record_id: str


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event for one provider; the committer numbers it within the transaction."""

    event_id: str
    vault_id: str
    provider_id: str
    type: EventType
    issued_at: datetime
    expires_at: datetime
    body: Mapping[str, JsonValue]


class NumberedEvent(NamedTuple):
    """A new event with the place that it was given."""

    event: NewEvent
    stream: str
    seq: int


@dataclass(frozen=True, slots=True)
class EventReceipt:
    """A provider has this event in its journal; what is acknowledged without a gap is dropped."""

    provider_id: str
    stream: str
    seq: int
    receipt: str


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One event of a job as it was decided on: appended with the decision, never changed.

    Numbers rise by one; number 0 holds the job as it was made (domain.job_log).
    """

    job_id: str
    number: int
    at: datetime
    event: str


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to decide on a job, until the database's clock says otherwise."""

    job_id: str
    owner: str
    fence: int


@dataclass(frozen=True, slots=True)
class Guard:
    """The change is stored only while the job's lease has this fence; else LeaseLostError."""

    job_id: str
    fence: int


@dataclass(frozen=True, slots=True)
class Message:
    """An event for a job that another hub may hold; kept until its holder has decided on it."""

    message_id: str
    job_id: str
    event: str


@dataclass(frozen=True, slots=True)
class Ring:
    """A hint for every hub of the database, told with the commit; the truth is in the tables."""

    topic: str
    key: str


@dataclass(frozen=True, slots=True)
class Change:
    """What is stored together or not at all.

    `begins` are leases of new jobs, `ends` the jobs whose lease is over, `taken` the messages that
    the change has decided on.
    """

    saves: Sequence[Save] = ()
    deletes: Sequence[Delete] = ()
    events: Sequence[NewEvent] = ()
    receipts: Sequence[EventReceipt] = ()
    log: Sequence[LogEntry] = ()
    guards: Sequence[Guard] = ()
    begins: Sequence[Lease] = ()
    ends: Sequence[str] = ()
    messages: Sequence[Message] = ()
    taken: Sequence[str] = ()
    rings: Sequence[Ring] = ()
    audit: Sequence[AuditEntry] = ()

    def __add__(self, other: "Change") -> "Change":
        return Change(
            *((*getattr(self, each.name), *getattr(other, each.name)) for each in fields(Change))
        )


NOTHING: Final = Change()
"""A change that changes nothing."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a transaction did to outboxes: the streams as it left them, and their new events.

    Whoever sends them need not read them back. Another hub may have gone on meanwhile.
    """

    streams: Sequence[ProviderStream] = ()
    events: Sequence[NumberedEvent] = ()

    def __add__(self, later: "Stored") -> "Stored":
        return Stored((*self.streams, *later.streams), (*self.events, *later.events))


NOTHING_STORED: Final = Stored()
"""No outbox was touched."""


class Applied(list[int | StaleVersionError]):
    """For each change of a batch its number, or the error that undid it alone; in order."""

    def __init__(
        self, outcomes: Iterable[int | StaleVersionError], stored: Stored = NOTHING_STORED
    ) -> None:
        super().__init__(outcomes)
        self.stored = stored


CHANGES_REMEMBERED: Final = 1_000_000
"""Deletions are told so many changes long; a view that was away for longer begins anew."""
