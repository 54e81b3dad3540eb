"""Sending a cut: what is read, what is left out, and in which order."""

import asyncio
import mmap
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Final, NamedTuple

import structlog

from vmm_simulator.hyperv.backend import (
    AppliedCut,
    CutKind,
    PeerAddress,
    TransferHeader,
)
from vmm_simulator.hyperv.blocks import (
    BLOCK_BYTES,
    all_marked,
    block_count,
    first_of,
    has_bit,
    left_of,
    length_of_blocks,
    marked_bytes,
    runs,
    set_bits,
)
from vmm_simulator.hyperv.change_map import TrackedChanges
from vmm_simulator.hyperv.copy_before_write import FrozenCut, FrozenDisk
from vmm_simulator.hyperv.digests import (
    DIGEST_BYTES,
    RANGE_BLOCKS_MAX,
    WINDOW_BLOCKS,
    ZERO_DIGEST,
    digest,
    zero_digest,
)
from vmm_simulator.hyperv.disks import ZEROS
from vmm_simulator.hyperv.frames import FRAME_BYTES_MAX, HEADER_BYTES, FrameWriter
from vmm_simulator.hyperv.host_client import HostClient
from vmm_simulator.hyperv.packing import Packer
from vmm_simulator.hyperv.parts import pieces
from vmm_simulator.hyperv.threads import wait_for_end

log = structlog.get_logger(__name__)

BATCH_BYTES: Final = 2 * FRAME_BYTES_MAX
"""Room of one of the two buffers of a transfer: one is read into while the other is sent."""

_WINDOW_FRAMES_BYTES: Final = FRAME_BYTES_MAX + WINDOW_BLOCKS * HEADER_BYTES


class Batch(NamedTuple):
    """Complete frames, and how many bytes of the cut are done with them."""

    frames: memoryview
    done_bytes: int


class Window(NamedTuple):
    """Blocks of one disk that are read at once."""

    disk: int
    first: int
    blocks: int


class Verdict(NamedTuple):
    """What is to become of one block."""

    send: bool
    zero: bool


_WHOLE: Final = frozenset({CutKind.FULL, CutKind.DIFFERENCES})
_DATA: Final = Verdict(send=True, zero=False)
_ZEROS: Final = Verdict(send=True, zero=True)


async def send_cut(
    client: HostClient,
    cut: FrozenCut,
    peer: PeerAddress,
    header: TransferHeader,
    *,
    progress: Callable[[int], None],
    tracked: TrackedChanges | None,
) -> AppliedCut:
    """Ship the cut and return once the replica holds it durably.

    A FULL, or DIFFERENCES, goes on with one that was interrupted, as long as `tracked` knows what
    changed since that began and the replica has something of it.
    """
    cut.begin_reading()
    try:
        place = None
        if header.kind in _WHOLE and tracked is not None:
            header, place = await _agree(client, peer, header, tracked)
        async with client.upload(peer, header) as upload:
            if upload.acknowledged is not None:
                return upload.acknowledged
            shipment = Shipment(
                cut, header, place, Compared(client, peer), compressed=peer.compression
            )
            # From here on it may arrive, whatever is heard of it.
            progress(shipment.done_bytes)
            async with aclosing(shipment.batches()) as batches:
                async for batch in batches:
                    await upload.write(batch.frames)
                    progress(batch.done_bytes)
            await upload.write(shipment.writer.end())
            return await upload.finish()
    finally:
        cut.end_reading()


async def _agree(
    client: HostClient, peer: PeerAddress, header: TransferHeader, tracked: TrackedChanges
) -> tuple[TransferHeader, tuple[int, int] | None]:
    if tracked.copy_id is not None:
        going_on = replace(header, copy_id=tracked.copy_id)
        place = await client.copied(peer, going_on)
        if place is not None:
            log.info("whole_copy_resumed", transfer_id=header.transfer_id, place=place)
            return going_on, place
    # Known durably before the first byte: a transfer that goes on needs all marks since this cut.
    tracked.begin_copy(header.transfer_id)
    return replace(header, copy_id=header.transfer_id), None


class Compared(NamedTuple):
    """The replica that DIFFERENCES are found with."""

    client: HostClient
    peer: PeerAddress


class Shipment:
    """The frames of a cut, in order: whole, or from a place on, or where a replica differs."""

    def __init__(
        self,
        cut: FrozenCut,
        header: TransferHeader,
        place: tuple[int, int] | None = None,
        compared: Compared | None = None,
        *,
        compressed: bool = False,
    ) -> None:
        self.writer = FrameWriter()
        self._packer = Packer() if compressed else None
        self._cut = cut
        self._compared = compared
        self._header = header
        self._going_on = place is not None
        self._place = place or (0, 0)
        self._said = (0, 0)
        self._bitmaps = [_left(index, disk, self._place) for index, disk in enumerate(cut.disks)]
        self._done_bytes = sum(
            marked_bytes(disk.bitmap, disk.size_bytes) - marked_bytes(left, disk.size_bytes)
            for disk, left in zip(cut.disks, self._bitmaps, strict=True)
        )
        self._buffers = [memoryview(bytearray(BATCH_BYTES)) for _ in range(2)]

    @property
    def done_bytes(self) -> int:
        """How many bytes of the cut are done."""
        return self._done_bytes

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """Yield all frames but END; a batch's buffer is valid until the next is asked for."""
        if self._header.kind is not CutKind.DIFFERENCES or self._compared is None:
            for disk_index in range(len(self._cut.disks)):
                async with aclosing(_read_ahead(self._marked(disk_index))) as batches:
                    async for batch in batches:
                        yield batch
            return
        client, peer = self._compared
        async with aclosing(_read_ahead(self._again())) as batches:
            async for batch in batches:
                yield batch
        async for disk_index, first, count in self._ranges(self._compared):
            known = await client.digests(peer, self._header, disk_index, first, count)
            differing = self._differing(disk_index, first, count, known)
            async with aclosing(_read_ahead(differing)) as batches:
                async for batch in batches:
                    yield batch
            # Equal ranges send nothing: say how far it is, and that someone is still here.
            end = self._say_place(self._buffers[0], 0, disk_index, first + count)
            yield Batch(self._buffers[0][:end], self._done_bytes)

    async def _ranges(self, compared: Compared) -> AsyncIterator[tuple[int, int, int]]:
        """Yield where one of the ends has something: a large sparse disk is not looked through."""
        for disk_index, disk in enumerate(self._cut.disks):
            blocks = block_count(disk.size_bytes)
            begin = _blocks_before(disk_index, disk, self._place)
            bitmap = bytearray(disk.bitmap)
            async for first, count in compared.client.allocated(
                compared.peer, self._header, disk_index, blocks, begin
            ):
                set_bits(bitmap, first, first + count - 1)
            for first in range(begin, blocks, RANGE_BLOCKS_MAX):
                if any(bitmap[first >> 3 : (first + RANGE_BLOCKS_MAX + 7) >> 3]):
                    yield disk_index, first, min(RANGE_BLOCKS_MAX, blocks - first)

    def _again(self) -> Iterator[Batch]:
        """Yield what changed in the part that is compared: what was found there is out of date."""

        def judge(_block: int, view: memoryview) -> Verdict:
            return _ZEROS if ZEROS.startswith(view) else _DATA

        for index, disk in enumerate(self._cut.disks):
            done = _blocks_before(index, disk, self._place)
            changed = first_of(self._bitmaps[index], done)
            yield from self._frames(index, runs(changed, WINDOW_BLOCKS), judge)

    def _marked(self, disk_index: int) -> Iterator[Batch]:
        # The replica of a FULL begins with nothing but zeros; all else must say them.
        begins = self._header.kind is CutKind.FULL and not self._going_on
        zeros = Verdict(send=not begins, zero=True)

        def judge(_block: int, view: memoryview) -> Verdict:
            return zeros if ZEROS.startswith(view) else _DATA

        pieces = runs(self._bitmaps[disk_index], WINDOW_BLOCKS)
        return self._frames(disk_index, pieces, judge)

    def _differing(self, disk_index: int, first: int, count: int, known: bytes) -> Iterator[Batch]:
        disk = self._cut.disks[disk_index]

        def judge(block: int, view: memoryview) -> Verdict:
            place = (block - first) * DIGEST_BYTES
            theirs = known[place : place + DIGEST_BYTES]
            zero = ZEROS.startswith(view)
            ours = zero_digest(len(view)) if zero else digest(view)
            return Verdict(send=ours != theirs, zero=zero)

        def windows() -> Iterator[tuple[int, int]]:
            for start in range(first, first + count, WINDOW_BLOCKS):
                blocks = min(WINDOW_BLOCKS, first + count - start)
                place = (start - first) * DIGEST_BYTES
                theirs = known[place : place + blocks * DIGEST_BYTES]
                marked = any(has_bit(disk.bitmap, block) for block in range(start, start + blocks))
                if marked or theirs != ZERO_DIGEST * blocks:
                    yield start, blocks

        return self._frames(disk_index, windows(), judge, compares=True)

    def _frames(
        self,
        disk_index: int,
        pieces: Iterator[tuple[int, int]],
        judge: Callable[[int, memoryview], Verdict],
        *,
        compares: bool = False,
    ) -> Iterator[Batch]:
        buffer, filled = self._next_buffer(), 0
        for first, count in pieces:
            if len(buffer) - filled < _WINDOW_FRAMES_BYTES:
                if compares:
                    # There is room: a window leaves that of one header at least.
                    filled = self._say_place(buffer, filled, disk_index, first)
                yield Batch(buffer[:filled], self._done_bytes)
                buffer, filled = self._next_buffer(), 0
            filled = self._put_window(buffer, filled, Window(disk_index, first, count), judge)
        if filled:
            yield Batch(buffer[:filled], self._done_bytes)

    def _say_place(self, buffer: memoryview, filled: int, disk_index: int, block: int) -> int:
        """Put that all before a block is compared, or, where that is said, that we are alive."""
        offset = min(block * BLOCK_BYTES, self._cut.disks[disk_index].size_bytes)
        if (disk_index, offset) <= self._said:
            return self.writer.idle(buffer, filled)
        self._said = disk_index, offset
        return self.writer.compared(buffer, filled, disk=disk_index, offset=offset)

    def _next_buffer(self) -> memoryview:
        self._buffers.reverse()
        return self._buffers[0]

    def _put_window(
        self,
        buffer: memoryview,
        filled: int,
        window: Window,
        judge: Callable[[int, memoryview], Verdict],
    ) -> int:
        disk_index, first, count = window
        disk = self._cut.disks[disk_index]
        if disk.parts is not None:
            return self._put_parts(buffer, filled, window, disk.parts)
        start = filled + HEADER_BYTES
        view = buffer[start : start + length_of_blocks(first, count, disk.size_bytes)]
        self._cut.read(disk_index, first, count, view)
        verdicts = [
            judge(first + index, view[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES])
            for index in range(count)
        ]
        if all_marked(disk.bitmap, first, count):
            self._done_bytes += len(view)
        else:
            self._done_bytes += sum(
                length_of_blocks(block, 1, disk.size_bytes)
                for block in range(first, first + count)
                if has_bit(disk.bitmap, block)
            )
        offset = first * BLOCK_BYTES
        if verdicts.count(_DATA) == count:
            return self._put_data(buffer, filled, view, disk=disk_index, offset=offset)
        # Several frames need headers between them: rearrange a copy of what was read.
        content = memoryview(bytes(view))
        index = 0
        while index < count:
            verdict, begin = verdicts[index], index
            while index < count and verdicts[index] == verdict:
                index += 1
            if not verdict.send:
                continue
            part = content[begin * BLOCK_BYTES : index * BLOCK_BYTES]
            place = {"disk": disk_index, "offset": offset + begin * BLOCK_BYTES}
            if verdict.zero:
                filled = self.writer.zero(buffer, filled, length=len(part), **place)
            else:
                start = filled + HEADER_BYTES
                data = buffer[start : start + len(part)]
                data[:] = part
                filled = self._put_data(buffer, filled, data, **place)
        return filled

    def _put_parts(self, buffer: memoryview, filled: int, window: Window, parts: mmap.mmap) -> int:
        """Put the parts of marked blocks that changed, moved together where they were read to."""
        disk_index, first, count = window
        start = filled + HEADER_BYTES
        length = length_of_blocks(first, count, self._cut.disks[disk_index].size_bytes)
        view = buffer[start : start + length]
        self._cut.read(disk_index, first, count, view)
        self._done_bytes += length
        zero = [
            ZEROS.startswith(view[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES])
            for index in range(count)
        ]
        # Between two pieces lies more than a header: none is moved over what is still to be moved.
        for piece in pieces(length, parts[first : first + count], zero):
            place = {"disk": disk_index, "offset": first * BLOCK_BYTES + piece.start}
            if piece.zero:
                filled = self.writer.zero(buffer, filled, length=piece.end - piece.start, **place)
                continue
            start = filled + HEADER_BYTES
            data = buffer[start : start + piece.end - piece.start]
            data[:] = view[piece.start : piece.end]
            filled = self._put_data(buffer, filled, data, **place)
        return filled

    def _put_data(
        self, buffer: memoryview, filled: int, data: memoryview, *, disk: int, offset: int
    ) -> int:
        """Put a header before data that is in place, or its compressed form instead of both."""
        packed = None if self._packer is None else self._packer.pack(data)
        if packed is not None:
            return self.writer.packed(
                buffer, filled, packed, disk=disk, offset=offset, of=len(data)
            )
        return self.writer.data(buffer, filled, disk=disk, offset=offset, length=len(data))


def _left(index: int, disk: FrozenDisk, place: tuple[int, int]) -> bytes:
    """Return what is to be sent of a disk when the replica has all before a place."""
    if index > place[0]:
        return disk.bitmap
    return left_of(disk.bitmap, _blocks_before(index, disk, place), disk.marked)


def _blocks_before(index: int, disk: FrozenDisk, place: tuple[int, int]) -> int:
    """Return how many blocks of a disk lie before a place."""
    if index != place[0]:
        return block_count(disk.size_bytes) if index < place[0] else 0
    # A block that is there in part is sent again.
    offset = min(place[1], disk.size_bytes)
    return block_count(disk.size_bytes) if offset == disk.size_bytes else offset // BLOCK_BYTES


async def _read_ahead(batches: Iterator[Batch]) -> AsyncGenerator[Batch, None]:
    """Yield batches that a thread prepares, one ahead of the one that is being sent."""
    loop = asyncio.get_running_loop()
    ahead = loop.run_in_executor(None, next, batches, None)
    try:
        while (batch := await asyncio.shield(ahead)) is not None:
            ahead = loop.run_in_executor(None, next, batches, None)
            yield batch
    finally:
        # The thread reads the files of the cut: they are not let go under it.
        await wait_for_end(ahead)
