"""What a failed-over disk lost and contradicts, judged by the ledger. Pure.

Lineages. A *lineage* is what one authoritative copy wrote under one epoch. The lab says which
epochs were authoritative before the failover that is judged: `epochs`, the newest of them being the
source's at the moment of the failover. Then
* records of epochs above the newest belong to the copy that took over: they are no loss and no
  fault; the first of them marks where the old lineages end on this disk;
* an entry is lost when it was acknowledged under one of `epochs`, its number is above what the disk
  kept of the old lineages, and no later one of `epochs` had begun at or below its number (then it
  was lost in an earlier failover, and counted there);
* a record of any other epoch was written by a copy that was not authoritative: a fault.
Loss goes by number, never by time.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from vmm_simulator.guest.frames import LedgerEntry
from vmm_simulator.guest.records import Record

FAULTS_MAX: Final = 64
_BEGIN: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class LossReport:
    """What the ledger says of a disk; `kept` is the newest record of the old lineages on it."""

    kept: int
    lost: tuple[int, ...]
    newest_record_age_s: float | None
    faults: tuple[str, ...]


def judge_loss(
    records: Mapping[int, Record],
    entries: Sequence[LedgerEntry],
    epochs: Collection[int],
    at: datetime | None,
) -> LossReport:
    """Return what is lost, how old the newest kept record was at `at`, and contradictions."""
    if not epochs:
        raise ValueError("at least one epoch was authoritative before the failover")
    newest_epoch = max(epochs)
    top = max(records, default=0)
    later = [entry.number for entry in entries if entry.epoch > newest_epoch]
    later += [record.number for record in records.values() if record.epoch > newest_epoch]
    kept = min([top, *(number - 1 for number in later)])
    begins = _begins(records, entries, epochs)
    lost = {
        entry.number
        for entry in entries
        if entry.epoch in epochs
        and entry.number > kept
        and not any(
            epoch > entry.epoch and begin <= entry.number for epoch, begin in begins.items()
        )
    }
    return LossReport(
        kept=kept,
        lost=tuple(sorted(lost)),
        newest_record_age_s=_age(records, entries, epochs, kept, at),
        faults=tuple(_contradictions(records, entries, epochs))[:FAULTS_MAX],
    )


def _begins(
    records: Mapping[int, Record], entries: Sequence[LedgerEntry], epochs: Collection[int]
) -> Mapping[int, int]:
    """Return the first known number of each authoritative epoch."""
    begins: dict[int, int] = {}
    known = [(entry.epoch, entry.number) for entry in entries]
    known += [(record.epoch, record.number) for record in records.values()]
    for epoch, number in known:
        if epoch in epochs:
            begins[epoch] = min(number, begins.get(epoch, number))
    return begins


def _age(
    records: Mapping[int, Record],
    entries: Sequence[LedgerEntry],
    epochs: Collection[int],
    kept: int,
    at: datetime | None,
) -> float | None:
    if at is None or kept == 0:
        return None
    if kept in records:
        written = records[kept].time_microseconds
    else:
        # The ring has overwritten it; the ledger still knows when it was written.
        candidates = [one for one in entries if one.number == kept and one.epoch in epochs]
        if not candidates:
            return None
        written = max(candidates, key=lambda entry: entry.epoch).time_microseconds
    return (at - (_BEGIN + timedelta(microseconds=written))).total_seconds()


def _contradictions(
    records: Mapping[int, Record], entries: Sequence[LedgerEntry], epochs: Collection[int]
) -> Sequence[str]:
    faults = []
    hashes: dict[tuple[int, int], set[str]] = {}
    for entry in entries:
        hashes.setdefault((entry.epoch, entry.number), set()).add(entry.hash)
    for (epoch, number), found in sorted(hashes.items()):
        if len(found) > 1:
            faults.append(f"two guests wrote record {number} under epoch {epoch}")
    for number, record in sorted(records.items()):
        acknowledged = hashes.get((record.epoch, number))
        if acknowledged is not None and record.hash not in acknowledged:
            faults.append(f"record {number} is not the one that the ledger acknowledged")
        if record.epoch not in epochs and record.epoch < max(epochs):
            faults.append(
                f"record {number} was written under epoch {record.epoch}, "
                "when that copy was not authoritative"
            )
    return faults
