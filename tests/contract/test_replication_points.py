"""Recovery points of every back end: kept, gone back to, taken back, committed, copied."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.hyperv_bytes.bytes_harness import (
    BLOCK,
    MACHINE,
    NOW,
    REPLICA_FQDN,
    SIZES,
    Pair,
    contents,
    kill,
    pair,
    reopened,
)
from vmm_simulator.hyperv import change_map, promotion
from vmm_simulator.hyperv.backend import (
    BackendStateError,
    CutKind,
    PointKind,
    RecoveryPoint,
    TransferRefusedError,
)

BACKENDS = {"embedded": pair}


@pytest.fixture(params=BACKENDS)
async def both(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    async with BACKENDS[request.param](tmp_path) as made:
        yield made


class Past:
    """What the replica held after each change set, and the points that were kept."""

    def __init__(self, both: Pair) -> None:
        self.both = both
        self.states: dict[int, list[bytes]] = {}
        self.points: dict[int, RecoveryPoint] = {}

    async def take(self, cut: int, *, keep: bool) -> None:
        """Write something that overlaps with what was before, replicate it, keep a point."""
        fill = bytes([cut])
        self.both.write(0, cut * BLOCK // 2, fill * BLOCK, cut)
        self.both.write(1, 3 * BLOCK, fill * 100, cut)
        if cut % 3 == 0:
            self.both.write(0, 0, bytes(2 * BLOCK), cut)
        await self.both.replicate(CutKind.FULL if cut == 1 else CutKind.DELTA, cut)
        self.states[cut] = contents(self.both.replica_disks)
        if keep:
            kind = PointKind.APPLICATION_CONSISTENT if cut % 2 else PointKind.STANDARD
            self.points[cut] = await self.both.osaka.backend.make_point(MACHINE, kind)


@pytest.fixture
async def past(both: Pair) -> Past:
    """Eight change sets; points after the 2nd, 4th and 7th."""
    past = Past(both)
    for cut in range(1, 9):
        await past.take(cut, keep=cut in (2, 4, 7))
    return past


async def reopen_osaka(both: Pair, tmp_path: Path) -> None:
    kill(both.osaka.backend)
    backend = await reopened(tmp_path / "osaka", {MACHINE: both.replica_disks}, REPLICA_FQDN)
    both.osaka.backend = backend
    both.osaka.listener._backend = backend


async def test_points_are_listed_the_newest_first(past: Past) -> None:
    found = past.both.osaka.backend.recovery_points(MACHINE)
    assert [point.cut for point in found] == [8, 7, 4, 2]
    assert found[1:] == [past.points[7], past.points[4], past.points[2]]
    assert found[0].kind is PointKind.STANDARD
    assert found[1].kind is PointKind.APPLICATION_CONSISTENT
    assert [point.last_record for point in found] == [8, 7, 4, 2]
    assert {point.machine_id for point in found} == {MACHINE}
    assert found[0].taken_at == NOW
    assert len({point.point_id for point in found}) == 4


async def test_a_point_that_is_made_again_is_the_same(past: Past) -> None:
    backend = past.both.osaka.backend
    one = await backend.make_point(MACHINE, PointKind.STANDARD)
    two = await backend.make_point(MACHINE, PointKind.APPLICATION_CONSISTENT)
    assert (one.point_id, two.kind) == (two.point_id, PointKind.APPLICATION_CONSISTENT)
    assert [point.cut for point in backend.recovery_points(MACHINE)] == [8, 7, 4, 2]


@pytest.mark.parametrize("cut", [2, 4, 7, 8])
@pytest.mark.parametrize("killed", [False, True])
async def test_any_point_is_gone_back_to_and_taken_back(
    past: Past, tmp_path: Path, cut: int, killed: bool
) -> None:
    both = past.both
    points = {point.cut: point for point in both.osaka.backend.recovery_points(MACHINE)}
    for _ in range(2):
        assert await both.osaka.backend.promote(MACHINE, points[cut].point_id) == points[cut]
        assert contents(both.replica_disks) == past.states[cut]
    backend = both.osaka.backend
    await backend.attach(MACHINE, both.replica_disks)
    await backend.start_tracking(MACHINE)
    backend.write(MACHINE, 0, 5 * BLOCK - 10, b"guest" * 100_000, 100)
    backend.write(MACHINE, 1, SIZES[1] - 1, b"g", 101)
    if killed:
        await reopen_osaka(both, tmp_path)
    assert both.osaka.backend.promoted_point(MACHINE) == points[cut]
    with pytest.raises(TransferRefusedError):
        await both.replicate(CutKind.DELTA, 9)
    await both.osaka.backend.detach(MACHINE)
    assert await both.osaka.backend.revert(MACHINE)
    assert contents(both.replica_disks) == past.states[8]
    assert await both.osaka.backend.revert(MACHINE)
    assert both.osaka.backend.promoted_point(MACHINE) is None
    await past.take(9, keep=False)
    assert both.equal()
    found = both.osaka.backend.recovery_points(MACHINE)
    assert [point.cut for point in found] == [9, 7, 4, 2]
    await both.osaka.backend.promote(MACHINE, points[2].point_id)
    assert contents(both.replica_disks) == past.states[2]


async def test_the_newest_is_what_is_promoted_to_where_nothing_is_said(past: Past) -> None:
    backend = past.both.osaka.backend
    point = await backend.promote(MACHINE, None)
    assert point is not None
    assert point.cut == 8
    assert contents(past.both.replica_disks) == past.states[8]
    with pytest.raises(BackendStateError, match="revert that first"):
        await backend.promote(MACHINE, past.points[4].point_id)
    with pytest.raises(BackendStateError, match="failed over"):
        await backend.copy_for_test(MACHINE, "test-1", Path("/nowhere"))
    with pytest.raises(BackendStateError, match="failed over"):
        await backend.make_point(MACHINE, PointKind.STANDARD)


async def test_a_committed_failover_keeps_its_disks_and_nothing_else(
    past: Past, tmp_path: Path
) -> None:
    both = past.both
    backend = both.osaka.backend
    await backend.promote(MACHINE, past.points[4].point_id)
    await backend.attach(MACHINE, both.replica_disks)
    await backend.start_tracking(MACHINE)
    for _ in range(2):
        await backend.commit(MACHINE)
        assert contents(both.replica_disks) == past.states[4]
        assert [point.cut for point in backend.recovery_points(MACHINE)] == [4]
    folder = tmp_path / "osaka" / MACHINE
    assert not [*folder.glob("*.undo"), *folder.glob("revert-*")]
    await backend.detach(MACHINE)
    with pytest.raises(BackendStateError, match="is committed"):
        await backend.revert(MACHINE)
    await backend.stop_tracking(MACHINE)
    with pytest.raises(TransferRefusedError, match="failed over"):
        await both.replicate(CutKind.DELTA, 9)
    # A new lineage takes changes again: here the copy follows another primary.
    await backend.forget_applied_cut(MACHINE)
    await backend.create_replica_disks(MACHINE, both.replica_disks)
    await both.replicate(CutKind.DIFFERENCES, 9)
    assert both.equal()


async def test_a_point_that_was_promoted_to_counts_as_a_change(past: Past) -> None:
    backend = past.both.osaka.backend
    await backend.promote(MACHINE, past.points[4].point_id)
    await backend.start_tracking(MACHINE)
    differing = sum(
        one[start : start + BLOCK] != other[start : start + BLOCK]
        for one, other in zip(past.states[8], past.states[4], strict=True)
        for start in range(0, len(one), BLOCK)
    )
    assert backend.pending_bytes(MACHINE) >= differing * BLOCK > 0


async def test_the_oldest_points_are_dropped_with_what_only_they_need(
    past: Past, tmp_path: Path
) -> None:
    backend = past.both.osaka.backend
    folder = tmp_path / "osaka" / MACHINE
    assert len(list(folder.glob("*.undo"))) == 6
    await backend.merge_points(MACHINE, 3)
    assert len(list(folder.glob("*.undo"))) == 6
    await backend.merge_points(MACHINE, 1)
    assert [point.cut for point in backend.recovery_points(MACHINE)] == [8, 7]
    assert len(list(folder.glob("*.undo"))) == 1
    await backend.drop_points(MACHINE)
    assert [point.cut for point in backend.recovery_points(MACHINE)] == [8]
    assert not list(folder.glob("*.undo"))
    await past.take(9, keep=False)
    assert not list(folder.glob("*.undo"))


async def test_after_a_resynchronization_and_a_full_copy_the_points_are_gone(past: Past) -> None:
    both = past.both
    both.write(0, 0, b"resync" * 1000, 9)
    await both.replicate(CutKind.DIFFERENCES, 9)
    assert [point.cut for point in both.osaka.backend.recovery_points(MACHINE)] == [9]
    await both.osaka.backend.make_point(MACHINE, PointKind.STANDARD)
    await both.replicate(CutKind.FULL, 10)
    assert [point.cut for point in both.osaka.backend.recovery_points(MACHINE)] == [10]
    assert both.equal()
    await both.replicate(CutKind.FINAL, 11)
    (newest,) = both.osaka.backend.recovery_points(MACHINE)
    assert newest.kind is PointKind.PLANNED


async def test_a_damaged_undo_log_loses_older_points_only(past: Past, tmp_path: Path) -> None:
    both = past.both
    backend = both.osaka.backend
    damaged = tmp_path / "osaka" / MACHINE / f"cut-{6:019d}.undo"
    data = bytearray(damaged.read_bytes())
    data[-100] ^= 1
    damaged.write_bytes(data)
    before = contents(both.replica_disks)
    with pytest.raises(BackendStateError, match=r"change set 6 is damaged .* choose a newer one"):
        await backend.promote(MACHINE, past.points[4].point_id)
    assert contents(both.replica_disks) == before
    assert [point.cut for point in backend.recovery_points(MACHINE)] == [8, 7]
    await past.take(9, keep=True)
    await reopen_osaka(both, tmp_path)
    backend = both.osaka.backend
    assert [point.cut for point in backend.recovery_points(MACHINE)] == [9, 7]
    await backend.promote(MACHINE, past.points[7].point_id)
    assert contents(both.replica_disks) == past.states[7]


async def test_a_test_copy_is_made_of_any_point(past: Past, tmp_path: Path) -> None:
    backend = past.both.osaka.backend
    for cut, point in past.points.items():
        copies = await backend.copy_for_test(
            MACHINE, f"test-{cut}", tmp_path / "tests", point.point_id
        )
        assert contents(copies) == past.states[cut]
    assert contents(past.both.replica_disks) == past.states[8]
    with pytest.raises(BackendStateError, match="no recovery point"):
        await backend.copy_for_test(MACHINE, "test-0", tmp_path / "tests", "unheard-of")
    await past.take(9, keep=False)
    assert past.both.equal()


async def test_an_unknown_point_changes_nothing(past: Past) -> None:
    with pytest.raises(BackendStateError, match="no recovery point"):
        await past.both.osaka.backend.promote(MACHINE, "unheard-of")
    await past.take(9, keep=False)
    assert past.both.equal()


async def test_when_the_machine_went_down_under_a_guest_the_way_back_is_a_comparison(
    past: Past, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = past.both
    await both.osaka.backend.promote(MACHINE, past.points[4].point_id)
    await both.osaka.backend.attach(MACHINE, both.replica_disks)
    both.osaka.backend.write(MACHINE, 0, 0, b"guest", 100)
    monkeypatch.setattr(promotion, "boot_id", lambda: "another run")
    monkeypatch.setattr(change_map, "boot_id", lambda: "another run")
    await reopen_osaka(both, tmp_path)
    backend = both.osaka.backend
    assert not await backend.revert(MACHINE)
    assert "altered" in backend.resynchronization_reason(MACHINE)
    with pytest.raises(TransferRefusedError, match="resynchronization only"):
        await both.replicate(CutKind.DELTA, 9)
    await both.replicate(CutKind.DIFFERENCES, 9)
    assert both.equal()
    assert backend.resynchronization_reason(MACHINE) == ""


async def test_a_replica_that_was_altered_by_someone_else_needs_a_comparison(past: Past) -> None:
    both = past.both
    with both.replica_disks[1].path.open("r+b") as file:
        file.seek(5 * BLOCK)
        file.write(b"someone else")
    # Times of files move in steps: be sure that this one moved.
    later = both.replica_disks[1].path.stat().st_mtime_ns + 1_000_000_000
    os.utime(both.replica_disks[1].path, ns=(later, later))
    with pytest.raises(TransferRefusedError, match="altered"):
        await both.replicate(CutKind.DELTA, 9)
    assert "altered" in both.osaka.backend.resynchronization_reason(MACHINE)
    assert both.osaka.backend.recovery_points(MACHINE) == []
    await both.replicate(CutKind.DIFFERENCES, 9)
    assert both.equal()
    await past.take(10, keep=False)
    assert both.equal()


async def test_a_replica_without_any_state_keeps_no_point(both: Pair) -> None:
    backend = both.osaka.backend
    assert backend.recovery_points(MACHINE) == []
    with pytest.raises(BackendStateError, match="no state that could be kept"):
        await backend.make_point(MACHINE, PointKind.STANDARD)
    with pytest.raises(BackendStateError, match="empty"):
        await backend.promote(MACHINE, None)
    with pytest.raises(BackendStateError, match="no replica"):
        await both.tokyo.promote(MACHINE, None)
