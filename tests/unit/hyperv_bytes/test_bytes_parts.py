"""Marks of parts of blocks: what was written is sent, also after kills and returned cuts."""

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.hyperv_bytes.bytes_harness import (
    MACHINE,
    NOW,
    Pair,
    contents,
    on_uvloop,
    pair,
)
from vmm_simulator.hyperv.apply import TouchedBlocks
from vmm_simulator.hyperv.backend import CutKind
from vmm_simulator.hyperv.blocks import BLOCK_BYTES
from vmm_simulator.hyperv.change_map import ChangeMap, TrackedChanges
from vmm_simulator.hyperv.frames import Frame
from vmm_simulator.hyperv.parts import ALL_PARTS, PART_BYTES, Piece, parts_touched, pieces

SIZE = 40 * BLOCK_BYTES + 5_000
WRITES = 60


@given(st.integers(0, SIZE - 1), st.integers(1, 3 * BLOCK_BYTES))
def test_a_write_touches_the_parts_it_lies_in(offset: int, length: int) -> None:
    touched = {
        block * 8 + part
        for block, parts in parts_touched(offset, length)
        for part in range(8)
        if parts >> part & 1
    }
    assert touched == set(range(offset // PART_BYTES, (offset + length - 1) // PART_BYTES + 1))


def test_a_mark_says_the_parts_and_the_blocks_that_a_write_lies_in(tmp_path: Path) -> None:
    random = Random(7)  # noqa: S311 -- places of test writes
    around_edges = [index * PART_BYTES + shift for index in range(10) for shift in (-1, 0, 1)][1:]
    for index, offset in enumerate([*around_edges, *(random.randrange(SIZE) for _ in range(40))]):
        length = min(random.choice((1, PART_BYTES, 16_384, BLOCK_BYTES, 150_000)), SIZE - offset)
        # One of its own for each: what is marked already would hide a mark that is missing.
        changes = ChangeMap(tmp_path / f"marks-{index:010d}-000.map", SIZE, parts=True)
        changes.mark(offset, length)
        touched = dict(parts_touched(offset, length))
        assert changes.parts is not None
        found = {block: parts for block, parts in enumerate(changes.parts[:]) if parts}
        assert found == touched
        assert {block for block in range(41) if changes.has(block)} == set(touched)
        changes.discard()


def test_pieces_are_joined_over_blocks_and_end_with_the_disk() -> None:
    parts = [0b1000_0001, 0b0000_0011, 0, 1, 0b11]
    zero = [False, False, False, True, False]
    length = 4 * BLOCK_BYTES + PART_BYTES + 512
    assert pieces(length, parts, zero) == [
        Piece(0, PART_BYTES, zero=False),
        Piece(7 * PART_BYTES, BLOCK_BYTES + 2 * PART_BYTES, zero=False),
        Piece(2 * BLOCK_BYTES, 3 * BLOCK_BYTES, zero=False),
        Piece(3 * BLOCK_BYTES, 4 * BLOCK_BYTES, zero=True),
        Piece(4 * BLOCK_BYTES, length, zero=False),
    ]


def known(changes: TrackedChanges) -> list[int]:
    """Take a cut; returns what it says of the parts of the first disk's blocks."""
    changes.swap()
    (parts,) = changes.cut_parts
    assert parts is not None
    return list(parts[:])


def test_parts_survive_a_kill_a_returned_cut_and_a_clean_end(tmp_path: Path) -> None:
    changes = TrackedChanges.start(tmp_path, [SIZE])
    changes.mark(0, PART_BYTES, 1)
    changes.give_back(changes.swap())
    changes.mark(0, 0, 1)
    changes.swap()
    changes.mark(0, BLOCK_BYTES - 1, 2)
    for end in ("kill", "close"):
        again = TrackedChanges.reopen(tmp_path)
        assert again is not None
        assert known(again)[:3] == [0b1000_0011, 1, 0]
        if end == "close":
            again.close()
    again = TrackedChanges.reopen(tmp_path)
    assert again is not None
    again.merge([b"\x02".ljust(6, b"\0")])
    assert known(again)[:3] == [0b1000_0011, ALL_PARTS, 0]


def test_where_much_counts_whole_no_parts_are_kept(tmp_path: Path) -> None:
    changes = TrackedChanges.start(tmp_path, [SIZE])
    changes.mark_everything()
    changes.mark(0, 0, 1)
    changes.swap()
    assert changes.cut_parts == [None]
    again = TrackedChanges.reopen(tmp_path)
    assert again is not None
    again.swap()
    assert again.cut_parts == [None]
    again.stop()
    assert list(tmp_path.iterdir()) == []


@on_uvloop
async def test_a_delta_is_what_was_written_in_parts_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: set[int] = set()
    add = TouchedBlocks.add

    def note(touched: TouchedBlocks, frame: Frame) -> None:
        end = frame.offset + frame.length
        sent.update(range(frame.offset // PART_BYTES, -(-end // PART_BYTES)))
        add(touched, frame)

    monkeypatch.setattr(TouchedBlocks, "add", note)
    chance = Random(7)  # noqa: S311 -- no secret
    async with pair(tmp_path, (SIZE,)) as both:
        both.write(0, 0, chance.randbytes(SIZE))
        await both.replicate(CutKind.FULL, 1)
        touched: set[int] = set()
        for cut, sends in ((2, True), (3, True), (4, False), (4, True), (5, True)):
            touched |= write_at_random(both, chance)
            change_set = await both.tokyo.cut(MACHINE, CutKind.DELTA, cut, NOW)
            expected = contents(both.primary_disks)
            later = write_at_random(both, chance)
            if not sends:
                # Not sent: the next one contains it.
                touched |= later
                await both.tokyo.release(change_set, acknowledged=False)
                continue
            address = replace(both.osaka.address, compression=cut == 3)
            await both.tokyo.send(change_set, address, both.header(change_set), lambda _: None)
            await both.tokyo.release(change_set, acknowledged=True)
            await both.osaka.backend.apply_committed(MACHINE)
            assert contents(both.replica_disks) == expected
            assert sent == touched
            sent.clear()
            touched = later


def write_at_random(both: Pair, chance: Random) -> set[int]:
    """Write at random places, also zeros; returns the parts that were touched."""
    touched: set[int] = set()
    for record in range(WRITES):
        offset = chance.randrange(SIZE - 1)
        length = min(chance.randrange(1, 20_000), SIZE - offset)
        both.write(0, offset, bytes(length) if record % 5 == 0 else chance.randbytes(length))
        touched |= set(range(offset // PART_BYTES, (offset + length - 1) // PART_BYTES + 1))
    return touched
