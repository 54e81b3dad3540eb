"""Arithmetic of the change maps: blocks of 64 KiB, bitmaps with the lowest block first."""

import re
from collections.abc import Iterator
from typing import Final

BLOCK_BYTES: Final = 65_536
"""What one bit stands for (design: replication, settled by measurement)."""

_SHIFT: Final = 16
_SLICE_BYTES: Final = 4_096
_ONES: Final = re.compile("1+")


def block_count(size_bytes: int) -> int:
    """Return how many blocks a disk has; the last one may be short."""
    return -(-size_bytes // BLOCK_BYTES)


def bitmap_bytes(size_bytes: int) -> int:
    """Return how long the bitmap of a disk is."""
    return -(-block_count(size_bytes) // 8)


def blocks_touched(offset: int, length: int) -> range:
    """Return the blocks that a range of bytes lies in."""
    return range(offset >> _SHIFT, ((offset + length - 1) >> _SHIFT) + 1)


def length_of_blocks(first: int, count: int, size_bytes: int) -> int:
    """Return how many bytes the blocks hold on a disk of this size."""
    return min((first + count) << _SHIFT, size_bytes) - (first << _SHIFT)


def set_bits(bitmap: bytearray, first: int, last: int) -> None:
    """Set the bits from first to last, both included."""
    for block in range(first, min(last, first | 7) + 1):
        bitmap[block >> 3] |= 1 << (block & 7)
    whole = (first | 7) + 1
    if whole > last:
        return
    whole_end = (last + 1) & ~7
    bitmap[whole >> 3 : whole_end >> 3] = b"\xff" * ((whole_end - whole) >> 3)
    for block in range(whole_end, last + 1):
        bitmap[block >> 3] |= 1 << (block & 7)


def has_bit(bitmap: bytes | bytearray, block: int) -> bool:
    """Return whether the block is marked."""
    return bool(bitmap[block >> 3] & (1 << (block & 7)))


def all_marked(bitmap: bytes | bytearray, first: int, count: int) -> bool:
    """Return whether the blocks are marked, every one of them."""
    piece = int.from_bytes(bitmap[first >> 3 : (first + count + 7) >> 3], "little")
    ones = (1 << count) - 1
    return (piece >> (first & 7)) & ones == ones


def union(one: bytes, other: bytes) -> bytes:
    """Return what is marked in either bitmap (of the same length)."""
    both = int.from_bytes(one, "little") | int.from_bytes(other, "little")
    return both.to_bytes(len(one), "little")


def left_of(bitmap: bytes, done: int, again: bytes) -> bytes:
    """Return what is marked from block `done` on, and before it what is in `again` too."""
    before = (1 << done) - 1
    wanted, changed = int.from_bytes(bitmap, "little"), int.from_bytes(again, "little")
    return ((wanted & ~before) | (wanted & changed & before)).to_bytes(len(bitmap), "little")


def first_of(bitmap: bytes, blocks: int) -> bytes:
    """Return what is marked of the first blocks."""
    within = (1 << blocks) - 1
    return (int.from_bytes(bitmap, "little") & within).to_bytes(len(bitmap), "little")


def fitted(bitmap: bytes, size_bytes: int) -> bytes:
    """Return the bitmap as one of a disk of this size: longer, or without what is behind it."""
    length = max(1, bitmap_bytes(size_bytes))
    within = (1 << block_count(size_bytes)) - 1
    return (int.from_bytes(bitmap, "little") & within).to_bytes(length, "little")


def marked_blocks(bitmap: bytes) -> int:
    """Return how many blocks are marked."""
    return int.from_bytes(bitmap, "little").bit_count()


def marked_bytes(bitmap: bytes, size_bytes: int) -> int:
    """Return how many bytes of the disk are marked."""
    total = marked_blocks(bitmap) * BLOCK_BYTES
    last = block_count(size_bytes) - 1
    if last >= 0 and has_bit(bitmap, last):
        total -= BLOCK_BYTES - length_of_blocks(last, 1, size_bytes)
    return total


def runs(bitmap: bytes, blocks_max: int) -> Iterator[tuple[int, int]]:
    """Yield (first block, count) of what is marked, in order, in runs of at most `blocks_max`."""
    for start in range(0, len(bitmap), _SLICE_BYTES):
        piece = bitmap[start : start + _SLICE_BYTES]
        digits = f"{int.from_bytes(piece, 'little'):b}"[::-1]
        for match in _ONES.finditer(digits):
            first, end = start * 8 + match.start(), start * 8 + match.end()
            while first < end:
                count = min(blocks_max, end - first)
                yield first, count
                first += count
