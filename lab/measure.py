"""Measures a failed-over copy while its start is held: bytes, records, files, file system."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from lab.held_start import HeldJob
from lab.ledger_reading import read_ledger
from lab.report import LOSSLESS, OperationFigures, OperationName
from lab.situation import Situation
from lab.verification import VerificationResult, compare_images, red_reasons, verify_machine
from service_shell.errors import ProgramError
from vmm_simulator.guest.frames import LedgerEntry

_BEGIN: Final = datetime(1970, 1, 1, tzinfo=UTC)
REASONS_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class CopyInspection:
    """What a copy's disks showed before its guest began to write."""

    result: VerificationResult
    bytes_equal: bool | None = None


def image_paths(machine: dict[str, Any]) -> list[Path]:
    """Return a machine's images in the order of its disks."""
    paths = [disk["path"] for disk in machine["disks"]]
    if not all(paths):
        raise ProgramError(f"the site does not say where the disks of {machine['name']} are")
    return [Path(path) for path in paths]


async def inspect_copy(
    situation: Situation,
    name: str,
    images: Sequence[Path],
    *,
    at: datetime | None,
    source: Sequence[Path] | None = None,
) -> CopyInspection:
    """Return what the images show; with `source`, whether both sides hold the same bytes.

    `at` is when the source stopped writing; None: when its newest record was acknowledged.
    """
    entries = ledger_of(situation, situation.machine_id(name))
    moment = at or newest_acknowledged(entries)
    own = situation.builder.disks.own.get(name)
    digests = {} if own is None or own.digest is None else {len(images) - 1: own.digest}
    epochs = situation.epochs[name]

    def look() -> CopyInspection:
        equal = None if source is None else compare_images(source, images)
        result = verify_machine(
            images, entries, authoritative_epochs=epochs, at=moment, user_disk_digests=digests
        )
        return CopyInspection(result, equal)

    return await asyncio.to_thread(look)


def ledger_of(situation: Situation, hyperv_id: str) -> Sequence[LedgerEntry]:
    """Return what was acknowledged to the guests of a machine so far."""
    path = situation.builder.layout.ledger / "records.jsonl"
    return read_ledger(path).get(hyperv_id, ())


def newest_acknowledged(entries: Sequence[LedgerEntry]) -> datetime | None:
    """Return when the newest acknowledged record was written."""
    if not entries:
        return None
    newest = max(entry.time_microseconds for entry in entries)
    return _BEGIN + timedelta(microseconds=newest)


def note_figures(
    situation: Situation,
    operation: OperationName,
    name: str,
    held: HeldJob[CopyInspection],
    *,
    counts_loss: bool = True,
) -> None:
    """Add an operation's figures to the report, and every reason why it is red."""
    inspection = held.inspection
    result = inspection.result
    situation.figures.append(
        OperationFigures(
            operation=operation,
            vm=name,
            seconds=round(held.seconds, 3),
            records_lost=result.records_lost if counts_loss else None,
            newest_record_age_s=_rounded(result.newest_record_age_s),
            bytes_equal=inspection.bytes_equal,
            filesystem_clean=result.file_system_clean,
            job=held.job.name,
        )
    )
    reasons = red_reasons(result, loss_allowed=operation not in LOSSLESS)
    for reason in reasons[:REASONS_SHOWN]:
        situation.find(operation, name, reason)
    if len(reasons) > REASONS_SHOWN:
        situation.find(operation, name, f"and {len(reasons) - REASONS_SHOWN} faults more")
    if result.unchecked:
        situation.console.say(f"{name}: not checked: {result.unchecked}")
    situation.console.say(f"{name}: {_summary(inspection, counts_loss=counts_loss)}")


def _summary(inspection: CopyInspection, *, counts_loss: bool) -> str:
    result = inspection.result
    parts = []
    if inspection.bytes_equal is not None:
        parts.append("bytes equal on both sides" if inspection.bytes_equal else "BYTES DIFFER")
    if result.kept_record is not None:
        parts.append(f"newest record {result.kept_record}")
    if result.records_lost and counts_loss:
        first, last = result.lost_numbers[0], result.lost_numbers[-1]
        parts.append(f"{result.records_lost} acknowledged records lost ({first} to {last})")
    elif result.records_lost == 0 and counts_loss:
        parts.append("no acknowledged record lost")
    if result.file_system_clean is not None:
        parts.append("file system clean" if result.file_system_clean else "FILE SYSTEM DAMAGED")
    return ", ".join(parts) or "nothing could be checked"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
