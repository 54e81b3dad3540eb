"""Whole copies of every back end: gone on with, of a group, of disks that change their size."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.hyperv_bytes.bytes_harness import (
    BLOCK,
    MACHINE,
    NOW,
    PRIMARY_FQDN,
    REPLICA_FQDN,
    Pair,
    contents,
    kill,
    make_disks,
    make_files,
    pair,
    reopened,
)
from vmm_simulator.hyperv.backend import (
    AppliedCut,
    BackendStateError,
    ChangeSet,
    Consistency,
    CutKind,
    DiskFile,
    PointKind,
    TransferRefusedError,
)
from vmm_simulator.hyperv.host_client import Upload
from vmm_simulator.problems import Code

BACKENDS = {"embedded": pair}
LARGE = (480 * BLOCK, 0, 170 * BLOCK + 4096)
"""Twice what all buffers on the way hold; the second disk is empty in every way."""


@pytest.fixture(params=BACKENDS)
async def both(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    async with BACKENDS[request.param](tmp_path, LARGE) as made:
        yield made


class SentBytes:
    """What crosses the network of transfers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        original = Upload.write

        async def write(upload: Upload, frames: bytes | memoryview) -> None:
            self.count += len(frames)
            await original(upload, frames)

        monkeypatch.setattr(Upload, "write", write)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> SentBytes:
    return SentBytes(monkeypatch)


def fill(both: Pair) -> int:
    """Write 600 blocks; returns their bytes."""
    for block in range(440):
        both.write(0, (block + 10) * BLOCK, bytes([block % 250 + 1]) * BLOCK, block)
    for block in range(160):
        both.write(2, block * BLOCK, bytes([block + 1]) * BLOCK, 440 + block)
    return 600 * BLOCK


async def restart_tracking(both: Pair) -> None:
    """As if the machine had been filled before it was protected."""
    await both.tokyo.stop_tracking(MACHINE)
    await both.tokyo.start_tracking(MACHINE)


async def break_off(both: Pair, change_set: ChangeSet, after_bytes: int) -> None:
    def give_up(done: int) -> None:
        if done >= after_bytes:
            raise ConnectionResetError("the network went away")

    with pytest.raises(ConnectionResetError):
        await both.tokyo.send(change_set, both.osaka.address, both.header(change_set), give_up)


async def reopen_tokyo(both: Pair, tmp_path: Path) -> None:
    kill(both.tokyo)
    disks = {MACHINE: both.primary_disks}
    both.tokyo = await reopened(tmp_path / "tokyo", disks, PRIMARY_FQDN)
    await both.tokyo.attach(MACHINE, both.primary_disks)


async def reopen_osaka(both: Pair, tmp_path: Path) -> None:
    backend = both.osaka.backend
    # A connection that was broken is noticed by its listener in its own time.
    await backend._machine(MACHINE).replica.settle()
    kill(backend)
    disks = {MACHINE: both.replica_disks}
    both.osaka.backend = await reopened(tmp_path / "osaka", disks, REPLICA_FQDN)
    both.osaka.listener._backend = both.osaka.backend


@pytest.mark.parametrize("killed", ["nobody", "tokyo", "osaka", "both"])
async def test_an_interrupted_whole_copy_goes_on_where_it_was(
    both: Pair, tmp_path: Path, sent: SentBytes, killed: str
) -> None:
    total = fill(both)
    await restart_tracking(both)
    change_set = await both.tokyo.cut(MACHINE, CutKind.FULL, 1, NOW)
    await break_off(both, change_set, total * 3 // 4)
    assert sent.count >= total * 3 // 4
    both.write(0, 12 * BLOCK, b"changed" * 1000)  # was sent already
    both.write(0, 15 * BLOCK, bytes(2 * BLOCK))  # was sent already, is zero now
    both.write(0, 2 * BLOCK, b"new" * 1000)  # before what was sent
    both.write(2, 165 * BLOCK, b"new" * 1000)  # behind it
    await both.tokyo.release(change_set, acknowledged=False)
    if killed in ("tokyo", "both"):
        await reopen_tokyo(both, tmp_path)
    if killed in ("osaka", "both"):
        await reopen_osaka(both, tmp_path)
    assert "whole copy" in both.osaka.backend.resynchronization_reason(MACHINE)
    sent.count = 0
    await both.replicate(CutKind.FULL, 1)
    assert both.equal()
    assert BLOCK < sent.count < total * 9 // 10
    sent.count = 0
    await both.replicate(CutKind.DELTA, 2)
    assert sent.count < BLOCK
    assert both.equal()


async def test_the_same_transfer_goes_on_too_and_says_how_far_it_is(
    both: Pair, sent: SentBytes
) -> None:
    total = fill(both)
    await restart_tracking(both)
    change_set = await both.tokyo.cut(MACHINE, CutKind.FULL, 1, NOW)
    frozen = contents(both.primary_disks)
    await break_off(both, change_set, total * 3 // 4)
    both.write(0, 12 * BLOCK, b"changed" * 1000)
    sent.count = 0
    done: list[int] = []
    header = both.header(change_set)
    await both.tokyo.send(change_set, both.osaka.address, header, done.append)
    assert contents(both.replica_disks) == frozen
    assert sent.count < total * 9 // 10
    assert done == sorted(done)
    assert total // 10 < done[0] <= done[-1] == change_set.bytes_total
    await both.tokyo.release(change_set, acknowledged=True)
    await both.replicate(CutKind.DELTA, 2)
    assert both.equal()


async def test_a_copy_whose_changes_were_not_noted_begins_again(
    both: Pair, sent: SentBytes
) -> None:
    total = fill(both)
    await restart_tracking(both)
    change_set = await both.tokyo.cut(MACHINE, CutKind.FULL, 1, NOW)
    await break_off(both, change_set, total // 2)
    await both.tokyo.release(change_set, acknowledged=False)
    await both.tokyo.stop_tracking(MACHINE)
    both.write(0, 12 * BLOCK, b"unnoticed" * 1000)
    await both.tokyo.start_tracking(MACHINE)
    sent.count = 0
    await both.replicate(CutKind.FULL, 1)
    assert both.equal()
    assert sent.count > total


async def test_a_copy_that_is_gone_on_with_elsewhere_begins_again(both: Pair) -> None:
    total = fill(both)
    change_set = await both.tokyo.cut(MACHINE, CutKind.FULL, 1, NOW)
    await break_off(both, change_set, total // 2)
    await both.tokyo.release(change_set, acknowledged=False)
    for disk in both.replica_disks:
        disk.path.unlink()
    await both.osaka.backend.create_replica_disks(MACHINE, both.replica_disks)
    await both.replicate(CutKind.FULL, 1)
    assert both.equal()


async def test_differences_of_sparse_disks_are_looked_for_where_something_is(both: Pair) -> None:
    fill(both)
    await both.replicate(CutKind.FULL, 1)
    with both.replica_disks[2].path.open("r+b") as file:
        file.seek(169 * BLOCK)  # a hole of the primary
        file.write(b"z")
    both.write(0, 5 * BLOCK, b"y")  # a hole of the replica
    await both.replicate(CutKind.DIFFERENCES, 2)
    assert both.equal()


async def test_what_changed_is_told_apart_from_what_a_whole_copy_sends(both: Pair) -> None:
    total = fill(both)
    await restart_tracking(both)
    both.write(0, 0, b"a")
    assert both.tokyo.tracked_bytes(MACHINE) == BLOCK
    change_set = await both.tokyo.cut(MACHINE, CutKind.FULL, 1, NOW)
    both.write(0, BLOCK, b"a")
    assert both.tokyo.tracked_bytes(MACHINE) == 2 * BLOCK
    assert both.tokyo.pending_bytes(MACHINE) == total + 2 * BLOCK
    await both.tokyo.release(change_set, acknowledged=False)
    assert both.tokyo.tracked_bytes(MACHINE) == 2 * BLOCK
    assert both.tokyo.tracked_bytes("nobody") == 0


async def test_a_group_is_cut_at_one_moment_or_not_at_all(both: Pair, tmp_path: Path) -> None:
    tokyo = both.tokyo
    others = ["other-1", "other-2"]
    for name in others:
        disks = make_disks(tmp_path / "more", name)
        make_files(disks)
        await tokyo.attach(name, disks)
        tokyo.write(name, 0, 0, b"a", 7)
    both.write(0, 0, b"a", 5)
    group, numbers = [MACHINE, *others], {MACHINE: 1, "other-1": 4, "other-2": 9}
    await tokyo.start_tracking("other-1")
    both.write(0, BLOCK, b"a", 6)
    with pytest.raises(BackendStateError, match="other-2 is not tracked"):
        await tokyo.cut_group(group, CutKind.DELTA, numbers, NOW, Consistency.CRASH)
    assert tokyo.tracked_bytes(MACHINE) == 2 * BLOCK
    await tokyo.start_tracking("other-2")
    tokyo.write("other-2", 0, 0, b"b", 8)
    made = await tokyo.cut_group(group, CutKind.DELTA, numbers, NOW, Consistency.APPLICATION)
    assert [made[name].cut for name in group] == [1, 4, 9]
    assert [made[name].last_record for name in group] == [6, 7, 8]
    assert {each.consistency for each in made.values()} == {Consistency.APPLICATION}


async def test_the_consistency_of_a_cut_arrives_with_it(both: Pair) -> None:
    await both.replicate(CutKind.FULL, 1)
    made = await both.tokyo.cut_group(
        [MACHINE], CutKind.DELTA, {MACHINE: 2}, NOW, Consistency.APPLICATION
    )
    applied = await both.send(made[MACHINE])
    assert applied == AppliedCut(2, 0, NOW, Consistency.APPLICATION)
    assert both.osaka.backend.applied_cut(MACHINE) == applied
    assert both.osaka.answers.applied[-1] == (MACHINE, applied)


async def test_a_disk_grows_on_both_ends_and_nothing_is_copied_again(both: Pair) -> None:
    total = fill(both)
    await both.replicate(CutKind.FULL, 1)
    await both.osaka.backend.make_point(MACHINE, PointKind.STANDARD)
    before = contents(both.replica_disks)
    size = LARGE[2] + 20 * BLOCK + 512
    both.write(2, 0, b"before", 9)
    both.primary_disks[:] = await both.tokyo.resize_disk(MACHINE, 2, size)
    both.write(2, size - 10, b"at the end", 10)
    with pytest.raises(TransferRefusedError, match="give both ends the same") as refused:
        await both.replicate(CutKind.DELTA, 2)
    assert refused.value.code == Code.DISK_SIZES_DIFFER
    both.replica_disks[:] = await both.osaka.backend.resize_disk(MACHINE, 2, size)
    assert both.tokyo.tracked_bytes(MACHINE) < 3 * BLOCK < total
    await both.replicate(CutKind.DELTA, 2)
    assert both.equal()
    point = both.osaka.backend.recovery_points(MACHINE)[-1]
    await both.osaka.backend.promote(MACHINE, point.point_id)
    assert [
        content[: len(old)]
        for content, old in zip(contents(both.replica_disks), before, strict=True)
    ] == before
    assert not contents(both.replica_disks)[2][len(before[2]) :].strip(b"\0")


async def test_a_disk_that_shrank_and_grew_again_is_the_same_on_both_ends(both: Pair) -> None:
    fill(both)
    await both.replicate(CutKind.FULL, 1)
    await both.osaka.backend.make_point(MACHINE, PointKind.STANDARD)
    await both.tokyo.resize_disk(MACHINE, 0, 50 * BLOCK + 100)
    both.primary_disks[:] = await both.tokyo.resize_disk(MACHINE, 0, LARGE[0])
    await both.replicate(CutKind.DELTA, 2)
    assert both.equal()
    both.primary_disks[:] = await both.tokyo.resize_disk(MACHINE, 0, 40 * BLOCK)
    both.replica_disks[:] = await both.osaka.backend.resize_disk(MACHINE, 0, 40 * BLOCK)
    both.write(0, 39 * BLOCK, b"end")
    await both.replicate(CutKind.DELTA, 3)
    assert both.equal()
    point = both.osaka.backend.recovery_points(MACHINE)[-1]
    with pytest.raises(BackendStateError, match="before a disk was made smaller"):
        await both.osaka.backend.promote(MACHINE, point.point_id)


async def test_a_disk_is_added_with_what_is_on_it(both: Pair, tmp_path: Path) -> None:
    fill(both)
    await both.replicate(CutKind.FULL, 1)
    ours, theirs = (
        DiskFile("disk-3", tmp_path / place / "added.raw", 9 * BLOCK + 512)
        for place in ("tokyo-disks", "osaka-disks")
    )
    make_files([ours])
    with ours.path.open("r+b") as file:
        file.seek(5 * BLOCK)
        file.write(b"was there before")
    for _ in range(2):
        both.primary_disks[:] = await both.tokyo.add_disk(MACHINE, ours)
        both.replica_disks[:] = await both.osaka.backend.add_disk(MACHINE, theirs)
    assert both.primary_disks[-1] == ours
    both.write(3, 0, b"new")
    await both.replicate(CutKind.DELTA, 2)
    assert both.equal()


@pytest.mark.parametrize("step", range(4))
async def test_a_kill_while_a_disk_is_added_and_another_grows_is_made_good_by_repeating(
    both: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    fill(both)
    await both.replicate(CutKind.FULL, 1)
    both.write(0, 0, b"marked before")
    added = DiskFile("disk-3", tmp_path / "tokyo-disks" / "added.raw", 9 * BLOCK)
    make_files([added])
    added.path.write_bytes(b"x" * 9 * BLOCK)
    where = (
        "vmm_simulator.hyperv.machine.fulfil",
        "vmm_simulator.hyperv.change_map.ChangeMap.flush",
        "vmm_simulator.hyperv.change_map.TrackedChanges._write_state",
        "vmm_simulator.hyperv.change_map.ChangeMap.discard",
    )[step]

    def die(*_: object) -> None:
        raise OSError("killed here")

    with monkeypatch.context() as patch:
        patch.setattr(where, die)
        with pytest.raises(OSError, match="killed here"):
            await both.tokyo.add_disk(MACHINE, added)
    kill(both.tokyo)
    old = list(both.primary_disks)
    both.tokyo = await reopened(tmp_path / "tokyo", {MACHINE: old}, PRIMARY_FQDN)
    with pytest.raises(BackendStateError, match="was interrupted: repeat it"):
        await both.tokyo.attach(MACHINE, old)
    both.primary_disks[:] = await both.tokyo.add_disk(MACHINE, added)
    await both.tokyo.attach(MACHINE, both.primary_disks)
    theirs = replace(added, path=tmp_path / "osaka-disks" / "added.raw")
    both.replica_disks[:] = await both.osaka.backend.add_disk(MACHINE, theirs)
    both.primary_disks[:] = await both.tokyo.resize_disk(MACHINE, 1, 3 * BLOCK)
    both.replica_disks[:] = await both.osaka.backend.resize_disk(MACHINE, 1, 3 * BLOCK)
    both.write(1, 2 * BLOCK, b"on what was empty")
    await both.replicate(CutKind.DELTA, 2)
    assert both.equal()


async def test_disks_of_a_copy_in_doubt_keep_their_sizes(both: Pair) -> None:
    with pytest.raises(ValueError, match="no disk 7"):
        await both.tokyo.resize_disk(MACHINE, 7, BLOCK)
    with pytest.raises(ValueError, match="one more disk"):
        await both.tokyo.add_disk(MACHINE, replace(both.primary_disks[0], disk_id="again"))
    await both.osaka.backend.await_import(MACHINE)
    with pytest.raises(BackendStateError, match="waits for an import"):
        await both.osaka.backend.resize_disk(MACHINE, 0, BLOCK)
    await both.replicate(CutKind.FULL, 1)
    await both.osaka.backend.promote(MACHINE, None)
    with pytest.raises(BackendStateError, match="failed over"):
        await both.osaka.backend.resize_disk(MACHINE, 0, BLOCK)
