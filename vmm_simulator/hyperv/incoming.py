"""A change set on its way in: verified frame by frame, to a redo log or straight to the disks."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import structlog

from vmm_simulator.hyperv.apply import OpenDisks, TouchedBlocks
from vmm_simulator.hyperv.backend import TransferHeader
from vmm_simulator.hyperv.direct_io import DirectWriter, receive_buffer
from vmm_simulator.hyperv.frames import FRAME_BYTES_MAX, FrameError, FrameKind, FrameVerifier
from vmm_simulator.hyperv.redo_log import RedoWriter
from vmm_simulator.hyperv.replica_record import PartialCopy
from vmm_simulator.hyperv.threads import InOrder, run_to_end

log = structlog.get_logger(__name__)

CHECKPOINT_BYTES: Final = 256 * 1_048_576
"""After so much of a whole copy it is noted durably how far it is."""

RECEIVE_BYTES: Final = FRAME_BYTES_MAX
RECEIVE_BUFFERS: Final = 4
"""Buffers of a transfer, of one frame each: one is filled while others are verified and written."""


class Body(Protocol):
    """The body of a request."""

    async def read_into(self, view: memoryview) -> int:
        """Fill the view; less than its length is returned at the end of the body only."""

    async def read_piece(self, view: memoryview) -> int:
        """Return as soon as a piece as it was sent is there; 0: the end of the body."""


class Destination(Protocol):
    """Where verified frames go; all methods but `header` block and run in threads.

    `in_pieces`: frames are taken as they come; otherwise buffers are filled first, which is faster.
    """

    header: TransferHeader
    in_pieces: bool

    def take(self, verifier: FrameVerifier, view: memoryview) -> None:
        """Verify complete frames and write them; not yet durable."""

    def commit(self) -> None:
        """Return when the change set is durable and counts."""

    def close(self) -> None:
        """Close what is open; without a commit nothing counts."""


class SpooledCopy:
    """Frames go to a redo log, which is applied after it was acknowledged.

    `committed` is told, in the thread of the commit, when the log is durable, and what it changes.
    """

    in_pieces = False

    def __init__(
        self,
        folder: Path,
        header: TransferHeader,
        sizes: Sequence[int],
        committed: Callable[[TouchedBlocks], None],
    ) -> None:
        self.header = header
        self._touched = TouchedBlocks(sizes)
        self._writer = RedoWriter(folder, header, sizes)
        self._committed = committed

    def take(self, verifier: FrameVerifier, view: memoryview) -> None:
        """Verify complete frames and write them; not yet durable."""
        for frame in verifier.frames(view):
            self._touched.add(frame)
        self._writer.append(view)

    def commit(self) -> None:
        """Return when the change set is durable and counts."""
        self._writer.commit()
        self._committed(self._touched)

    def close(self) -> None:
        """Close what is open; without a commit nothing counts."""
        self._writer.close()


class DirectCopy:
    """Frames go straight to disks that are marked as incomplete: gigabytes are not written twice.

    `note` durably says how far the copy is, now and then and when it is broken off, so that another
    transfer can go on with it; `complete` durably removes the mark.
    """

    in_pieces = False

    def __init__(
        self,
        disks: OpenDisks,
        header: TransferHeader,
        partial: PartialCopy,
        note: Callable[[PartialCopy], None],
        complete: Callable[[TransferHeader], None],
    ) -> None:
        self.header = header
        self._disks = disks
        self._direct = DirectWriter(disks.paths)
        self._partial = partial
        self._noted = partial
        self._note = note
        self._complete = complete
        self._completed = False
        self._since_checkpoint = 0
        self._checkpoints = ThreadPoolExecutor(1, "checkpoint")
        self._checkpoint: Future[None] | None = None

    def take(self, verifier: FrameVerifier, view: memoryview) -> None:
        """Verify complete frames and write them; not yet durable."""
        place = (self._partial.disk, self._partial.offset)
        written: dict[int, tuple[int, int]] = {}
        for frame in verifier.frames(view):
            if frame.kind is FrameKind.ZERO or not self._direct.write(
                frame.disk, frame.payload, frame.offset
            ):
                self._disks.write(frame)
                first, _ = written.get(frame.disk, (frame.offset, 0))
                written[frame.disk] = (first, frame.offset + frame.length)
            # A transfer that goes on sends what changed meanwhile again: that is not progress.
            place = max(place, (frame.disk, frame.offset + frame.length))
        for disk, (first, end) in written.items():
            self._disks.begin_writeback(disk, first, end - first)
        self._partial = replace(self._partial, disk=place[0], offset=place[1])
        self._since_checkpoint += len(view)
        if self._since_checkpoint >= CHECKPOINT_BYTES and (
            self._checkpoint is None or self._checkpoint.done()
        ):
            self._end_checkpoint()
            self._since_checkpoint = 0
            # In a thread of its own: the disks catch up while more comes in.
            self._checkpoint = self._checkpoints.submit(self._make_durable, self._partial)

    def _make_durable(self, partial: PartialCopy) -> None:
        self._disks.sync()
        if partial != self._noted:
            self._note(partial)
            self._noted = partial

    def _end_checkpoint(self) -> None:
        checkpoint, self._checkpoint = self._checkpoint, None
        if checkpoint is not None:
            checkpoint.result()

    def commit(self) -> None:
        """Return when the change set is durable and counts."""
        self._end_checkpoint()
        self._disks.sync()
        self._complete(self.header)
        self._completed = True

    def close(self) -> None:
        """Close what is open; without a commit it can be gone on with, and nothing else counts."""
        try:
            self._end_checkpoint()
            if not self._completed:
                self._make_durable(self._partial)
        except OSError as error:
            # The transfer has failed already; a later one goes on from the last checkpoint.
            log.warning("checkpoint_failed", cause=str(error))
        finally:
            self._checkpoints.shutdown()
            self._direct.close()
            self._disks.close()


class Incoming:
    """One transfer under way."""

    def __init__(self, destination: Destination, sizes: Sequence[int]) -> None:
        self.destination = destination
        self.closed = asyncio.Event()
        self._verifier = FrameVerifier(sizes)
        self._taking = InOrder(partial(destination.take, self._verifier))
        self._dropped = False
        self._scope: asyncio.Timeout | None = None

    def drop(self) -> None:
        """Give the transfer up, unless it is already being committed."""
        self._dropped = True
        if self._scope is not None:
            self._scope.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def droppable(self) -> AsyncIterator[None]:
        """Mark what `drop` interrupts, with a ConnectionAbortedError."""
        try:
            async with asyncio.timeout(None) as self._scope:
                if self._dropped:
                    self.drop()
                yield
        except TimeoutError:
            if self._dropped:
                raise ConnectionAbortedError(
                    "the transfer was dropped for another one, or the copy is no replica any more"
                ) from None
            raise
        finally:
            self._scope = None

    async def receive(self, body: Body) -> None:
        """Take the whole body; FrameError when it is damaged, out of rule or has no END."""
        buffers = [receive_buffer(RECEIVE_BYTES) for _ in range(RECEIVE_BUFFERS)]
        in_pieces = self.destination.in_pieces
        read = body.read_piece if in_pieces else body.read_into
        kept = 0
        while True:
            buffer = buffers[0]
            count = await read(buffer[kept:])
            filled = kept + count
            whole = self._verifier.whole_frames(buffer[:filled])
            self._taking.add(buffer[:whole])
            kept = filled - whole
            if count == 0 if in_pieces else filled < len(buffer):
                break
            buffers.append(buffers.pop(0))
            await self._taking.at_most(RECEIVE_BUFFERS - 1)
            buffers[0][:kept] = buffer[whole:filled]
        await self._taking.at_most(0)
        if kept or not self._verifier.ended:
            raise FrameError("the transfer ends without an END frame")

    async def commit(self) -> None:
        """Return when the change set is durable and counts."""
        await run_to_end(self.destination.commit)

    async def close(self) -> None:
        """End the transfer; without a commit nothing of it counts."""
        try:
            await self._taking.stop()
            await run_to_end(self.destination.close)
        finally:
            # Also when cancelled: who waits for the end of this transfer must not wait for ever.
            self.closed.set()
