"""Whether the disks of a failed-over machine are what they must be, found by reading them alone.

The images must not be written while they are read: a machine that is off, or held before its start.
Nothing is mounted and no privilege is needed. What could not be checked because e2fsprogs is
missing is None, never "ok".
"""

import os
import subprocess
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from blake3 import blake3

from lab.disk_images import image_digest, image_digests
from lab.verification_loss import judge_loss
from service_shell.errors import ProgramError
from vmm_simulator.guest.filesystem import (
    FileSystemError,
    ToolMissingError,
    find_tool,
    read_file,
    read_superblock,
    require_tool,
)
from vmm_simulator.guest.frames import LedgerEntry
from vmm_simulator.guest.layout import GuestDisk, GuestLayout, find_layout
from vmm_simulator.guest.manifest import ManifestError
from vmm_simulator.guest.records import RecordWindow, read_window
from vmm_simulator.guest.schedule import original_file

CHECK_SECONDS_MAX: Final = 120.0
E2FSCK_CLEAN: Final = 0


@dataclass(frozen=True, slots=True)
class FileHash:
    """A rewritten file: what follows from the seed and the newest record, and what is there."""

    expected: str
    in_flight: str | None
    found: str | None

    @property
    def right(self) -> bool:
        """Whether the file holds what it must, the one rewrite in flight allowed."""
        return self.found is not None and self.found in (self.expected, self.in_flight)


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """What the disks showed; `unchecked` names why there are no figures (a tool is missing).

    `kept_record` is the newest record of the lineages before the failover, `top_record` the newest
    of all. `file_hashes` is keyed by "disk:path". `file_systems_clean` has one figure per disk,
    None for a disk without an ext file system or where e2fsck is missing; `file_system_clean`
    speaks for the disks that the lab made.
    """

    unchecked: str | None = None
    top_record: int | None = None
    kept_record: int | None = None
    records_lost: int | None = None
    lost_numbers: tuple[int, ...] = ()
    newest_record_age_s: float | None = None
    record_faults: tuple[str, ...] = ()
    ledger_faults: tuple[str, ...] = ()
    disk_faults: tuple[str, ...] = ()
    file_hashes: Mapping[str, FileHash] = field(default_factory=dict)
    file_systems_clean: tuple[bool | None, ...] = ()
    file_system_clean: bool | None = None


def verify_machine(
    images: Sequence[Path],
    entries: Sequence[LedgerEntry],
    *,
    authoritative_epochs: Collection[int],
    at: datetime | None = None,
    user_disk_digests: Mapping[int, str] | None = None,
) -> VerificationResult:
    """Return what the machine's images show, judged by the ledger entries of this machine.

    `authoritative_epochs`: see lab.verification_loss. `at`: the moment that the age is told of.
    `user_disk_digests`: by disk index, of the disks that no guest writes (PreparedDisk.digest).
    """
    clean = _check_file_systems(images)
    opened: list[int] = []
    try:
        opened += [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in images]
        layout = find_layout(images, opened)
        window = _read_back(layout)
        files = _check_files(layout, window.top_number)
        faults = [*_check_static(layout), *_check_user_disks(images, user_disk_digests or {})]
    except ToolMissingError as error:
        return VerificationResult(unchecked=str(error), file_systems_clean=clean)
    except (OSError, FileSystemError, ManifestError) as error:
        return VerificationResult(disk_faults=(str(error),), file_systems_clean=clean)
    finally:
        for image in opened:
            os.close(image)
    loss = judge_loss(window.records, entries, authoritative_epochs, at)
    return VerificationResult(
        top_record=window.top_number,
        kept_record=loss.kept,
        records_lost=len(loss.lost),
        lost_numbers=loss.lost,
        newest_record_age_s=loss.newest_record_age_s,
        record_faults=tuple(f"{fault.kind}: {fault.detail}" for fault in window.faults),
        ledger_faults=loss.faults,
        disk_faults=tuple(faults),
        file_hashes=files,
        file_systems_clean=clean,
        file_system_clean=_all_clean([clean[disk.index] for disk in layout.disks]),
    )


def red_reasons(result: VerificationResult, *, loss_allowed: bool) -> Sequence[str]:
    """Return why a report with this result is red; nothing when it is not.

    `loss_allowed`: an unplanned failover may lose the records after the last applied cut; a
    planned one may lose none. What was not checked is no reason: the report shows it as null.
    """
    reasons = [*result.record_faults, *result.ledger_faults, *result.disk_faults]
    reasons += [
        f"{name} does not hold what follows from record {result.top_record}"
        for name, file in sorted(result.file_hashes.items())
        if not file.right
    ]
    if result.file_system_clean is False:
        reasons.append("e2fsck -fn found errors in a file system")
    if result.records_lost and not loss_allowed:
        first, last = result.lost_numbers[0], result.lost_numbers[-1]
        reasons.append(f"{result.records_lost} acknowledged records are lost ({first} to {last})")
    return reasons


def compare_images(one: Sequence[Path], other: Sequence[Path]) -> bool:
    """Return whether two machines' disks hold the same bytes, by a blake3 per disk."""
    if len(one) != len(other):
        return False
    if [path.stat().st_size for path in one] != [path.stat().st_size for path in other]:
        return False
    digests = image_digests([*one, *other])
    return digests[: len(one)] == digests[len(one) :]


def _read_back(layout: GuestLayout) -> RecordWindow:
    """Return the records as `debugfs -R 'cat …'` gives them: through the file system's own tree."""
    files = [
        read_file(disk.path, disk.manifest.record_path, disk.manifest.record_bytes)
        for disk in layout.disks
    ]
    return read_window(layout.ring, files, layout.seed)


def _check_files(layout: GuestLayout, top: int) -> Mapping[str, FileHash]:
    checked = {}
    for file in layout.schedule.expected_files(top):
        disk = layout.disks[file.target.disk]
        try:
            found = _digest(read_file(disk.path, file.target.path, len(file.expected)))
        except ToolMissingError:
            raise
        except FileSystemError:
            found = None  # Not right: reported with the file's name.
        checked[f"{disk.index}:{file.target.path}"] = FileHash(
            expected=_digest(file.expected),
            in_flight=None if file.in_flight is None else _digest(file.in_flight),
            found=found,
        )
    return checked


def _check_static(layout: GuestLayout) -> Sequence[str]:
    """Return a fault for each disk that differs where no guest writes, or whose list is wrong."""

    def check(disk: GuestDisk) -> Sequence[str]:
        faults = [
            f"disk {disk.index}: the manifest's original hash of {file.path} is wrong"
            for file, place in zip(disk.manifest.rewrites, disk.rewrite_files, strict=True)
            if file.original_blake3
            != _digest(original_file(file.path, place.length // disk.superblock.block_bytes))
        ]
        digest = disk.manifest.static_blake3
        if digest is not None and image_digest(disk.path, disk.written_ranges) != digest:
            faults.append(f"disk {disk.index} differs where its guest never writes")
        return faults

    with ThreadPoolExecutor(max_workers=len(layout.disks)) as pool:
        return [fault for faults in pool.map(check, layout.disks) for fault in faults]


def _check_user_disks(images: Sequence[Path], digests: Mapping[int, str]) -> Sequence[str]:
    return [
        f"disk {index} is not the image that was protected"
        for index, digest in sorted(digests.items())
        if image_digest(images[index]) != digest
    ]


def _check_file_systems(images: Sequence[Path]) -> tuple[bool | None, ...]:
    with ThreadPoolExecutor(max_workers=max(len(images), 1)) as pool:
        return tuple(pool.map(_file_system_clean, images))


def _file_system_clean(path: Path) -> bool | None:
    """Return what `e2fsck -fn` says: None where it is missing or there is no ext file system."""
    try:
        with path.open("rb") as image:
            if read_superblock(image.fileno()) is None:
                return None
    except OSError:
        return None  # Whoever opens the image next says why; there is nothing to check here.
    if find_tool("e2fsck") is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 -- a tool found by name, our own words
            [require_tool("e2fsck"), "-fn", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=CHECK_SECONDS_MAX,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        raise ProgramError(
            f"e2fsck -fn {path} did not end within {CHECK_SECONDS_MAX:.0f} s; "
            "use smaller disks or a faster machine"
        ) from None
    return done.returncode == E2FSCK_CLEAN


def _all_clean(figures: Sequence[bool | None]) -> bool | None:
    if False in figures:
        return False
    return None if None in figures or not figures else True


def _digest(content: bytes) -> str:
    return blake3(content).hexdigest()
