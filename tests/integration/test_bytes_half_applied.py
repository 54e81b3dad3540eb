"""A kill in the middle of an apply, and what happens to the log or the disks before the start."""

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.hyperv_bytes.bytes_harness import MACHINE, contents, kill, make_disks, on_uvloop
from tests.unit.hyperv_bytes.replica_story import (
    SIZES,
    STATES,
    Body,
    header,
    new_backend,
    transfer,
)
from tests.unit.hyperv_bytes.test_bytes_frames import ended
from vmm_simulator.hyperv import applying, replica_state
from vmm_simulator.hyperv.apply import OpenDisks
from vmm_simulator.hyperv.backend import (
    AppliedCut,
    BackendStateError,
    CutKind,
    DiskFile,
    PointKind,
    TransferRefusedError,
)
from vmm_simulator.hyperv.embedded import EmbeddedBackend
from vmm_simulator.hyperv.frames import Frame
from vmm_simulator.hyperv.redo_log import committed_logs

HALF = 2
"""So many frames of the change set reach the disks before the kill."""


async def half_applied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[DiskFile]:
    """Leave a replica that was killed while change set 3 went to its disks; 2 is a point."""
    disks = make_disks(folder / "disks", "r", SIZES)
    backend = new_backend(folder)
    await backend.create_replica_disks(MACHINE, disks)
    for cut in (1, 2):
        await transfer(backend, cut)
        await backend.apply_committed(MACHINE)
    await backend.make_point(MACHINE, PointKind.STANDARD)
    await transfer(backend, 3)
    frames, write = 0, OpenDisks.write

    def write_some(opened: OpenDisks, frame: Frame) -> None:
        nonlocal frames
        frames += 1
        if frames > HALF:
            raise OSError(errno.EIO, "killed")
        write(opened, frame)

    with monkeypatch.context() as patch:
        patch.setattr(OpenDisks, "write", write_some)
        with pytest.raises(OSError, match="killed"):
            await backend.apply_committed(MACHINE)
    kill(backend)
    assert contents(disks) not in (STATES[2], STATES[3])
    return disks


async def compare(backend: EmbeddedBackend, cut: int) -> None:
    """Bring everything of a state as a comparison would."""
    described = replace(header(cut), kind=CutKind.DIFFERENCES, transfer_id=f"comparison-{cut}")
    frames = ended(*((index, 0, disk) for index, disk in enumerate(STATES[cut])))
    incoming = await backend.open_transfer(MACHINE, described)
    assert not isinstance(incoming, AppliedCut)
    try:
        await incoming.receive(Body(frames))
        await backend.commit_transfer(MACHINE, incoming)
    finally:
        await backend.end_transfer(MACHINE, incoming)
    await backend.apply_committed(MACHINE)


async def needs_a_comparison(backend: EmbeddedBackend, disks: list[DiskFile]) -> None:
    """Nothing else helps, and with it all is well again."""
    assert backend.resynchronization_reason(MACHINE)
    assert backend.recovery_points(MACHINE) == []
    held = backend.applied_cut(MACHINE)
    following = 4 if held is None else held.cut + 1
    with pytest.raises(TransferRefusedError, match="full copy or a resynchronization only"):
        await transfer(backend, following)
    await compare(backend, 5)
    assert contents(disks) == STATES[5]
    assert not backend.resynchronization_reason(MACHINE)
    await transfer(backend, 6)
    await backend.aclose()
    assert contents(disks) == STATES[6]


@pytest.mark.parametrize("later", ["at once", "after another kill", "machine went down"])
@on_uvloop
async def test_a_log_that_is_lost_half_applied_is_not_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: str
) -> None:
    disks = await half_applied(tmp_path, monkeypatch)
    folder = tmp_path / "state" / MACHINE
    (path,) = committed_logs(folder)
    data = bytearray(path.read_bytes())
    data[-5000] ^= 1
    path.write_bytes(data)
    if later == "machine went down":
        (folder / applying.APPLYING_FILE).unlink()
        monkeypatch.setattr(replica_state, "boot_id", lambda: "after")
    backend = new_backend(tmp_path)
    if later == "after another kill":
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", _killed)
            with pytest.raises(OSError, match="killed"):
                await backend.recover({MACHINE: disks})
        kill(backend)
        backend = new_backend(tmp_path)
    await backend.recover({MACHINE: disks})
    assert backend.applied_cut(MACHINE) is None
    with pytest.raises(BackendStateError, match="incomplete"):
        await backend.promote(MACHINE, None)
    await needs_a_comparison(backend, disks)


def _killed(*_: object) -> None:
    raise OSError(errno.EIO, "killed")


@pytest.mark.parametrize("kills", [1, 2])
@on_uvloop
async def test_a_disk_that_others_wrote_to_after_the_kill_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: int
) -> None:
    monkeypatch.setattr(applying, "STRANGER_NANOSECONDS", 0)
    disks = await half_applied(tmp_path, monkeypatch)
    mark = (tmp_path / "state" / MACHINE / applying.APPLYING_FILE).stat().st_mtime_ns
    # Times of files move in steps: write until this one has moved.
    while disks[0].path.stat().st_ctime_ns <= mark:
        with disks[0].path.open("r+b") as file:
            file.write(b"someone else")
    backend = new_backend(tmp_path)
    if kills == 2:
        with monkeypatch.context() as patch:
            patch.setattr(OpenDisks, "sync", _killed)
            with pytest.raises(OSError, match="killed"):
                await backend.recover({MACHINE: disks})
        kill(backend)
        backend = new_backend(tmp_path)
    await backend.recover({MACHINE: disks})
    held = backend.applied_cut(MACHINE)
    assert held is not None
    assert held.cut == 3
    assert "altered" in backend.resynchronization_reason(MACHINE)
    await needs_a_comparison(backend, disks)


@on_uvloop
async def test_a_kill_alone_is_made_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disks = await half_applied(tmp_path, monkeypatch)
    backend = new_backend(tmp_path)
    await backend.recover({MACHINE: disks})
    assert contents(disks) == STATES[3]
    assert not (tmp_path / "state" / MACHINE / applying.APPLYING_FILE).exists()
    assert [point.cut for point in backend.recovery_points(MACHINE)] == [3, 2]
    await transfer(backend, 4)
    await backend.aclose()
    assert contents(disks) == STATES[4]
