"""What must be known of the database before a batch of changes can be decided on."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from service_hub.domain.records import ProviderStream, Record
from service_hub.ports.changes import Change

Key = tuple[type[Record], str]


class Present(NamedTuple):
    """What is there of one record."""

    version: int
    created: int
    vault_id: str = ""
    searched: tuple[str, ...] | None = None
    """The columns it is found by; None where they are not compared."""


class Waiting(NamedTuple):
    """An event that is not acknowledged; `received`: its receipt came before an earlier one's."""

    event_id: str
    received: bool


@dataclass(slots=True)
class Facts:
    """What the database says of all that a batch names, read in the transaction that writes it."""

    number: int = 0
    records: dict[Key, Present] = field(default_factory=dict)
    streams: dict[str, ProviderStream] = field(default_factory=dict)
    waiting: dict[tuple[str, int], Waiting] = field(default_factory=dict)
    fences: dict[str, int] = field(default_factory=dict)

    def forget(self) -> None:
        """Know nothing any more."""
        for each in (self.records, self.streams, self.waiting, self.fences):
            each.clear()

    def known_of(self, asked: "Questions") -> "tuple[Facts, Questions]":
        """Return what is known of what is asked, and what must still be read."""
        found, missing = Facts(self.number), Questions(receipts=asked.receipts)
        for kind, ids in asked.records.items():
            unknown = set()
            for record_id in ids:
                present = self.records.get((kind, record_id))
                if present is None:
                    unknown.add(record_id)
                else:
                    found.records[kind, record_id] = present
            if unknown:
                missing.records[kind] = unknown
        for name in asked.streams:
            if name in self.streams:
                found.streams[name] = self.streams[name]
            else:
                missing.streams.add(name)
        for job_id in asked.jobs:
            if job_id in self.fences:
                found.fences[job_id] = self.fences[job_id]
            else:
                missing.jobs.add(job_id)
        return found, missing


@dataclass(slots=True)
class Questions:
    """What must be read before a batch can be decided on."""

    records: dict[type[Record], set[str]] = field(default_factory=dict)
    streams: set[str] = field(default_factory=set)
    receipts: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Of a provider: the lowest and the highest number that it has told."""

    jobs: set[str] = field(default_factory=set)


def questions(changes: Iterable[Change]) -> Questions:
    """Return what the batch names."""
    asked = Questions()
    for change in changes:
        for save in change.saves:
            asked.records.setdefault(type(save.record), set()).add(save.record.id)
        for delete in change.deletes:
            asked.records.setdefault(delete.kind, set()).add(delete.record_id)
        asked.streams.update(event.provider_id for event in change.events)
        for receipt in change.receipts:
            asked.streams.add(receipt.provider_id)
            low, high = asked.receipts.get(receipt.provider_id, (receipt.seq, receipt.seq))
            asked.receipts[receipt.provider_id] = (min(low, receipt.seq), max(high, receipt.seq))
        asked.jobs.update(guard.job_id for guard in change.guards)
        asked.jobs.update(lease.job_id for lease in change.begins)
        asked.jobs.update(message.job_id for message in change.messages)
    if asked.streams:
        asked.records.setdefault(ProviderStream, set()).update(asked.streams)
    return asked
