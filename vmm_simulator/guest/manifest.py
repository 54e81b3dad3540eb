"""The manifest in each disk of a guest: what is needed to work on it and to verify it.

It stands in the file system itself, so that a failed-over disk can be judged with nothing else at
hand. Pure: bytes in, values out; every length in a manifest is foreign and has a limit.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from vmm_simulator.guest.records import (
    HASH_BYTES,
    RECORD_BYTES,
    RING_DISKS_MAX,
    SEED_BYTES,
    SLOTS_PER_DISK_MAX,
)
from vmm_simulator.guest.schedule import BLOCK_BYTES, REWRITE_BLOCKS_MAX

FORMAT: Final = 1
MANIFEST_PATH: Final = "/site-recovery/manifest.json"
# Fixed, so that a copy of a template gets its own manifest without touching the file system.
MANIFEST_BYTES: Final = 16384
REWRITE_FILES_MAX: Final = 64
PATH_LENGTH_MAX: Final = 200
SLOTS_PER_BLOCK: Final = BLOCK_BYTES // RECORD_BYTES
# Also what may be handed to debugfs as a word of a command: no blank, no quote, no line end.
_PATH: Final = re.compile(r"(/[A-Za-z0-9_][A-Za-z0-9._-]*)+", re.ASCII)


class ManifestError(ValueError):
    """The manifest of a disk cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class RewriteFile:
    """A file that the guest rewrites in place; `original_blake3` is before the first rewrite."""

    path: str
    size_bytes: int
    original_blake3: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What one disk says of itself.

    `disk` counts the guest's own disks from 0; `disks` is how many there are. `static_blake3` is
    the digest of the image without what the guest writes and without this manifest, or None.
    """

    seed: bytes
    disk: int
    disks: int
    record_path: str
    record_slots: int
    rewrites: tuple[RewriteFile, ...]
    static_blake3: str | None

    @property
    def record_bytes(self) -> int:
        """The size of the record file."""
        return self.record_slots * RECORD_BYTES


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest padded to its fixed size."""
    document = {
        "format": FORMAT,
        "seed": manifest.seed.hex(),
        "disk": manifest.disk,
        "disks": manifest.disks,
        "records": {"path": manifest.record_path, "slots": manifest.record_slots},
        "rewrites": [
            {
                "path": file.path,
                "size_bytes": file.size_bytes,
                "original_blake3": file.original_blake3,
            }
            for file in manifest.rewrites
        ],
        "static_blake3": manifest.static_blake3,
    }
    text = json.dumps(document, indent=1).encode()
    if len(text) >= MANIFEST_BYTES:
        raise ManifestError(f"the manifest needs {len(text)} bytes, {MANIFEST_BYTES} are there")
    return text.ljust(MANIFEST_BYTES - 1) + b"\n"


def parse_manifest(data: bytes) -> Manifest:
    """Return the manifest; ManifestError says what is wrong with it."""
    if len(data) > MANIFEST_BYTES:
        raise ManifestError(f"{MANIFEST_PATH} has more than {MANIFEST_BYTES} bytes")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{MANIFEST_PATH} is not JSON: {error}") from None
    fields = _object(document, "the manifest")
    if fields.get("format") != FORMAT:
        raise ManifestError(f"{MANIFEST_PATH} has format {fields.get('format')!r}, not {FORMAT}")
    records = _object(fields.get("records"), "records")
    disks = _integer(fields, "disks", 1, RING_DISKS_MAX)
    slots = _integer(records, "slots", SLOTS_PER_BLOCK, SLOTS_PER_DISK_MAX)
    if slots % SLOTS_PER_BLOCK:
        raise ManifestError(f"records.slots must be a multiple of {SLOTS_PER_BLOCK}")
    static = fields.get("static_blake3")
    return Manifest(
        seed=_hexadecimal(fields.get("seed"), "seed", SEED_BYTES),
        disk=_integer(fields, "disk", 0, disks - 1),
        disks=disks,
        record_path=_path(records.get("path"), "records.path"),
        record_slots=slots,
        rewrites=_rewrites(fields.get("rewrites")),
        static_blake3=None
        if static is None
        else _hexadecimal(static, "static_blake3", HASH_BYTES).hex(),
    )


def check_manifests(manifests: Sequence[Manifest]) -> None:
    """Raise ManifestError unless these are all the disks of one guest, in order."""
    if not manifests:
        raise ManifestError(f"no disk holds {MANIFEST_PATH}: there is nothing a guest can work on")
    first = manifests[0]
    for index, manifest in enumerate(manifests):
        if manifest.seed != first.seed or manifest.disks != len(manifests):
            raise ManifestError(
                f"disk {index} belongs to another set: {manifest.disks} disks were prepared "
                f"together, {len(manifests)} are here"
            )
        if manifest.disk != index:
            raise ManifestError(f"disk {manifest.disk} stands in the place of disk {index}")
        if manifest.record_slots != first.record_slots:
            raise ManifestError(f"the record file of disk {index} has another size than disk 0's")
    if not any(manifest.rewrites for manifest in manifests):
        raise ManifestError("no disk lists a file to rewrite")


def _rewrites(value: Any) -> tuple[RewriteFile, ...]:
    if not isinstance(value, list) or len(value) > REWRITE_FILES_MAX:
        raise ManifestError(f"rewrites must be a list of at most {REWRITE_FILES_MAX} files")
    files = []
    for index, item in enumerate(value):
        fields = _object(item, f"rewrites[{index}]")
        size = _integer(fields, "size_bytes", BLOCK_BYTES, REWRITE_BLOCKS_MAX * BLOCK_BYTES)
        if size % BLOCK_BYTES:
            raise ManifestError(f"rewrites[{index}].size_bytes must be whole blocks")
        digest = _hexadecimal(fields.get("original_blake3"), "original_blake3", HASH_BYTES)
        files.append(
            RewriteFile(_path(fields.get("path"), f"rewrites[{index}].path"), size, digest.hex())
        )
    if len({file.path for file in files}) != len(files):
        raise ManifestError("rewrites names a file twice")
    return tuple(files)


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ManifestError(f"{name} must be an object")
    return value


def _integer(fields: dict[str, Any], name: str, low: int, high: int) -> int:
    value = fields.get(name)
    if type(value) is not int or not low <= value <= high:
        raise ManifestError(f"{name} must be a whole number from {low} to {high}")
    return value


def _path(value: Any, name: str) -> str:
    if not isinstance(value, str) or len(value) > PATH_LENGTH_MAX or not _PATH.fullmatch(value):
        raise ManifestError(f"{name} must be an absolute path of plain letters, digits and ._-")
    return value


def _hexadecimal(value: Any, name: str, size_bytes: int) -> bytes:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]*", value):
        raise ManifestError(f"{name} must be lower-case hexadecimal digits")
    if len(value) != size_bytes * 2:
        raise ManifestError(f"{name} must have {size_bytes * 2} hexadecimal digits")
    return bytes.fromhex(value)
