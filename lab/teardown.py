"""Ends an estate and clears what an earlier one left, whatever happened to it."""

import shutil

from lab.estate_record import EstateRecord, load_record
from lab.layout import Layout
from lab.processes import Launcher
from service_shell.errors import ProgramError


async def end_estate(layout: Layout, launcher: Launcher, record: EstateRecord | None) -> int:
    """End all processes of the lab and return how many there were; none is left afterwards."""
    living = [each for each in (record.processes if record else {}).values() if each.alive]
    # Agents first, so that they say farewell; the keeper last, so that the network stays ours.
    order = ("agent", "vmm", "hub", "relay", "keeper")
    for part in order:
        await launcher.end([each for each in living if each.name.rpartition("/")[2] == part])
    await launcher.end_leftovers()
    layout.operator_file.unlink(missing_ok=True)
    layout.record.unlink(missing_ok=True)
    return len(living)


async def clear_for_new(layout: Layout, launcher: Launcher) -> list[int]:
    """Make room for a new estate: end what a killed lab left, remove its files.

    An estate that `lab-up` left running on purpose is not ended: ProgramError says how to.
    """
    record = load_record(layout)
    kept = record is not None and record.kind == "up" and record.phase == "running"
    if record is not None and kept and record.anything_alive:
        raise ProgramError(
            f"an estate of lab-up runs in {layout.root}; stop it first with: make lab-down"
        )
    left = await launcher.end_leftovers()
    for path in layout.root.iterdir():
        if path in (layout.lock, layout.cache, layout.log_of_lab):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return left


def remove_disks(layout: Layout) -> None:
    """Remove the disks of an ended estate; logs, configuration and report stay."""
    for folder in layout.root.glob("sites/*/hosts"):
        shutil.rmtree(folder)
