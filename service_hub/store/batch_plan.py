"""Decides what a batch of changes does to the tables; pure, and the same for every database.

What the batch names is read first, with a few set queries; here each change is then tried against
what is there and what the changes before it have done. A stale change leaves no trace. The result
is written with one statement per table and kind, however many changes there are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from service_hub.domain.audit import AuditEntry
from service_hub.domain.errors import LeaseLostError, StaleVersionError
from service_hub.domain.jobs import Job
from service_hub.domain.records import OutboxEvent, ProviderStream, Record
from service_hub.ports.changes import (
    NEW,
    NOTHING_STORED,
    Change,
    Delete,
    EventReceipt,
    Guard,
    Lease,
    LogEntry,
    Message,
    NewEvent,
    NumberedEvent,
    Ring,
    Save,
    Stored,
)
from service_hub.store.batch_facts import Facts, Key, Present, Waiting
from service_hub.store.tables import SHOWN, searched_values, sortable
from service_hub.store.written_rows import (
    Written,
    document_of,
    is_found_as_before,
    stored_of,
    values_of,
)

Outcome = int | StaleVersionError

OUTBOX_TOPIC: Final = "outbox"
INBOX_TOPIC: Final = "inbox"


@dataclass(slots=True)
class Plan:
    """What to write; rows are in the order of `written_columns`, for updates with the id last."""

    outcomes: list[Outcome]
    number: int
    inserts: dict[type[Record], list[tuple[Any, ...]]] = field(default_factory=dict)
    updates: dict[type[Record], list[tuple[Any, ...]]] = field(default_factory=dict)
    touched: dict[type[Record], list[tuple[int, int, str, str]]] = field(default_factory=dict)
    """Version, change, document and id of those that are found as before: no index but one."""

    deletes: dict[type[Record], list[str]] = field(default_factory=dict)
    forgotten: list[tuple[str, str, str, int]] = field(default_factory=list)
    """Rows for `deleted_record`."""

    notes: list[tuple[str, str, int]] = field(default_factory=list)
    """Receipts that came early: event id, receipt, change."""

    log: list[tuple[str, int, str, int, str]] = field(default_factory=list)
    begun: list[tuple[str, str, int]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    messages: list[tuple[str, str, int, int, str]] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    jobs_deleted: list[str] = field(default_factory=list)
    """Jobs whose log goes with them, before anything new is written."""

    cleared: list[str] = field(default_factory=list)
    """Jobs whose inbox is emptied, before anything new is left there."""

    audit: list[tuple[int, int, str, str, str]] = field(default_factory=list)
    """Lines of the audit log: change, position, vault, moment, text; the hash comes last."""

    rings: list[Ring] = field(default_factory=list)
    stored: Stored = NOTHING_STORED
    written: Mapping[Key, Written | None] = field(default_factory=dict)
    records: Mapping[Key, Present | None] = field(default_factory=dict)
    """What the batch leaves of the records that it named; None: it is gone."""

    streams: Mapping[str, ProviderStream | None] = field(default_factory=dict)
    fences: Mapping[str, int | None] = field(default_factory=dict)


_NOTHING: Final = object()
_GONE: Final = None


class _Batch:
    """What is there as the changes so far have left it; every step of a change can be undone."""

    def __init__(self, facts: Facts) -> None:
        self.records: dict[Key, Present | None] = {**facts.records}
        self.streams: dict[str, ProviderStream | None] = {**facts.streams}
        self.waiting: dict[tuple[str, int], Waiting | None] = {**facts.waiting}
        self.fences: dict[str, int | None] = {**facts.fences}
        self.written: dict[Key, Written | None] = {}
        self.forgotten: dict[Key, tuple[str, int]] = {}
        self.notes: dict[str, tuple[str, int]] = {}
        self.log: dict[tuple[str, int], tuple[LogEntry, int] | None] = {}
        self.erased: dict[str, None] = {}
        self.cleared: dict[str, None] = {}
        self.taken: dict[str, None] = {}
        self.leases: dict[str, Lease | None] = {}
        self.messages: dict[str, tuple[Message, int, int] | None] = {}
        self.rings: dict[tuple[str, str], None] = {}
        self.audit: dict[tuple[int, int], AuditEntry] = {}
        self.number = facts.number
        self._undo: list[tuple[dict[Any, Any], Any, Any]] = []

    def apply(self, change: Change) -> Outcome:
        """Do all of a change, or nothing of it."""
        self._undo.clear()
        self.number += 1
        try:
            self._apply(change)
        except StaleVersionError as error:
            self.number -= 1
            for where, key, before in reversed(self._undo):
                if before is _NOTHING:
                    del where[key]
                else:
                    where[key] = before
            return error
        return self.number

    def _set(self, where: dict[Any, Any], key: Any, value: Any) -> None:
        self._undo.append((where, key, where.get(key, _NOTHING)))
        where[key] = value

    def _drop(self, where: dict[Any, Any], key: Any) -> None:
        if key in where:
            self._set(where, key, _GONE)

    def _ring(self, topic: str, key: str) -> None:
        if (topic, key) not in self.rings:
            self._set(self.rings, (topic, key), None)

    def _apply(self, change: Change) -> None:
        for guard in change.guards:
            self._check(guard)
        for save in change.saves:
            self._save(save)
        for delete in change.deletes:
            self._delete(delete)
        if change.events:
            self._enqueue(change.events)
        if change.receipts:
            self._acknowledge(change.receipts)
        self._apply_to_jobs(change)
        for ring in change.rings:
            self._ring(ring.topic, ring.key)
        for position, line in enumerate(change.audit):
            self._set(self.audit, (self.number, position), line)

    # ------------------------------------------------------------------------------------- records

    def _save(self, save: Save) -> None:
        record, expected = save.record, save.expected_version
        key = (type(record), record.id)
        there = self.records.get(key)
        version = NEW if there is None else there.version
        if expected is not None and version != expected:
            raise StaleVersionError(
                f"{record.kind} {record.id} has version {version}, not {expected}"
            )
        self._write(key, record, save.document)
        if isinstance(record, ProviderStream):
            self._set(self.streams, record.id, record)

    def _write(self, key: Key, record: Record, document: str | None = None) -> None:
        there = self.records.get(key)
        version, created = (NEW, self.number) if there is None else (there.version, there.created)
        found_by = searched_values(record)
        self._set(self.records, key, Present(version + 1, created, record.vault_id, found_by))
        written = Written(record, version + 1, created, self.number, found_by, document)
        self._set(self.written, key, written)

    def _delete(self, delete: Delete) -> None:
        key = (delete.kind, delete.record_id)
        there = self.records.get(key)
        if there is None:
            return
        self._remove(key)
        if delete.kind in SHOWN:
            self._set(self.forgotten, key, (there.vault_id.lower(), self.number))
        if delete.kind is ProviderStream:
            self._set(self.streams, delete.record_id, _GONE)
        if delete.kind is Job:
            self._end(delete.record_id)
            self._set(self.erased, delete.record_id, None)
            for place in [place for place in self.log if place[0] == delete.record_id]:
                self._drop(self.log, place)

    def _remove(self, key: Key) -> None:
        self._drop(self.records, key)
        self._set(self.written, key, _GONE)

    # -------------------------------------------------------------------------------------- events

    def _stream(self, provider_id: str) -> ProviderStream:
        stream = self.streams.get(provider_id)
        if stream is None:
            # Alone undone: what is said of a server that is gone must not cost others theirs.
            raise StaleVersionError(f"the server {provider_id} was deleted meanwhile")
        return stream

    def _keep_stream(self, stream: ProviderStream) -> None:
        self._set(self.streams, stream.id, stream)
        self._write((ProviderStream, stream.id), stream)

    def _enqueue(self, events: Sequence[NewEvent]) -> None:
        """Give each event its stream's next number, without gaps."""
        following: dict[str, int] = {}
        for event in events:
            stream = self._stream(event.provider_id)
            seq = following.get(stream.id, stream.next_seq)
            following[stream.id] = seq + 1
            key = (OutboxEvent, event.event_id)
            if self.records.get(key) is not None:
                raise StaleVersionError(f"the event {event.event_id} exists already")
            numbered = NumberedEvent(event, stream.stream, seq)
            self._set(self.records, key, Present(NEW + 1, self.number, ""))
            self._set(self.written, key, Written(numbered, NEW + 1, self.number, self.number))
            self._set(self.waiting, (stream.id, seq), Waiting(event.event_id, received=False))
        for provider_id, seq in following.items():
            self._keep_stream(self._stream(provider_id).model_copy(update={"next_seq": seq}))
            self._ring(OUTBOX_TOPIC, provider_id)

    def _acknowledge(self, receipts: Sequence[EventReceipt]) -> None:
        """Note receipts; drop every event that is acknowledged without a gap below it."""
        told: dict[str, dict[int, str]] = {}
        for receipt in receipts:
            stream = self._stream(receipt.provider_id)
            if receipt.stream == stream.stream and receipt.seq > stream.acknowledged_seq:
                told.setdefault(stream.id, {})[receipt.seq] = receipt.receipt
        for provider_id, numbers in told.items():
            self._advance(self._stream(provider_id), numbers)
            for seq, words in numbers.items():
                there = self.waiting.get((provider_id, seq))
                if there is not None and not there.received:
                    self._set(
                        self.waiting, (provider_id, seq), Waiting(there.event_id, received=True)
                    )
                    self._set(self.notes, there.event_id, (words, self.number))

    def _advance(self, stream: ProviderStream, told: dict[int, str]) -> None:
        """Drop what is acknowledged now; what is told of events behind a gap stays in `told`."""
        # Receipts may come out of order: walk on over all numbers that have one.
        acknowledged = stream.acknowledged_seq
        while True:
            there = self.waiting.get((stream.id, acknowledged + 1))
            if there is None or not (there.received or acknowledged + 1 in told):
                break
            acknowledged += 1
            told.pop(acknowledged, None)
            self._drop(self.waiting, (stream.id, acknowledged))
            self._remove((OutboxEvent, there.event_id))
        self._keep_stream(stream.model_copy(update={"acknowledged_seq": acknowledged}))
        self._ring(OUTBOX_TOPIC, stream.id)

    # ---------------------------------------------------------------------------------------- jobs

    def _apply_to_jobs(self, change: Change) -> None:
        for entry in change.log:
            self._append(entry)
        for lease in change.begins:
            self._begin(lease)
        for position, message in enumerate(change.messages):
            self._leave(message, position)
        for message_id in change.taken:
            self._set(self.taken, message_id, None)
            self._drop(self.messages, message_id)
        for job_id in change.ends:
            self._end(job_id)

    def _end(self, job_id: str) -> None:
        """Have nobody hold the job any more, and empty its inbox."""
        self._set(self.fences, job_id, _GONE)
        self._set(self.leases, job_id, _GONE)
        self._set(self.cleared, job_id, None)
        for message_id, left in list(self.messages.items()):
            if left is not None and left[0].job_id == job_id:
                self._drop(self.messages, message_id)

    def _check(self, guard: Guard) -> None:
        fence = self.fences.get(guard.job_id)
        if fence != guard.fence:
            raise LeaseLostError(
                f"the lease of job {guard.job_id} has fence {fence}, not {guard.fence}"
            )

    def _append(self, entry: LogEntry) -> None:
        key = (entry.job_id, entry.number)
        if self.log.get(key) is not None:
            raise StaleVersionError(f"entry {entry.number} of job {entry.job_id} exists already")
        self._set(self.log, key, (entry, self.number))

    def _begin(self, lease: Lease) -> None:
        if self.fences.get(lease.job_id) is not None:
            raise StaleVersionError(f"the job {lease.job_id} has a lease already")
        self._set(self.fences, lease.job_id, lease.fence)
        self._set(self.leases, lease.job_id, lease)

    def _leave(self, message: Message, position: int) -> None:
        """Put a message into an inbox; for a job that has ended it means nothing any more."""
        if self.fences.get(message.job_id) is None:
            return
        if self.messages.get(message.message_id) is None:
            self._set(self.messages, message.message_id, (message, self.number, position))
        self._ring(INBOX_TOPIC, message.job_id)


def plan(changes: Iterable[Change], facts: Facts) -> Plan:
    """Return what each change comes to, and what to write."""
    batch = _Batch(facts)
    outcomes = [batch.apply(change) for change in changes]
    made = Plan(outcomes, batch.number, rings=[Ring(topic, key) for topic, key in batch.rings])
    for (kind, record_id), written in batch.written.items():
        if written is None:
            # Also what the batch itself has made: nothing is there then, and nothing happens.
            made.deletes.setdefault(kind, []).append(record_id)
            continue
        before = facts.records.get((kind, record_id))
        if before is None:
            made.inserts.setdefault(kind, []).append((record_id, *values_of(written)))
        elif kind is not OutboxEvent and is_found_as_before(written, before):
            row = (written.version, written.change, document_of(written), record_id)
            made.touched.setdefault(kind, []).append(row)
        else:
            made.updates.setdefault(kind, []).append((*values_of(written), record_id))
    made.stored = stored_of(batch.written.values())
    made.written = batch.written
    made.records, made.streams, made.fences = batch.records, batch.streams, batch.fences
    made.forgotten = [
        (kind.kind, record_id, *facts_of) for (kind, record_id), facts_of in batch.forgotten.items()
    ]
    made.jobs_deleted = list(batch.erased)
    made.notes = [
        (event_id, *note)
        for event_id, note in batch.notes.items()
        if batch.written.get((OutboxEvent, event_id), _NOTHING) is not None
    ]
    made.log = [
        (entry.job_id, entry.number, sortable(entry.at), change, entry.event)
        for entry, change in filter(None, batch.log.values())
    ]
    made.audit = [
        (*place, line.vault_id, sortable(line.at), line.text) for place, line in batch.audit.items()
    ]
    for job_id, lease in batch.leases.items():
        if lease is None:
            made.ended.append(job_id)
        else:
            made.begun.append((lease.job_id, lease.owner, lease.fence))
    for message_id, left in batch.messages.items():
        if left is not None:
            message, change, position = left
            made.messages.append((message_id, message.job_id, change, position, message.event))
    made.taken, made.cleared = list(batch.taken), list(batch.cleared)
    return made
