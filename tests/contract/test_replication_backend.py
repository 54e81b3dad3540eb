"""What every back end must do, against the interface; a new one joins BACKENDS."""

from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import pytest

from tests.unit.hyperv_bytes.bytes_harness import (
    BLOCK,
    MACHINE,
    NOW,
    SIZES,
    Pair,
    allocated,
    contents,
    make_disks,
    pair,
)
from vmm_simulator.hyperv.backend import (
    AppliedCut,
    BackendStateError,
    CutKind,
    PeerAddress,
    TransferRefusedError,
)
from vmm_simulator.hyperv.incoming import Incoming

BACKENDS = {"embedded": pair}


@pytest.fixture(params=BACKENDS)
async def both(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    async with BACKENDS[request.param](tmp_path) as made:
        yield made


async def test_a_full_copy_and_changes_make_both_equal(both: Pair) -> None:
    both.write(0, 100, b"a" * 200_000, 1)
    both.write(1, SIZES[1] - 10, b"b" * 10, 2)
    applied = await both.replicate(CutKind.FULL, 1)
    assert (applied.cut, applied.last_record, applied.taken_at) == (1, 2, NOW)
    assert both.equal()
    assert both.tokyo.pending_bytes(MACHINE) == 0
    both.write(0, 5, b"c", 3)
    both.write(1, 0, b"d" * 70_000, 4)
    assert both.tokyo.pending_bytes(MACHINE) == 3 * BLOCK
    assert (await both.replicate(CutKind.DELTA, 2)).last_record == 4
    assert (await both.replicate(CutKind.FINAL, 3)).cut == 3
    assert both.equal()
    newest = await both.replicate(CutKind.DELTA, 4)
    assert both.osaka.backend.applied_cut(MACHINE) == newest
    assert [applied.cut for _, applied in both.osaka.answers.applied] == [1, 2, 3, 4]


async def test_holes_of_the_primary_take_no_space_on_the_replica(both: Pair) -> None:
    both.write(0, 20 * BLOCK, b"a" * 10)
    await both.replicate(CutKind.FULL, 1)
    assert allocated(both.replica_disks[0]) <= BLOCK
    assert allocated(both.replica_disks[1]) == 0


async def test_a_full_copy_replaces_whatever_was_there(both: Pair) -> None:
    for disk in both.replica_disks:
        disk.path.write_bytes(b"old" * (disk.size_bytes // 3) + b"!" * (disk.size_bytes % 3))
    both.write(0, 0, b"new")
    await both.replicate(CutKind.FULL, 1)
    assert both.equal()


async def test_blocks_of_zeros_in_a_delta_are_zeros_and_holes_on_the_replica(both: Pair) -> None:
    both.write(0, 0, b"x" * 10 * BLOCK)
    await both.replicate(CutKind.FULL, 1)
    before = allocated(both.replica_disks[0])
    both.write(0, 2 * BLOCK, bytes(3 * BLOCK))
    await both.replicate(CutKind.DELTA, 2)
    assert both.equal()
    assert allocated(both.replica_disks[0]) == before - 3 * BLOCK


async def test_the_bytes_of_a_cut_stay_those_of_its_moment(both: Pair) -> None:
    both.write(0, 0, b"a" * 30 * BLOCK)
    both.write(1, 0, b"a" * BLOCK)
    frozen = contents(both.primary_disks)
    change_set = await both.tokyo.cut(MACHINE, CutKind.FULL, 1, NOW)
    both.write(0, 0, b"b" * 3 * BLOCK)
    both.write(1, 5 * BLOCK, b"b")  # a hole at the time of the cut
    done: list[int] = []

    def write_on(bytes_done: int) -> None:
        done.append(bytes_done)
        both.write(0, 29 * BLOCK - 7, b"c" * BLOCK)
        both.write(0, 39 * BLOCK, b"c")

    header = both.header(change_set)
    await both.tokyo.send(change_set, both.osaka.address, header, write_on)
    assert contents(both.replica_disks) == frozen
    assert done == sorted(done)
    assert done[-1] == change_set.bytes_total == 31 * BLOCK
    await both.tokyo.release(change_set, acknowledged=True)
    await both.replicate(CutKind.DELTA, 2)
    assert both.equal()


async def test_a_cut_lies_at_one_moment_on_all_disks(both: Pair) -> None:
    await both.replicate(CutKind.FULL, 1)
    numbers = count(1)

    def write_records(how_many: int) -> None:
        for number in islice(numbers, how_many):
            offset = (number % 20) * BLOCK
            both.write(number % 2, offset, number.to_bytes(8, "big"), number)

    for cut in range(2, 5):
        write_records(7)
        change_set = await both.tokyo.cut(MACHINE, CutKind.DELTA, cut, NOW)
        frozen = contents(both.primary_disks)
        write_records(13)
        applied = await both.send(change_set)
        await both.tokyo.release(change_set, acknowledged=True)
        await both.osaka.backend.apply_committed(MACHINE)
        found = contents(both.replica_disks)
        assert found == frozen
        # Numbers alternate between the disks: a skewed cut would show a higher one on one of them.
        top = max(
            int.from_bytes(content[block * BLOCK : block * BLOCK + 8], "big")
            for content in found
            for block in range(20)
        )
        assert top == change_set.last_record == applied.last_record == (cut - 2) * 20 + 7


async def test_a_cut_that_was_not_acknowledged_is_contained_in_the_next(both: Pair) -> None:
    await both.replicate(CutKind.FULL, 1)
    both.write(0, 0, b"a")
    nobody = PeerAddress(both.osaka.address.fqdn, "127.0.0.1", 1)
    change_set = await both.tokyo.cut(MACHINE, CutKind.DELTA, 2, NOW)
    both.write(1, 0, b"b")
    with pytest.raises(OSError, match=r".*"):
        await both.tokyo.send(change_set, nobody, both.header(change_set), lambda _: None)
    assert both.tokyo.pending_bytes(MACHINE) == 2 * BLOCK
    await both.tokyo.release(change_set, acknowledged=False)
    await both.tokyo.release(change_set, acknowledged=True)  # too late: it is released
    assert both.tokyo.pending_bytes(MACHINE) == 2 * BLOCK
    await both.replicate(CutKind.DELTA, 2)
    assert both.equal()
    with pytest.raises(BackendStateError, match="cut again"):
        await both.send(change_set)


async def test_a_cut_that_nobody_released_is_contained_in_the_next(both: Pair) -> None:
    both.write(0, 0, b"a")
    await both.tokyo.cut(MACHINE, CutKind.FULL, 1, NOW)
    await both.replicate(CutKind.FULL, 1)
    both.write(0, 0, b"b")
    await both.tokyo.cut(MACHINE, CutKind.DELTA, 2, NOW)
    await both.replicate(CutKind.DELTA, 2)
    assert both.equal()


async def test_differences_send_only_what_differs(
    both: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    both.write(0, 0, b"a" * 30 * BLOCK)
    both.write(1, 0, b"a" * 10 * BLOCK)
    await both.replicate(CutKind.FULL, 1)
    with both.replica_disks[0].path.open("r+b") as file:
        file.seek(3 * BLOCK)
        file.write(b"z")
        file.seek(35 * BLOCK)  # a hole of the primary
        file.write(b"z")
    with both.replica_disks[1].path.open("r+b") as file:
        file.seek(both.replica_disks[1].size_bytes - 1)  # in the short last block
        file.write(b"z")
    log_bytes: list[int] = []
    folder = both.replica_disks[0].path.parent.parent / "osaka" / MACHINE
    commit = both.osaka.backend.commit_transfer

    async def measured(machine_id: str, incoming: Incoming) -> AppliedCut:
        log_bytes.extend(path.stat().st_size for path in folder.glob("*.spool"))
        return await commit(machine_id, incoming)

    monkeypatch.setattr(both.osaka.backend, "commit_transfer", measured)
    await both.replicate(CutKind.DIFFERENCES, 2)
    assert both.equal()
    assert BLOCK < log_bytes[0] < 2 * BLOCK
    assert allocated(both.replica_disks[1]) == 10 * BLOCK


async def test_a_repeated_transfer_is_acknowledged_again_and_not_applied(both: Pair) -> None:
    await both.replicate(CutKind.FULL, 1)
    both.write(0, 0, b"a")
    change_set = await both.tokyo.cut(MACHINE, CutKind.DELTA, 2, NOW)
    header = both.header(change_set)
    first = await both.send(change_set, header)
    await both.osaka.backend.apply_committed(MACHINE)
    with both.replica_disks[0].path.open("r+b") as file:
        file.write(b"untouched")
    assert await both.send(change_set, header) == first
    assert contents(both.replica_disks)[0].startswith(b"untouched")


async def test_late_early_and_foreign_change_sets_are_refused(both: Pair) -> None:
    with pytest.raises(TransferRefusedError, match="empty"):
        await both.replicate(CutKind.DELTA, 1)
    await both.replicate(CutKind.FULL, 1)
    await both.replicate(CutKind.DELTA, 2)
    before = contents(both.replica_disks)
    both.write(0, 0, b"a")
    for cut, words in ((1, "too late"), (2, "too late"), (4, "gap")):
        with pytest.raises(TransferRefusedError, match=words) as refused:
            await both.replicate(CutKind.DELTA, cut)
        assert refused.value.applied is not None
        assert refused.value.applied.cut == 2
    change_set = await both.tokyo.cut(MACHINE, CutKind.DELTA, 3, NOW)
    foreign = replace(both.header(change_set), relationship_id="another")
    with pytest.raises(TransferRefusedError, match="another relationship"):
        await both.send(change_set, foreign)
    assert contents(both.replica_disks) == before
    await both.send(change_set)


async def test_a_header_that_does_not_describe_its_change_set_is_our_mistake(both: Pair) -> None:
    change_set = await both.tokyo.cut(MACHINE, CutKind.FULL, 1, NOW)
    with pytest.raises(ValueError, match="does not describe"):
        await both.send(change_set, replace(both.header(change_set), cut=2))


async def test_writes_are_refused_when_forbidden_detached_or_off_the_disk(both: Pair) -> None:
    both.tokyo.forbid_writes(MACHINE)
    with pytest.raises(PermissionError, match="fenced"):
        both.write(0, 0, b"a")
    both.tokyo.allow_writes(MACHINE)
    for disk, offset, data in ((2, 0, b"a"), (-1, 0, b"a"), (0, -1, b"a"), (0, SIZES[0], b"a")):
        with pytest.raises(ValueError, match="disk"):
            both.write(disk, offset, data)
    await both.tokyo.flush(MACHINE)
    await both.tokyo.detach(MACHINE)
    await both.tokyo.detach(MACHINE)
    with pytest.raises(PermissionError, match="not attached"):
        both.write(0, 0, b"a")
    assert contents(both.primary_disks) == [bytes(size) for size in SIZES]
    assert both.tokyo.pending_bytes(MACHINE) == 0


async def test_missing_disks_and_unknown_machines_are_named(both: Pair, tmp_path: Path) -> None:
    with pytest.raises(BackendStateError, match=r"gone-0\.raw is missing"):
        await both.tokyo.attach("other", make_disks(tmp_path, "gone"))
    with pytest.raises(BackendStateError, match="not known"):
        await both.tokyo.cut("nobody", CutKind.FULL, 1, NOW)
    with pytest.raises(BackendStateError, match="cannot be the id"):
        both.tokyo.is_tracking("../escape")
    assert both.tokyo.applied_cut("nobody") is None
    assert both.tokyo.pending_bytes("nobody") == 0


async def test_a_machine_that_is_off_is_cut_all_the_same(both: Pair) -> None:
    await both.replicate(CutKind.FULL, 1)
    both.write(0, 0, b"a", 9)
    await both.tokyo.detach(MACHINE)
    assert (await both.replicate(CutKind.FINAL, 2)).last_record == 9
    assert both.equal()


async def test_a_cut_needs_tracking(both: Pair) -> None:
    await both.tokyo.stop_tracking(MACHINE)
    assert not both.tokyo.is_tracking(MACHINE)
    with pytest.raises(BackendStateError, match="start tracking first"):
        await both.tokyo.cut(MACHINE, CutKind.FULL, 1, NOW)


async def test_a_replica_that_notes_its_own_changes_takes_nothing(both: Pair) -> None:
    await both.replicate(CutKind.FULL, 1)
    await both.osaka.backend.start_tracking(MACHINE)
    with pytest.raises(TransferRefusedError, match="own changes"):
        await both.replicate(CutKind.DELTA, 2)
    await both.osaka.backend.stop_tracking(MACHINE)
    await both.replicate(CutKind.DELTA, 2)


async def test_an_incomplete_copy_cannot_be_used(both: Pair) -> None:
    with pytest.raises(BackendStateError, match="empty"):
        await both.osaka.backend.start_tracking(MACHINE)
    with pytest.raises(BackendStateError, match="empty"):
        await both.osaka.backend.attach(MACHINE, both.replica_disks)


async def test_after_a_planned_failover_changes_flow_back_at_once(both: Pair) -> None:
    both.write(0, 0, b"a" * BLOCK, 1)
    await both.replicate(CutKind.FULL, 1)
    await both.tokyo.detach(MACHINE)
    await both.replicate(CutKind.FINAL, 2)
    # Osaka takes over ...
    new, old = both.osaka.backend, both.tokyo
    await new.attach(MACHINE, both.replica_disks)
    await new.start_tracking(MACHINE)
    new.write(MACHINE, 1, 3 * BLOCK, b"b", 2)
    # ... and tokyo follows: served by its own port, it would take what osaka cuts.
    await old.stop_tracking(MACHINE)
    await old.forget_applied_cut(MACHINE)
    await old.create_replica_disks(MACHINE, both.primary_disks)
    await new.forget_applied_cut(MACHINE)
    change_set = await new.cut(MACHINE, CutKind.DELTA, 1, NOW)
    assert (change_set.last_record, change_set.bytes_total) == (2, BLOCK)
    header = replace(both.header(change_set), epoch=2)
    incoming = await old.open_transfer(MACHINE, header)
    assert isinstance(incoming, Incoming)
    await old.end_transfer(MACHINE, incoming)


async def test_a_test_copy_is_a_machine_of_its_own(both: Pair, tmp_path: Path) -> None:
    both.write(0, 7 * BLOCK, b"a" * BLOCK)
    await both.replicate(CutKind.FULL, 1)
    backend = both.osaka.backend
    copies = await backend.copy_for_test(MACHINE, "test-1", tmp_path / "tests")
    assert contents(copies) == contents(both.replica_disks)
    assert [copy.disk_id for copy in copies] == [disk.disk_id for disk in both.replica_disks]
    assert allocated(copies[0]) <= 2 * BLOCK
    await backend.attach("test-1", copies)
    backend.write("test-1", 0, 0, b"test", 0)
    assert await backend.copy_for_test(MACHINE, "test-1", tmp_path / "tests") == copies
    both.write(0, 0, b"b")
    await both.replicate(CutKind.DELTA, 2)
    assert both.equal()
    with pytest.raises(BackendStateError, match="detach it first"):
        await backend.remove_disks("test-1", copies)
    await backend.detach("test-1")
    await backend.remove_disks("test-1", copies)
    await backend.remove_disks("test-1", copies)
    assert list((tmp_path / "tests").iterdir()) == []
    assert not (tmp_path / "osaka" / "test-1").exists()


async def test_what_was_left_is_found_again(both: Pair) -> None:
    both.write(0, 0, b"a", 41)
    applied = await both.replicate(CutKind.FULL, 1)
    both.write(1, 0, b"b", 42)
    await both.tokyo.aclose()
    await both.tokyo.recover({MACHINE: both.primary_disks})
    assert both.tokyo.is_tracking(MACHINE)
    assert both.tokyo.pending_bytes(MACHINE) == BLOCK
    await both.osaka.backend.aclose()
    assert both.osaka.backend.applied_cut(MACHINE) == applied
    await both.osaka.backend.recover({MACHINE: both.replica_disks})
    assert (await both.replicate(CutKind.DELTA, 2)).last_record == 42
    assert both.equal()
