"""SIGKILL in the middle of a guest's writes: no change without a mark."""

import asyncio
import random
import signal
import subprocess
import sys
from pathlib import Path

from tests.unit.hyperv_bytes.bytes_harness import (
    BLOCK,
    MACHINE,
    NOW,
    PRIMARY_FQDN,
    SIZES,
    contents,
    make_disks,
    make_files,
    reopened,
)
from vmm_simulator.hyperv.backend import CutKind

WRITES_BEFORE_THE_KILL = 40


async def write_for_ever(folder: Path) -> None:
    """Write at random and cut now and then, telling each write after it was made."""
    disks = make_disks(folder / "disks", "m")
    backend = await reopened(folder / "state", {MACHINE: disks}, PRIMARY_FQDN)
    await backend.attach(MACHINE, disks)
    await backend.start_tracking(MACHINE)
    chance = random.Random(7)  # noqa: S311 -- places on a disk, no secrets
    number = 0
    while True:
        number += 1
        disk = chance.randrange(2)
        backend.write(MACHINE, disk, chance.randrange(SIZES[disk] - 9000), b"k" * 9000, number)
        if number % 10 == 0:
            await backend.cut(MACHINE, CutKind.DELTA, number, NOW)
        sys.stdout.write(f"wrote {number}\n")
        sys.stdout.flush()


def test_every_change_is_marked_after_a_kill(tmp_path: Path) -> None:
    disks = make_disks(tmp_path / "disks", "m")
    make_files(disks)
    command = [sys.executable, "-m", "tests.integration.test_bytes_kill", str(tmp_path)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], text=True
    )
    assert process.stdout is not None
    told = 0
    with process:
        for line in process.stdout:
            word, _, number = line.partition(" ")
            # The log goes to the same stream; the last line may be half written.
            if word == "wrote" and number.endswith("\n"):
                told = int(number)
            if told == WRITES_BEFORE_THE_KILL:
                process.kill()
    assert process.returncode == -signal.SIGKILL
    assert told >= WRITES_BEFORE_THE_KILL

    async def look() -> None:
        backend = await reopened(tmp_path / "state", {MACHINE: disks}, PRIMARY_FQDN)
        assert backend.is_tracking(MACHINE)
        change_set = await backend.cut(MACHINE, CutKind.DELTA, 1, NOW)
        assert change_set.last_record >= told
        frozen = backend._machine(MACHINE).frozen
        assert frozen is not None
        changed_blocks = 0
        for content, bitmap in zip(contents(disks), frozen.bitmaps, strict=True):
            for start in range(0, len(content), BLOCK):
                if content[start : start + BLOCK].strip(b"\0"):
                    block = start // BLOCK
                    changed_blocks += 1
                    assert bitmap[block // 8] & (1 << (block % 8)), f"block {block} has no mark"
        assert changed_blocks > 5
        await backend.aclose()

    asyncio.run(look())


if __name__ == "__main__":
    asyncio.run(write_for_ever(Path(sys.argv[1])))
