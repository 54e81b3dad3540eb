"""Transfers of a source that is killed at any step that changes a file of its own."""

from pathlib import Path

from tests.unit.hyperv_bytes.bytes_harness import (
    MACHINE,
    NOW,
    PRIMARY_FQDN,
    Pair,
    kill,
    pair,
    reopened,
)
from tests.unit.hyperv_bytes.recorded_files import KilledError, RecordedFiles
from vmm_simulator.hyperv.backend import CutKind


async def transfers(both: Pair) -> None:
    """A whole copy, changes, a cut that is given back, and changes again; the guest writes on."""

    def write_on(_done: int) -> None:
        both.write(0, 70_001, b"while it is sent" * 300)

    for cut, kind in enumerate((CutKind.FULL, CutKind.DELTA, CutKind.DELTA, CutKind.FINAL), 1):
        both.write(cut % 2, cut * 100_000, bytes([cut]) * 90_000, cut)
        change_set = await both.tokyo.cut(MACHINE, kind, cut, NOW)
        both.write(1, cut * 90_000, b"after the cut", cut)
        if cut == 3:
            await both.tokyo.release(change_set, acknowledged=False)
            change_set = await both.tokyo.cut(MACHINE, kind, cut, NOW)
        header = both.header(change_set)
        await both.tokyo.send(change_set, both.osaka.address, header, write_on)
        await both.tokyo.release(change_set, acknowledged=True)
        await both.osaka.backend.apply_committed(MACHINE)
    await both.tokyo.flush(MACHINE)


async def kill_source(folder: Path, kill_at: int) -> bool:
    """Kill the source after so many steps, bring the replica up to it; whether it was killed."""
    async with pair(folder) as both:
        files = RecordedFiles(folder / "tokyo", kill_at)
        killed = False
        with files.watched():
            try:
                await transfers(both)
            except KilledError:
                killed = True
            kill(both.tokyo)
        disks = {MACHINE: both.primary_disks}
        both.tokyo = await reopened(folder / "tokyo", disks, PRIMARY_FQDN)
        await both.tokyo.attach(MACHINE, both.primary_disks)
        await both.osaka.backend.apply_committed(MACHINE)
        applied = both.osaka.backend.applied_cut(MACHINE)
        if applied is None:
            await both.replicate(CutKind.FULL, 1)
        else:
            await both.replicate(CutKind.DELTA, applied.cut + 1)
        assert both.equal(), f"killed after {kill_at} steps: {files.steps[-1:]}"
        return killed
