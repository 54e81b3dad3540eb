"""Digests of blocks: what two hosts compare before they send what differs."""

import os
from pathlib import Path
from typing import Final

import blake3

from vmm_simulator.hyperv.blocks import (
    BLOCK_BYTES,
    block_count,
    blocks_touched,
    length_of_blocks,
)
from vmm_simulator.hyperv.disks import ZEROS, allocated_extents, read_exactly

DIGEST_BYTES: Final = 32
RANGE_BLOCKS_MAX: Final = 4_096
"""Blocks per request: 256 MiB of disk, 128 KiB of digests."""

RUNS_MAX: Final = 4_096
"""Allocated runs per answer: 64 KiB."""

WINDOW_BLOCKS: Final = 16


def digest(view: memoryview) -> bytes:
    """Return the digest of one block."""
    return blake3.blake3(view).digest()


def zero_digest(length: int) -> bytes:
    """Return the digest of a block of zeros."""
    return blake3.blake3(ZEROS[:length]).digest()


ZERO_DIGEST: Final = zero_digest(BLOCK_BYTES)


def disk_digests(path: Path, size_bytes: int, first: int, count: int) -> bytes:
    """Return the digests of the blocks, one after the other; holes are not read.

    Blocks behind the end, or more than RANGE_BLOCKS_MAX, are a ValueError.
    """
    if not 0 < count <= RANGE_BLOCKS_MAX or first < 0 or first + count > block_count(size_bytes):
        raise ValueError(f"blocks {first} to {first + count} are not a range of this disk")
    found: list[bytes] = []
    buffer = memoryview(bytearray(WINDOW_BLOCKS * BLOCK_BYTES))
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for start in range(first, first + count, WINDOW_BLOCKS):
            blocks = min(WINDOW_BLOCKS, first + count - start)
            view = buffer[: length_of_blocks(start, blocks, size_bytes)]
            offset = start * BLOCK_BYTES
            data = next(allocated_extents(descriptor, size_bytes, offset), None)
            if data is None or data[0] >= offset + len(view):
                last = length_of_blocks(start + blocks - 1, 1, size_bytes)
                found.append(ZERO_DIGEST * (blocks - 1) + zero_digest(last))
                continue
            read_exactly(descriptor, view, offset)
            found.extend(
                digest(view[position : position + BLOCK_BYTES])
                for position in range(0, len(view), BLOCK_BYTES)
            )
    finally:
        os.close(descriptor)
    return b"".join(found)


def allocated_runs(path: Path, size_bytes: int, first: int, runs_max: int) -> list[tuple[int, int]]:
    """Return (block, count) of what is not a hole, from a block on, in order; so many at most.

    Fewer than `runs_max`: there is nothing behind them. A block outside the disk is a ValueError.
    """
    if not 0 <= first <= block_count(size_bytes):
        raise ValueError(f"block {first} is not on this disk")
    found: list[tuple[int, int]] = []
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for start, end in allocated_extents(descriptor, size_bytes, first * BLOCK_BYTES):
            blocks = blocks_touched(start, end - start)
            if found and blocks.start <= sum(found[-1]):
                begin, _ = found.pop()
                blocks = range(begin, blocks.stop)
            elif len(found) == runs_max:
                break
            found.append((blocks.start, len(blocks)))
    finally:
        os.close(descriptor)
    return found
