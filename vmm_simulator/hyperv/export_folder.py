"""An initial copy on its way by a medium: a folder with a manifest and one file of frames.

The manifest names format, machine, transfer, disks, and the blake3 of the frames; it is written
last, so that a folder without one is no export. Whatever comes from a medium is foreign: limits
first, then hashes, then every frame, and only then the first byte is written to a disk.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Final, Literal

import blake3
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vmm_simulator.hyperv.apply import touched_blocks
from vmm_simulator.hyperv.backend import CutKind, DiskFile, TransferHeader
from vmm_simulator.hyperv.copy_before_write import FrozenCut
from vmm_simulator.hyperv.disks import COPY_BYTES, sync_folder, write_durably
from vmm_simulator.hyperv.frame_log import FrameLog, FrameLogWriter
from vmm_simulator.hyperv.frames import DISKS_MAX, FrameError
from vmm_simulator.hyperv.sender import Shipment
from vmm_simulator.hyperv.threads import run_to_end
from vmm_simulator.hyperv.transfer_header import decode_header, encode_header

MANIFEST: Final = "manifest.json"
FRAMES: Final = "initial-replication.frames"
MANIFEST_BYTES_MAX: Final = 262_144
DISK_BYTES_MAX: Final = 64 * 2**40
"""Largest disk that an export may name (behaviour 1.4: the format of 2012 R2 ends there)."""

_MAGIC: Final = b"SRHSEED1"


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ExportedDisk(_Wire):
    """One disk of the machine."""

    disk_id: str = Field(min_length=1, max_length=128)
    size_bytes: int = Field(ge=0, le=DISK_BYTES_MAX)


class Manifest(_Wire):
    """What an export says of itself; `transfer` is a transfer header as text."""

    format: Literal["site-recovery initial replication 1"] = "site-recovery initial replication 1"
    machine_id: Annotated[str, Field(min_length=1, max_length=128)]
    transfer: Annotated[str, Field(max_length=4_096)]
    disks: Annotated[tuple[ExportedDisk, ...], Field(min_length=1, max_length=DISKS_MAX)]
    frames_bytes: int = Field(ge=0, le=2 * DISKS_MAX * DISK_BYTES_MAX)
    frames_blake3: str = Field(pattern=r"^[0-9a-f]{64}$")


class Export(FrameLog):
    """The frames of a folder, with the manifest that vouches for them; ValueError: no export."""

    def __init__(self, folder: Path) -> None:
        self.manifest = read_manifest(folder)
        path = folder / FRAMES
        try:
            found = path.stat().st_size
            if found != self.manifest.frames_bytes:
                raise ValueError(
                    f"{path} has {found} bytes instead of {self.manifest.frames_bytes}: "
                    "copy the folder again"
                )
            super().__init__(path, _MAGIC)
        except (FileNotFoundError, FrameError) as error:
            raise ValueError(f"the export in {folder} is not whole: {error}") from error
        if (
            self.header != decode_header(self.manifest.transfer)
            or self.header.kind is not CutKind.FULL
            or self.sizes != tuple(disk.size_bytes for disk in self.manifest.disks)
        ):
            raise ValueError(f"the manifest in {folder} is not that of the frames beside it")

    def verify(self, progress: Callable[[int], None]) -> None:
        """Read it all; ValueError unless every byte is what was exported (blocks).

        `progress` gets the bytes read, of `manifest.frames_bytes`.
        """
        if _hash(self.path, progress) != self.manifest.frames_blake3:
            raise ValueError(f"{self.path} is not what was exported: copy the folder again")
        try:
            touched_blocks(self)
        except FrameError as error:
            raise ValueError(f"the export {self.path} is damaged: {error}") from error


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a folder; ValueError says why it is none."""
    path = folder / MANIFEST
    try:
        with path.open("rb") as file:
            text = file.read(MANIFEST_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"there is no export in {folder}: {error}") from error
    if len(text) > MANIFEST_BYTES_MAX:
        raise ValueError(f"{path} is over {MANIFEST_BYTES_MAX} bytes")
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{path}: {problem['loc']}: {problem['msg']}") from None
    decode_header(manifest.transfer)
    return manifest


async def write_export(
    folder: Path,
    *,
    cut: FrozenCut,
    header: TransferHeader,
    machine_id: str,
    disks: Sequence[DiskFile],
    progress: Callable[[int], None],
) -> None:
    """Return when the cut lies in the folder, durably and whole."""
    cut.begin_reading()
    try:
        await run_to_end(_begin, folder)
        writer = await run_to_end(FrameLogWriter, folder / FRAMES, _MAGIC, header, cut.sizes)
        try:
            shipment = Shipment(cut, header)
            async with aclosing(shipment.batches()) as batches:
                async for batch in batches:
                    await run_to_end(writer.append, batch.frames)
                    progress(batch.done_bytes)
            await run_to_end(writer.append, shipment.writer.end())
            await run_to_end(writer.commit)
        finally:
            await run_to_end(writer.close)
    finally:
        cut.end_reading()
    await run_to_end(_finish, folder, machine_id, header, disks)


def _begin(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # What lies there of another export stops counting before its frames are replaced.
    (folder / MANIFEST).unlink(missing_ok=True)
    sync_folder(folder)


def _finish(
    folder: Path, machine_id: str, header: TransferHeader, disks: Sequence[DiskFile]
) -> None:
    frames = folder / FRAMES
    manifest = Manifest(
        machine_id=machine_id,
        transfer=encode_header(header),
        disks=tuple(
            ExportedDisk(disk_id=disk.disk_id, size_bytes=disk.size_bytes) for disk in disks
        ),
        frames_bytes=frames.stat().st_size,
        frames_blake3=_hash(frames),
    )
    write_durably(folder / MANIFEST, manifest.model_dump_json(indent=2).encode())


def _hash(path: Path, progress: Callable[[int], None] | None = None) -> str:
    digest, done = blake3.blake3(), 0
    with path.open("rb", buffering=0) as file:
        while piece := file.read(COPY_BYTES):
            digest.update(piece)
            done += len(piece)
            if progress is not None:
                progress(done)
    return digest.hexdigest()


def in_loop(progress: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """Return the same for a thread: it is called in the loop that calls this."""
    loop = asyncio.get_running_loop()

    def tell(done: int, total: int) -> None:
        loop.call_soon_threadsafe(progress, done, total)

    return tell
