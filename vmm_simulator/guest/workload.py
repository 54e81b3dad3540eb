"""What a guest does: rewrite, record, acknowledge, at its pace, and answer when asked.

Write order is what everything else proves itself by: rewrite n is durable before record n is
written, record n is durable before it goes to the ledger, and record n + 1 begins only when the
ledger has record n. While the ledger cannot be reached the guest stays up, answers and keeps
trying; it writes no further record, so that none exists that the ledger does not know (but one).
"""

import os
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from vmm_simulator.guest.frames import (
    Frame,
    FrameDecoder,
    FrameError,
    Kind,
    LedgerEntry,
    Write,
    encode_number,
    encode_object,
    encode_write,
    parse_number,
    parse_object,
)
from vmm_simulator.guest.interface import FREEZE_SECONDS_MAX
from vmm_simulator.guest.layout import GuestLayout
from vmm_simulator.guest.ledger_client import LedgerClient
from vmm_simulator.guest.records import Record, encode_record, genesis, parse_record

HOST_SECONDS_MAX: Final = 120.0
IDLE_SECONDS_MAX: Final = 60.0
LEDGER_SECONDS_MAX: Final = 5.0
LEDGER_PAUSE_SECONDS: Final = 0.05
LEDGER_PAUSE_SECONDS_MAX: Final = 2.0
NONCE_LENGTH_MAX: Final = 128
# A guest that fell behind (a slow disk) does not try to catch up more than this.
BEHIND_SECONDS_MAX: Final = 1.0


class HostGoneError(Exception):
    """The host's end of the socket is closed, or the host said nothing for too long."""


class WriteRefusedError(Exception):
    """The host refused a write: the epoch has passed this copy by."""


class StorageFailedError(Exception):
    """The host could not write or flush."""


class HostLink:
    """The socket to the host: whole frames in, whole frames out."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.socket.settimeout(HOST_SECONDS_MAX)
        self._decoder = FrameDecoder()

    def send(self, data: bytes) -> None:
        """Hand a frame over; HostGoneError when nobody takes it."""
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise HostGoneError(f"the host does not take frames: {error}") from error

    def receive(self) -> list[Frame]:
        """Wait for bytes and return the frames that are complete now."""
        try:
            data = self.socket.recv(1 << 16)
        except OSError as error:
            raise HostGoneError(f"the host does not answer: {error}") from error
        if not data:
            raise HostGoneError("the host closed the connection")
        return list(self._decoder.feed(data))


@dataclass(frozen=True, slots=True)
class Work:
    """What a guest works on: the machine, its disks open for reading, its pace, its clock."""

    machine_id: str
    epoch: int
    records_per_second: float
    layout: GuestLayout
    images: Sequence[int]
    now_microseconds: Callable[[], int]


class Workload:
    """One guest at work, beginning after the newest record that the disks hold."""

    def __init__(
        self, work: Work, top: Record | None, host: HostLink, ledger: LedgerClient | None
    ) -> None:
        self._work = work
        self._host = host
        self._ledger = ledger
        self._number = 0 if top is None else top.number
        self._previous = genesis(work.layout.seed) if top is None else top.checksum
        self._flush_token = 0
        self._flushed_token = 0
        self._acknowledged = 0
        self._stopping = False
        self._freeze_token = 0
        self._frozen_token = 0

    def run(self) -> None:
        """Work until the host asks to stop; return with the last record finished and flushed."""
        pace = self._work.records_per_second
        due = time.monotonic()
        while not self._stopping:
            if self._freeze_token:
                self._hold_still()
                continue
            if pace <= 0:
                self._wait(self._called, IDLE_SECONDS_MAX)
                continue
            due = max(due + 1 / pace, time.monotonic() - BEHIND_SECONDS_MAX)
            while not self._called() and (left := due - time.monotonic()) > 0:
                self._wait(self._called, min(left, IDLE_SECONDS_MAX))
            if not self._called():
                self._write_record()
        self._flush()

    def _called(self) -> bool:
        return self._stopping or self._freeze_token != 0

    def _hold_still(self) -> None:
        """Write nothing until the host has made its cut, or for as long as anybody may hold us."""
        self._flush()
        token = self._frozen_token = self._freeze_token
        if token:
            self._host.send(encode_number(Kind.FROZEN, token))
            self._wait(lambda: self._stopping or not self._freeze_token, FREEZE_SECONDS_MAX)
        # A freeze that was not ended by the host is over all the same.
        self._freeze_token = self._frozen_token = 0

    def _write_record(self) -> None:
        number = self._number + 1
        layout = self._work.layout
        place = layout.rewrite_place(number)
        content = layout.schedule.content(number)
        self._host.send(encode_write(Write(place.disk_index, place.offset, number - 1, content)))
        self._flush()
        data = encode_record(
            seed=layout.seed,
            number=number,
            epoch=self._work.epoch,
            time_microseconds=self._work.now_microseconds(),
            previous=self._previous,
        )
        place = layout.record_place(number)
        self._host.send(encode_write(Write(place.disk_index, place.offset, number, data)))
        self._flush()
        record = parse_record(data)
        assert record is not None, "what was encoded is a record"
        self._number, self._previous = number, record.checksum
        if self._ledger is not None:
            self._append(self._ledger, record)

    def _flush(self) -> None:
        self._flush_token += 1
        self._host.send(encode_number(Kind.FLUSH, self._flush_token))
        if not self._wait(lambda: self._flushed_token >= self._flush_token, HOST_SECONDS_MAX):
            raise StorageFailedError(f"no flush within {HOST_SECONDS_MAX:.0f} s")

    def _append(self, ledger: LedgerClient, record: Record) -> None:
        """Return when the ledger has the record; when asked to stop, after one more attempt."""
        entry = LedgerEntry(
            machine_id=self._work.machine_id,
            epoch=record.epoch,
            number=record.number,
            hash=record.hash,
            time_microseconds=record.time_microseconds,
        )
        pause = LEDGER_PAUSE_SECONDS
        while True:
            if ledger.send(entry):
                self._wait(
                    lambda: self._acknowledged == record.number or ledger.socket is None,
                    LEDGER_SECONDS_MAX,
                )
            if self._acknowledged == record.number or self._stopping:
                return
            ledger.close()
            self._wait(lambda: self._stopping, pause)
            pause = min(pause * 2, LEDGER_PAUSE_SECONDS_MAX)

    def _wait(self, done: Callable[[], bool], seconds: float) -> bool:
        """Serve host and ledger until `done`, at most for `seconds`; return whether it is done.

        What has come by the end of that time counts: a guest that was paused meanwhile finds its
        answers waiting.
        """
        deadline = time.monotonic() + seconds
        is_late = False
        while not done():
            if is_late:
                return False
            remaining = max(0.0, deadline - time.monotonic())
            is_late = remaining <= 0
            with selectors.DefaultSelector() as selector:
                selector.register(self._host.socket, selectors.EVENT_READ)
                connection = None if self._ledger is None else self._ledger.socket
                if connection is not None:
                    selector.register(connection, selectors.EVENT_READ)
                ready = {key.fileobj for key, _ in selector.select(remaining)}
            if self._host.socket in ready:
                for frame in self._host.receive():
                    self._take(frame)
            if self._ledger is not None and connection in ready:
                self._acknowledged = self._ledger.receive() or self._acknowledged
        return True

    def _take(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.FLUSHED:
                self._flushed_token = max(self._flushed_token, parse_number(frame.body))
            case Kind.CHALLENGE:
                self._answer(parse_object(frame.body))
            case Kind.STOP:
                self._stopping = True
            case Kind.FREEZE:
                self._freeze_token = parse_number(frame.body)
            case Kind.THAW:
                self._thaw(parse_number(frame.body))
            case Kind.REFUSED:
                raise WriteRefusedError(frame.body.decode(errors="replace"))
            case Kind.BROKEN:
                raise StorageFailedError(frame.body.decode(errors="replace"))
            case _:
                raise FrameError(f"a guest gets no frame of kind {frame.kind.name}")

    def _thaw(self, token: int) -> None:
        """Say whether we have held still for this freeze until now, and go on."""
        held = bool(token) and token == self._frozen_token
        self._freeze_token = 0
        self._host.send(encode_object(Kind.THAWED, {"token": token, "held": held}))

    def _answer(self, question: object) -> None:
        nonce = question.get("nonce") if isinstance(question, dict) else None
        if not isinstance(nonce, str) or len(nonce) > NONCE_LENGTH_MAX:
            raise FrameError(f"a nonce has at most {NONCE_LENGTH_MAX} characters")
        proof, _ = self._work.layout.proof(self._work.images, nonce, self._number)
        answer = {
            "pid": os.getpid(),
            "nonce": nonce,
            "proof": proof,
            "file_system_uuid": self._work.layout.file_system_uuid,
            "last_record": self._number,
            "epoch": self._work.epoch,
        }
        self._host.send(encode_object(Kind.ANSWER, answer))
