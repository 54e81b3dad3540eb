"""Another size of a disk, or another disk: an intent that survives whatever comes in between.

Who keeps the inventory learns of the change when the call returns, or must call again. Until the
inventory names the same disks, what is here is what the disks are.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from vmm_simulator.hyperv.backend import BackendStateError, DiskFile
from vmm_simulator.hyperv.disks import make_empty, sync_folder, write_durably

INTENT_FILE: Final = "disks.json"
_INTENT_BYTES_MAX: Final = 1_048_576


def write_intent(folder: Path, disks: Sequence[DiskFile]) -> None:
    """Return when it is durable what the disks are to be."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = [[disk.disk_id, str(disk.path), disk.size_bytes] for disk in disks]
    write_durably(folder / INTENT_FILE, json.dumps(fields).encode())


def read_intent(folder: Path) -> tuple[DiskFile, ...] | None:
    """Return what the disks are to be; None where the inventory knows."""
    path = folder / INTENT_FILE
    try:
        with path.open("rb") as file:
            fields = json.loads(file.read(_INTENT_BYTES_MAX))
        return tuple(DiskFile(str(name), Path(place), int(size)) for name, place, size in fields)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise BackendStateError(
            f"{path} is damaged ({error}); delete it and look at the sizes of the disks"
        ) from error


def forget_intent(folder: Path) -> None:
    """The inventory names these disks: the intent is fulfilled."""
    path = folder / INTENT_FILE
    if path.exists():
        path.unlink()
        sync_folder(folder)


def fulfil(disks: Sequence[DiskFile]) -> None:
    """Return when the files are durably there, in these sizes; what is there stays."""
    for disk in disks:
        if not disk.path.exists():
            make_empty(disk.path, disk.size_bytes)
            continue
        if disk.path.stat().st_size != disk.size_bytes:
            descriptor = os.open(disk.path, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.ftruncate(descriptor, disk.size_bytes)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
