"""Which eighths of a block changed: a change set says no more than it must (8 KiB, a byte a block).

A guest's scattered writes of some KiB would otherwise be sent, kept and written as blocks of
64 KiB. A byte of 0 for a block that is marked says nothing: then all of it counts.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from vmm_simulator.hyperv.blocks import BLOCK_BYTES

PARTS: Final = 8
PART_BYTES: Final = BLOCK_BYTES // PARTS
ALL_PARTS: Final = 0xFF
_SHIFT: Final = 13


class Piece(NamedTuple):
    """Bytes of a window, from `start` to `end`, that are sent as one; `zero`: they all are 0."""

    start: int
    end: int
    zero: bool


def parts_touched(offset: int, length: int) -> Sequence[tuple[int, int]]:
    """Return (block, byte of its parts) for a range of bytes."""
    first, last = offset >> _SHIFT, (offset + length - 1) >> _SHIFT
    begin, end = first >> 3, last >> 3
    head, tail = ALL_PARTS << (first & 7) & ALL_PARTS, ALL_PARTS >> (7 - (last & 7))
    if begin == end:
        # Most writes: this is done for each one of a guest.
        return ((begin, head & tail),)
    return [(begin, head), *((block, ALL_PARTS) for block in range(begin + 1, end)), (end, tail)]


def _runs(parts: int) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for index in range(PARTS):
        if not parts >> index & 1:
            continue
        start, end = index * PART_BYTES, (index + 1) * PART_BYTES
        if found and found[-1][1] == start:
            start = found.pop()[0]
        found.append((start, end))
    return tuple(found)


_RUNS: Final = tuple(_runs(parts or ALL_PARTS) for parts in range(ALL_PARTS + 1))


def pieces(length: int, parts: Sequence[int], zero: Sequence[bool]) -> list[Piece]:
    """Return what is sent of a window of blocks, in order, joined where it can be.

    `parts` and `zero` have an item for each block; one of zeros is said as a whole.
    """
    found: list[Piece] = []
    for index, is_zero in enumerate(zero):
        begin = index * BLOCK_BYTES
        for start, end in _RUNS[ALL_PARTS if is_zero else parts[index]]:
            piece = Piece(begin + start, min(begin + end, length), is_zero)
            if piece.start >= piece.end:
                continue
            if found and found[-1].end == piece.start and found[-1].zero == is_zero:
                piece = Piece(found.pop().start, piece.end, is_zero)
            found.append(piece)
    return found
