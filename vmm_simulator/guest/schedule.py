"""The seeded rewrites of a guest: which block rewrite n replaces, and with what.

Pure. Rewrite n is done, and durable, before record n is written; so a disk whose newest record is
n holds the rewrites 1 to n, and possibly n + 1, which was in flight. What the files must hold
follows from the seed and the newest record alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from blake3 import blake3

BLOCK_BYTES: Final = 4096
REWRITE_BLOCKS_MAX: Final = 1 << 14


@dataclass(frozen=True, slots=True)
class RewriteTarget:
    """A file that is rewritten in place: the guest's own count of disks, and the path in it."""

    disk: int
    path: str
    blocks: int


@dataclass(frozen=True, slots=True)
class RewritePlace:
    """One block of one target (an index into the list)."""

    target: int
    block: int


@dataclass(frozen=True, slots=True)
class ExpectedFile:
    """What a rewritten file must hold; `in_flight` is what it may hold as well."""

    target: RewriteTarget
    expected: bytes
    in_flight: bytes | None


def original_block(path: str, block: int) -> bytes:
    """Return what a block of a rewrite file holds before its first rewrite; never all zero."""
    name = b"site-recovery-original" + path.encode() + b"\0" + block.to_bytes(8, "little")
    return blake3(name).digest(BLOCK_BYTES)


def original_file(path: str, blocks: int) -> bytes:
    """Return the whole of a rewrite file before its first rewrite."""
    return b"".join(original_block(path, block) for block in range(blocks))


class RewriteSchedule:
    """All rewrites of one guest, from its seed; the order of the targets matters."""

    def __init__(self, seed: bytes, targets: Sequence[RewriteTarget]) -> None:
        self.seed = seed
        self.targets = tuple(targets)
        blocks = sum(target.blocks for target in self.targets)
        if not 1 <= blocks <= REWRITE_BLOCKS_MAX:
            raise ValueError(
                f"the rewrite list has {blocks} blocks, allowed are 1 to {REWRITE_BLOCKS_MAX}"
            )
        self._places = [
            RewritePlace(index, block)
            for index, target in enumerate(self.targets)
            for block in range(target.blocks)
        ]

    def place(self, number: int) -> RewritePlace:
        """Return which block rewrite `number` replaces."""
        name = b"site-recovery-rewrite" + self.seed + number.to_bytes(8, "little")
        return self._places[int.from_bytes(blake3(name).digest(8), "little") % len(self._places)]

    def content(self, number: int) -> bytes:
        """Return what rewrite `number` puts there."""
        name = b"site-recovery-content" + self.seed + number.to_bytes(8, "little")
        return blake3(name).digest(BLOCK_BYTES)

    def newest(self, top: int) -> Mapping[RewritePlace, int]:
        """Return for each block rewritten up to `top` the newest rewrite of it.

        Goes backwards and stops when all blocks are known: the cost depends on the blocks
        (about n log n draws), not on how long the guest has run.
        """
        found: dict[RewritePlace, int] = {}
        for number in range(top, 0, -1):
            found.setdefault(self.place(number), number)
            if len(found) == len(self._places):
                break
        return found

    def expected_files(self, top: int) -> Sequence[ExpectedFile]:
        """Return what each file must hold when record `top` is the newest on the disks."""
        contents = [bytearray(original_file(t.path, t.blocks)) for t in self.targets]
        for place, number in self.newest(top).items():
            _replace(contents[place.target], place.block, self.content(number))
        next_place = self.place(top + 1)
        files = []
        for index, target in enumerate(self.targets):
            in_flight = None
            if index == next_place.target:
                ahead = bytearray(contents[index])
                _replace(ahead, next_place.block, self.content(top + 1))
                in_flight = bytes(ahead)
            files.append(ExpectedFile(target, bytes(contents[index]), in_flight))
        return files


def _replace(content: bytearray, block: int, data: bytes) -> None:
    content[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES] = data
