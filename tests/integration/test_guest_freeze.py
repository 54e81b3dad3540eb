"""A guest that holds still for a cut: as a real process, and what its host makes of answers."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from lab.disk_templates import DiskPlan
from lab.disks import prepare_machine_disks
from vmm_simulator.guest import interface
from vmm_simulator.guest.frames import Frame, FrameError, Kind, encode_number, encode_object
from vmm_simulator.guest.freezing import Freezing
from vmm_simulator.guest.interface import GuestSpec
from vmm_simulator.guest.supervisor import start_guest

pytestmark = pytest.mark.needs("mke2fs", "debugfs", "tune2fs", "e2fsck")

BOUND_SECONDS = 30.0


class Storage:
    """Writes images as a host without replication does, and counts."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self.writes = 0
        self.unflushed = 0

    def write(self, disk_index: int, offset: int, data: bytes, record: int) -> None:
        """Write."""
        del record
        with self.paths[disk_index].open("r+b") as image:
            os.pwrite(image.fileno(), data, offset)
        self.writes += 1
        self.unflushed += 1

    async def flush(self) -> None:
        """Flush."""
        self.unflushed = 0


@pytest.fixture
def disks(tmp_path: Path) -> Sequence[Path]:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "text.txt").write_text("a file\n" * 100)
    plan = DiskPlan("system", (tmp_path / "source",), 1 << 20, 64, 2, 8 * 4096, 1 << 20)
    path = tmp_path / "system.raw"
    prepare_machine_disks([path], [plan], b"a machine's seed", tmp_path / "cache")
    return [path]


async def test_a_frozen_guest_writes_nothing_until_it_is_thawed(
    disks: Sequence[Path], tmp_path: Path
) -> None:
    storage = Storage(disks)
    spec = GuestSpec("vm-1", "web", 1, disks, 500.0, None, tmp_path / "guest.log")
    guest = await start_guest(spec, storage)
    try:
        await guest.freeze(BOUND_SECONDS)
        still = storage.writes
        assert storage.unflushed == 0
        before = disks[0].read_bytes()
        # It answers while it holds still: what it says is of the last record before the freeze.
        state = await guest.challenge("ab" * 16, BOUND_SECONDS)
        assert state.verified
        assert (storage.writes, disks[0].read_bytes()) == (still, before)
        assert await guest.thaw(BOUND_SECONDS)
        async with asyncio.timeout(BOUND_SECONDS):
            while storage.writes < still + 4:
                await asyncio.sleep(0.01)
        # Nothing is frozen now: nobody can say that it held still.
        assert not await guest.thaw(BOUND_SECONDS)
        await guest.freeze(BOUND_SECONDS)
        assert await guest.stop(BOUND_SECONDS)
    finally:
        await guest.kill()
    with pytest.raises(TimeoutError):
        await guest.freeze(BOUND_SECONDS)


async def test_a_freeze_that_lasts_too_long_ends_by_itself_and_says_so(
    disks: Sequence[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "patched"
    folder.mkdir()
    # The guest is a process of its own: it gets its shorter bound by the file that Python reads.
    (folder / "sitecustomize.py").write_text(
        "import vmm_simulator.guest.interface as interface\ninterface.FREEZE_SECONDS_MAX = 0.05\n"
    )
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    )
    storage = Storage(disks)
    spec = GuestSpec("vm-1", "web", 1, disks, 500.0, None, tmp_path / "guest.log")
    guest = await start_guest(spec, storage)
    try:
        await guest.freeze(BOUND_SECONDS)
        still = storage.writes
        async with asyncio.timeout(BOUND_SECONDS):
            while storage.writes < still + 4:
                await asyncio.sleep(0.01)
        assert not await guest.thaw(BOUND_SECONDS)
    finally:
        await guest.kill()


def test_the_guest_bounds_its_freeze() -> None:
    assert interface.FREEZE_SECONDS_MAX == 10.0


async def test_a_late_answer_is_no_answer_and_a_wrong_one_ends_the_guest() -> None:
    sent: list[bytes] = []
    freezing = Freezing(sent.append)
    with pytest.raises(TimeoutError):
        await freezing.freeze(0.0)
    late = Frame(Kind.FROZEN, (1).to_bytes(8, "big"))
    async with asyncio.TaskGroup() as group:
        second = group.create_task(freezing.freeze(BOUND_SECONDS))
        await asyncio.sleep(0)
        freezing.take(late)
        await asyncio.sleep(0)
        assert not second.done()
        freezing.take(Frame(Kind.FROZEN, (2).to_bytes(8, "big")))
    assert sent == [encode_number(Kind.FREEZE, 1), encode_number(Kind.FREEZE, 2)]
    for body in ({"token": 2}, {"token": "2", "held": True}, {"token": 2, "held": 1}):
        with pytest.raises(FrameError):
            freezing.take(Frame(Kind.THAWED, encode_object(Kind.THAWED, body)[5:]))
    assert not await freezing.thaw(0.0)
