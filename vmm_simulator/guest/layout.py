"""Where a guest's records and rewrites lie in its images: found by reading the images.

The guest, its host (to check the guest's proof) and the lab (to verify a failed-over copy) each
read it for themselves. Disks without a manifest are not the guest's own: it never writes there.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from vmm_simulator.guest.filesystem import (
    SUPERBLOCK_BYTES,
    SUPERBLOCK_OFFSET,
    FileExtents,
    FileSystemError,
    Superblock,
    ToolMissingError,
    find_files,
    read_superblock,
)
from vmm_simulator.guest.manifest import (
    MANIFEST_BYTES,
    MANIFEST_PATH,
    Manifest,
    ManifestError,
    check_manifests,
    parse_manifest,
)
from vmm_simulator.guest.records import (
    RECORD_BYTES,
    Record,
    RecordDamagedError,
    RecordRing,
    RecordWindow,
    parse_record,
    read_window,
)
from vmm_simulator.guest.schedule import BLOCK_BYTES, RewriteSchedule, RewriteTarget


@dataclass(frozen=True, slots=True)
class GuestDisk:
    """One of the guest's own disks; `index` counts all disks of the machine."""

    index: int
    path: Path
    superblock: Superblock
    manifest: Manifest
    manifest_file: FileExtents
    record_file: FileExtents
    rewrite_files: tuple[FileExtents, ...]

    @property
    def written_ranges(self) -> Sequence[tuple[int, int]]:
        """Offset and length of all that may differ from the prepared image, rising."""
        files = (self.manifest_file, self.record_file, *self.rewrite_files)
        return sorted((e.image_offset, e.length) for file in files for e in file.extents)


@dataclass(frozen=True, slots=True)
class ImagePlace:
    """A place in an image of the machine."""

    disk_index: int
    offset: int


@dataclass(frozen=True, slots=True)
class GuestLayout:
    """All of a guest's own disks together."""

    disks: tuple[GuestDisk, ...]
    ring: RecordRing
    schedule: RewriteSchedule

    @property
    def seed(self) -> bytes:
        """The seed of the guest's records and rewrites."""
        return self.disks[0].manifest.seed

    @property
    def file_system_uuid(self) -> str:
        """The UUID of the first file system."""
        return self.disks[0].superblock.uuid

    def record_place(self, number: int) -> ImagePlace:
        """Return where record `number` goes."""
        place = self.ring.place(number)
        disk = self.disks[place.disk]
        offset = disk.record_file.image_offset(place.slot * RECORD_BYTES, RECORD_BYTES)
        return ImagePlace(disk.index, offset)

    def rewrite_place(self, number: int) -> ImagePlace:
        """Return where rewrite `number` goes."""
        place = self.schedule.place(number)
        target = self.schedule.targets[place.target]
        disk = self.disks[target.disk]
        file = next(file for file in disk.rewrite_files if file.path == target.path)
        return ImagePlace(disk.index, file.image_offset(place.block * BLOCK_BYTES, BLOCK_BYTES))

    def read_records(self, images: Sequence[int]) -> RecordWindow:
        """Return what the record files hold; `images` are open, one per disk of the machine."""
        files = [
            disk.record_file.read(images[disk.index], disk.manifest.record_bytes)
            for disk in self.disks
        ]
        return read_window(self.ring, files, self.seed)

    def read_record(self, images: Sequence[int], number: int) -> bytes:
        """Return the 512 bytes in the slot of record `number`; nothing for number 0."""
        if number == 0:
            return b""
        place = self.record_place(number)
        return os.pread(images[place.disk_index], RECORD_BYTES, place.offset)

    def proof(self, images: Sequence[int], nonce: str, number: int) -> tuple[str, Record | None]:
        """Return blake3(nonce + superblock + last record) over the images as they are now.

        The record that was found in the slot comes with it, so that a caller can see that it is
        the one meant.
        """
        superblock = os.pread(images[self.disks[0].index], SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET)
        block = self.read_record(images, number)
        try:
            record = parse_record(block) if block else None
        except RecordDamagedError:
            record = None
        return blake3(nonce.encode() + superblock + block).hexdigest(), record


def find_layout(paths: Sequence[Path], images: Sequence[int]) -> GuestLayout:
    """Return where the guest of these images works; FileSystemError or ManifestError says why not.

    `images` are the same files, open for reading.
    """
    own: list[GuestDisk] = []
    remarks: list[str] = []
    for index, (path, image) in enumerate(zip(paths, images, strict=True)):
        try:
            disk = _read_disk(index, path, image)
        except ToolMissingError:
            raise
        except (FileSystemError, ManifestError) as error:
            remarks.append(f"{path}: {error}")
            continue
        if disk is None:
            remarks.append(f"{path}: not one of the guest's own disks")
        elif not own or disk.manifest.seed == own[0].manifest.seed:
            own.append(disk)
    try:
        check_manifests([disk.manifest for disk in own])
        return GuestLayout(
            tuple(own),
            RecordRing(len(own), own[0].manifest.record_slots),
            RewriteSchedule(
                own[0].manifest.seed,
                [
                    RewriteTarget(position, file.path, file.size_bytes // BLOCK_BYTES)
                    for position, disk in enumerate(own)
                    for file in disk.manifest.rewrites
                ],
            ),
        )
    except ValueError as error:
        raise ManifestError("; ".join((str(error), *remarks))) from None


def _read_disk(index: int, path: Path, image: int) -> GuestDisk | None:
    superblock = read_superblock(image)
    if superblock is None:
        return None
    manifest_file = find_files(path, superblock, [MANIFEST_PATH])[MANIFEST_PATH]
    if manifest_file is None:
        return None
    if superblock.block_bytes != BLOCK_BYTES:
        raise FileSystemError(f"blocks of {superblock.block_bytes} bytes: make it with -b 4096")
    manifest = parse_manifest(manifest_file.read(image, MANIFEST_BYTES))
    wanted = {manifest.record_path: manifest.record_bytes} | {
        file.path: file.size_bytes for file in manifest.rewrites
    }
    found = find_files(path, superblock, list(wanted))
    files: list[FileExtents] = []
    for name, size in wanted.items():
        file = found[name]
        if file is None or file.length != size:
            raise FileSystemError(f"{name} is not there with {size} bytes")
        files.append(file)
    if len(files) != len(manifest.rewrites) + 1:
        raise ManifestError("the record file is also in the rewrite list")
    disk = GuestDisk(index, path, superblock, manifest, manifest_file, files[0], tuple(files[1:]))
    _check_no_overlap(disk.written_ranges)
    return disk


def _check_no_overlap(ranges: Sequence[tuple[int, int]]) -> None:
    end = SUPERBLOCK_OFFSET + SUPERBLOCK_BYTES
    for offset, length in ranges:
        if offset < end:
            raise FileSystemError("two files of the manifest share a block: the image is damaged")
        end = offset + length
