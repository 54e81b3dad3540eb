"""Rows of what a batch writes: the columns that a record is found by, its place and its text."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from pydantic_core import to_json

from service_hub.domain.job_document import job_document
from service_hub.domain.jobs import Job
from service_hub.domain.records import OutboxEvent, ProviderStream, Record
from service_hub.ports.changes import NumberedEvent, Stored
from service_hub.store.batch_facts import Present


class Written(NamedTuple):
    """A record as a batch leaves it; `searched` are its columns, `document` its text, if known."""

    record: Record | NumberedEvent
    version: int
    created: int
    change: int
    searched: tuple[str, ...] | None = None
    document: str | None = None


def stored_of(written: Iterable[Written | None]) -> Stored:
    """Return what the channel need not read back; nothing that is gone again."""
    there = [each.record for each in written if each is not None]
    return Stored(
        [each for each in there if isinstance(each, ProviderStream)],
        [each for each in there if isinstance(each, NumberedEvent)],
    )


def is_found_as_before(written: Written, before: Present) -> bool:
    """Tell whether no column but version and change differs from those of the stored row."""
    return written.searched == before.searched and written.created == before.created


def values_of(written: Written) -> tuple[Any, ...]:
    """Return the whole row in the order of `written_columns`, without its id."""
    record, version, created, change, searched, _ = written
    if isinstance(record, NumberedEvent):
        columns: tuple[Any, ...] = (record.event.provider_id.lower(), record.seq)
    elif isinstance(record, OutboxEvent):
        columns = (*(searched or ()), record.seq)
    else:
        columns = searched or ()
    return (*columns, version, created, change, document_of(written))


def document_of(written: Written) -> str:
    """Return the record's text."""
    record = written.record
    if written.document is not None:
        return written.document
    if isinstance(record, NumberedEvent):
        return _event_document(record)
    return job_document(record) if isinstance(record, Job) else record.model_dump_json()


def _event_document(numbered: NumberedEvent) -> str:
    """Return what OutboxEvent would write of itself: this is the way out of every command."""
    event = numbered.event
    return to_json(
        {
            "id": event.event_id,
            "vault_id": event.vault_id,
            "provider_id": event.provider_id,
            "stream": numbered.stream,
            "seq": numbered.seq,
            "type": event.type.value,
            "issued_at": event.issued_at,
            "expires_at": event.expires_at,
            "body": event.body,
            "receipt": None,
            "unverifiable_reports": (),
        }
    ).decode()
