import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.hyperv_bytes.bytes_harness import BLOCK, allocated, make_disks, make_files
from tests.unit.hyperv_bytes.test_bytes_frames import PAGE, ended, stream
from tests.unit.hyperv_bytes.test_bytes_transfer_header import HELD
from vmm_simulator.hyperv import change_map, disks
from vmm_simulator.hyperv.apply import OpenDisks, require_sizes, touched_blocks, write_log
from vmm_simulator.hyperv.backend import BackendStateError, DiskFile
from vmm_simulator.hyperv.change_map import TrackedChanges
from vmm_simulator.hyperv.copy_before_write import FrozenCut
from vmm_simulator.hyperv.digests import ZERO_DIGEST, disk_digests
from vmm_simulator.hyperv.frames import FrameError
from vmm_simulator.hyperv.redo_log import RedoLog, RedoWriter, committed_logs

SIZES = (1_048_576, 8_192 + 512)


@pytest.fixture
def disk(tmp_path: Path) -> DiskFile:
    (made,) = make_disks(tmp_path, "m", [10 * BLOCK])
    make_files([made])
    return made


def test_a_hole_is_punched_where_bytes_were(disk: DiskFile) -> None:
    disk.path.write_bytes(b"x" * 10 * BLOCK)
    descriptor = os.open(disk.path, os.O_RDWR)
    disks.punch_hole(descriptor, BLOCK, 2 * BLOCK)
    extents = list(disks.allocated_extents(descriptor, 10 * BLOCK))
    os.close(descriptor)
    assert disk.path.read_bytes() == b"x" * BLOCK + bytes(2 * BLOCK) + b"x" * 7 * BLOCK
    assert extents == [(0, BLOCK), (3 * BLOCK, 10 * BLOCK)]


def test_zeros_are_written_where_holes_cannot_be_punched(
    disk: DiskFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.path.write_bytes(b"x" * 10 * BLOCK)
    monkeypatch.setattr(disks, "_PUNCH_HOLE_KEEP_SIZE", 0x7000)  # EOPNOTSUPP
    descriptor = os.open(disk.path, os.O_RDWR)
    disks.punch_hole(descriptor, 4096, 2 * BLOCK)
    os.close(descriptor)
    assert disk.path.read_bytes() == b"x" * 4096 + bytes(2 * BLOCK) + b"x" * (8 * BLOCK - 4096)


def test_a_sparse_copy_is_equal_and_sparse(disk: DiskFile, tmp_path: Path) -> None:
    with disk.path.open("r+b") as file:
        file.seek(3 * BLOCK)
        file.write(b"y" * 5000)
    target = tmp_path / "folder" / "copy.raw"
    disks.copy_sparse(disk.path, target, disk.size_bytes)
    assert target.read_bytes() == disk.path.read_bytes()
    assert allocated(replace(disk, path=target)) <= 2 * BLOCK
    assert list(target.parent.iterdir()) == [target]


def test_a_file_that_ends_too_early_is_an_error(disk: DiskFile) -> None:
    os.truncate(disk.path, 5000)
    descriptor = os.open(disk.path, os.O_RDONLY)
    with pytest.raises(OSError, match="too early"):
        disks.read_exactly(descriptor, memoryview(bytearray(6000)), 0)
    os.close(descriptor)


def test_digests_of_holes_are_known_without_reading(disk: DiskFile) -> None:
    with disk.path.open("r+b") as file:
        file.write(b"z")
    found = disk_digests(disk.path, disk.size_bytes, 0, 10)
    assert found[32:] == ZERO_DIGEST * 9
    assert found[:32] != ZERO_DIGEST
    for first, count in ((0, 11), (-1, 1), (0, 0), (0, 5000)):
        with pytest.raises(ValueError, match="range"):
            disk_digests(disk.path, disk.size_bytes, first, count)


def marks(changes: TrackedChanges) -> list[bytes]:
    return [each.snapshot() for each in changes._current]


def test_marks_of_unacknowledged_cuts_are_merged_back_at_the_start(tmp_path: Path) -> None:
    changes = TrackedChanges.start(tmp_path, [16 * BLOCK, BLOCK])
    changes.mark(0, 0, 1)
    changes.swap()
    changes.mark(0, 5 * BLOCK, BLOCK + 1)
    changes.mark(1, 10, 10)
    # No close: the process is gone. Maps without tracking.json would be orphans, these are not.
    again = TrackedChanges.reopen(tmp_path)
    assert again is not None
    assert marks(again) == [b"\x61\x00", b"\x01"]
    assert again.pending_bytes(None) == 4 * BLOCK
    assert len(list(tmp_path.glob("marks-*.map"))) == 2


def test_an_acknowledged_cut_is_forgotten_a_returned_one_is_not(tmp_path: Path) -> None:
    changes = TrackedChanges.start(tmp_path, [16 * BLOCK])
    changes.mark(0, 0, 1)
    bitmaps = changes.swap()
    with pytest.raises(BackendStateError, match="outstanding"):
        changes.swap()
    changes.give_back(bitmaps)
    assert changes.swap() == bitmaps == [b"\x01\x00"]
    changes.acknowledge()
    assert marks(changes) == [b"\x00\x00"]
    assert len(list(tmp_path.glob("marks-*.map"))) == 1


def test_after_a_crash_of_the_operating_system_everything_counts_as_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [3 * BLOCK + 4096]
    TrackedChanges.start(tmp_path, sizes)
    monkeypatch.setattr(change_map, "boot_id", lambda: "another run")
    again = TrackedChanges.reopen(tmp_path)
    assert again is not None
    assert again.pending_bytes(None) == sizes[0]
    # Closed properly, a restart of the operating system leaves no doubt.
    again.swap()
    again.acknowledge()
    again.close()
    monkeypatch.setattr(change_map, "boot_id", lambda: "a third run")
    third = TrackedChanges.reopen(tmp_path)
    assert third is not None
    assert third.pending_bytes(None) == 0


def test_what_is_no_longer_tracked_leaves_nothing(tmp_path: Path) -> None:
    changes = TrackedChanges.start(tmp_path, [BLOCK])
    changes.mark(0, 0, 1)
    changes.stop()
    assert TrackedChanges.reopen(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "marks-0000000001-000.map").write_bytes(b"\xff")  # a kill within stop()
    assert TrackedChanges.reopen(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_state_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "tracking.json").write_text("{}")
    with pytest.raises(BackendStateError, match=r"tracking\.json is damaged .*resynchronize"):
        TrackedChanges.reopen(tmp_path)


def test_a_frozen_block_is_kept_also_when_it_is_written_while_it_is_read(
    disk: DiskFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.path.write_bytes(b"a" * 10 * BLOCK)
    cut = FrozenCut([disk], tmp_path)
    cut.disks[0].freeze(b"\xff\x03")
    original = disks.read_exactly
    writer = disk.path.open("r+b", buffering=0)

    def write_in_between(descriptor: int, view: memoryview, offset: int) -> None:
        if len(view) > BLOCK:  # the reader's own read of the disk
            cut.preserve(0, 2 * BLOCK, 10)
            os.pwrite(writer.fileno(), b"b" * 10, 2 * BLOCK)
        original(descriptor, view, offset)

    monkeypatch.setattr("vmm_simulator.hyperv.copy_before_write.read_exactly", write_in_between)
    view = memoryview(bytearray(4 * BLOCK))
    cut.read(0, 0, 4, view)
    assert bytes(view) == b"a" * 4 * BLOCK
    cut.release()
    writer.close()


def test_a_cut_that_cannot_be_kept_is_lost_and_the_guest_goes_on(
    disk: DiskFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = FrozenCut([disk], tmp_path)
    cut.disks[0].freeze(b"\xff\x03")

    def full(_block: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cut.disks[0], "_preserve_block", full)
    cut.preserve(0, 0, 10)
    with pytest.raises(OSError, match="could not be kept"):
        cut.read(0, 0, 1, memoryview(bytearray(BLOCK)))
    cut.release()


def make_log(folder: Path, frames: bytes) -> Path:
    writer = RedoWriter(folder, HELD, SIZES)
    writer.append(memoryview(frames))
    writer.commit()
    writer.close()
    (path,) = committed_logs(folder)
    return path


def log_disks(folder: Path) -> list[DiskFile]:
    made = make_disks(folder / "disks", "m", SIZES)
    make_files(made)
    return made


def apply_log(log: RedoLog, made: list[DiskFile]) -> None:
    with OpenDisks(made) as opened:
        require_sizes(log, opened)
        touched_blocks(log)
        write_log(log, opened)
        opened.sync()


def test_a_log_is_applied_and_may_be_applied_again(tmp_path: Path) -> None:
    made = log_disks(tmp_path)
    made[0].path.write_bytes(b"o" * SIZES[0])
    log = RedoLog(
        make_log(tmp_path, ended((0, 0, PAGE), (0, BLOCK, BLOCK), (1, 8_192, b"e" * 512)))
    )
    assert log.header == HELD
    for _ in range(2):
        apply_log(log, made)
        first = made[0].path.read_bytes()
        assert first == PAGE + b"o" * (BLOCK - 4096) + bytes(BLOCK) + b"o" * (SIZES[0] - 2 * BLOCK)
        assert made[1].path.read_bytes() == bytes(8_192) + b"e" * 512


def test_an_uncommitted_log_does_not_exist(tmp_path: Path) -> None:
    writer = RedoWriter(tmp_path, HELD, SIZES)
    writer.append(memoryview(ended((0, 0, PAGE))))
    assert committed_logs(tmp_path) == []
    writer.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["no end", "flipped", "cut off", "head"])
def test_a_damaged_log_changes_nothing(tmp_path: Path, damage: str) -> None:
    made = log_disks(tmp_path)
    changes = [(0, 0, PAGE), (0, BLOCK, PAGE)]
    path = make_log(tmp_path, stream(*changes) if damage == "no end" else ended(*changes))
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[-5000] ^= 1
    elif damage == "cut off":
        del data[-10:]
    elif damage == "head":
        data[30] ^= 1
    path.write_bytes(data)
    with pytest.raises(FrameError):
        apply_log(RedoLog(path), made)
    assert made[0].path.read_bytes() == bytes(SIZES[0])


def test_a_log_for_other_disks_is_not_applied(tmp_path: Path) -> None:
    made = log_disks(tmp_path)
    path = make_log(tmp_path, ended((0, 0, PAGE)))
    with pytest.raises(BackendStateError, match="is for disks"):
        apply_log(RedoLog(path), made[:1])


def test_a_commit_is_durable_in_the_right_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fdatasync, fsync, rename = os.fdatasync, os.fsync, Path.rename

    def note_fdatasync(descriptor: int) -> None:
        calls.append("bytes")
        fdatasync(descriptor)

    def note_fsync(descriptor: int) -> None:
        calls.append("folder")
        fsync(descriptor)

    def note_rename(self: Path, target: Path) -> Path:
        calls.append("name")
        return rename(self, target)

    monkeypatch.setattr(os, "fdatasync", note_fdatasync)
    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "rename", note_rename)
    make_log(tmp_path, ended((0, 0, PAGE)))
    assert calls == ["bytes", "name", "folder"]
