"""The disks of the lab's machines: sparse copies of templates, each machine with its own seed.

`machine_plans()` is what a machine of the lab has: disk 0 'system' with about 100 MB of real files,
disk 1 'data', smaller. A user's own raw image becomes an additional disk that no guest writes.
"""

import os
import sys
import sysconfig
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from blake3 import blake3

from lab.disk_images import copy_sparse, image_digest
from lab.disk_templates import MEBIBYTE, DiskError, DiskPlan, ensure_template, run_tool
from vmm_simulator.guest.filesystem import FileSystemError, read_superblock
from vmm_simulator.guest.layout import GuestDisk, find_layout
from vmm_simulator.guest.manifest import ManifestError, encode_manifest
from vmm_simulator.guest.records import SEED_BYTES

__all__ = [
    "DiskError",
    "DiskPlan",
    "PreparedDisk",
    "bare_plan",
    "machine_plans",
    "prepare_machine_disks",
    "prepare_user_disk",
]

SYSTEM_FILES_BYTES_MAX: Final = 100 * MEBIBYTE
DATA_FILES_BYTES_MAX: Final = 16 * MEBIBYTE
RECORD_SLOTS: Final = 4096
REWRITE_FILES: Final = 4
REWRITE_FILE_BYTES: Final = 512 << 10
BARE_RECORD_SLOTS: Final = 64
BARE_FILE_BYTES: Final = 16 << 10
SECTOR_BYTES: Final = 512

# What a virtual disk begins (or ends) with that is not raw: by the formats' own specifications.
_FORMATS: Final = {
    b"QFI\xfb": "qcow2",
    b"vhdxfile": "VHDX",
    b"conectix": "VHD",
    b"KDMV": "VMDK",
    b"# Disk DescriptorFile": "VMDK",
}


@dataclass(frozen=True, slots=True)
class PreparedDisk:
    """A disk of a machine, ready; `digest` is of the whole image for a disk no guest writes."""

    path: Path
    size_bytes: int
    file_system_uuid: str | None
    digest: str | None


def machine_plans() -> tuple[DiskPlan, DiskPlan]:
    """Return what the lab's machines have: the Python installation as files on two disks."""
    library = Path(sysconfig.get_path("stdlib"))
    packages = Path(sysconfig.get_path("purelib"))
    system = DiskPlan(
        name="system",
        sources=(library, packages, Path(sys.base_prefix, "lib")),
        files_bytes_max=SYSTEM_FILES_BYTES_MAX,
        record_slots=RECORD_SLOTS,
        rewrite_files=REWRITE_FILES,
        rewrite_file_bytes=REWRITE_FILE_BYTES,
        free_bytes=32 * MEBIBYTE,
    )
    data = replace(
        system,
        name="data",
        sources=(packages, library),
        files_bytes_max=DATA_FILES_BYTES_MAX,
        free_bytes=16 * MEBIBYTE,
    )
    return system, data


def bare_plan(name: str) -> DiskPlan:
    """Return a disk with the guest's own few files and no others."""
    return DiskPlan(
        name=name,
        sources=(),
        files_bytes_max=0,
        record_slots=BARE_RECORD_SLOTS,
        rewrite_files=1,
        rewrite_file_bytes=BARE_FILE_BYTES,
        free_bytes=0,
    )


def prepare_machine_disks(
    paths: Sequence[Path], plans: Sequence[DiskPlan], seed: bytes, cache: Path
) -> Sequence[PreparedDisk]:
    """Make the disks of one machine at `paths`: copies of templates with this seed and own UUIDs.

    The seed (16 bytes) must be the machine's alone: its records, rewrites and UUIDs follow from it.
    """
    if len(seed) != SEED_BYTES:
        raise DiskError(f"a machine's seed has {SEED_BYTES} bytes, not {len(seed)}")
    numbered = list(enumerate(zip(paths, plans, strict=True)))

    def make(item: tuple[int, tuple[Path, DiskPlan]]) -> str:
        index, (path, plan) = item
        template = ensure_template(plan, index, len(numbered), cache)
        path.parent.mkdir(parents=True, exist_ok=True)
        copy_sparse(template, path)
        file_system_uuid = _uuid_of(seed, index)
        run_tool("tune2fs", "-U", file_system_uuid, str(path))
        return file_system_uuid

    with ThreadPoolExecutor(max_workers=max(len(numbered), 1)) as pool:
        uuids = list(pool.map(make, numbered))
        list(pool.map(lambda disk: _write_manifest(disk, seed), _read_disks(paths)))
    return [
        PreparedDisk(path, path.stat().st_size, file_system_uuid, None)
        for path, file_system_uuid in zip(paths, uuids, strict=True)
    ]


def prepare_user_disk(image: Path, target: Path) -> PreparedDisk:
    """Copy the user's own raw image to `target`; DiskError says what it is if it is not raw."""
    try:
        with image.open("rb") as opened:
            head = opened.read(SECTOR_BYTES)
            size = os.fstat(opened.fileno()).st_size
            superblock = read_superblock(opened.fileno())
        regular = image.is_file()
    except OSError as error:
        raise DiskError(f"DISK={image}: {error.strerror}; give a raw image you may read") from None
    if not regular:
        raise DiskError(f"DISK={image} is no regular file: copy the device into an image first")
    for beginning, name in _FORMATS.items():
        if head.startswith(beginning):
            raise DiskError(
                f"DISK={image} is a {name} image: convert it with "
                f"`qemu-img convert -O raw {image.name} disk.raw` (Debian package qemu-utils)"
            )
    if size == 0 or size % SECTOR_BYTES:
        raise DiskError(
            f"DISK={image} has {size} bytes; a raw disk is a whole number of "
            f"{SECTOR_BYTES}-byte sectors"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    copy_sparse(image, target)
    found = None if superblock is None else superblock.uuid
    return PreparedDisk(target, size, found, image_digest(target))


def _uuid_of(seed: bytes, index: int) -> str:
    digest = blake3(b"site-recovery-uuid" + seed + bytes([index])).digest(16)
    return str(uuid.UUID(bytes=digest, version=4))


def _read_disks(paths: Sequence[Path]) -> Sequence[GuestDisk]:
    images = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in paths]
    try:
        return find_layout(paths, images).disks
    except (FileSystemError, ManifestError) as error:
        raise DiskError(f"the disks just made cannot be read: {error}") from None
    finally:
        for image in images:
            os.close(image)


def _write_manifest(disk: GuestDisk, seed: bytes) -> None:
    """Give a copy its own manifest, in place: no metadata of the file system changes."""
    manifest = replace(
        disk.manifest, seed=seed, static_blake3=image_digest(disk.path, disk.written_ranges)
    )
    data = encode_manifest(manifest)
    with disk.path.open("r+b") as image:
        for extent in disk.manifest_file.extents:
            part = data[extent.file_offset : extent.file_offset + extent.length]
            os.pwrite(image.fileno(), part, extent.image_offset)
