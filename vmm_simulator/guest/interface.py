"""What a host knows of a guest process: start it, serve its writes, question it, stop it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, Protocol

FREEZE_SECONDS_MAX: Final = 10.0
"""Longest a guest holds still for a cut: as a writer of the field does."""


class GuestExit(IntEnum):
    """How a guest process ended; a negative exit code is the signal that ended it."""

    STOPPED = 0
    HOST_GONE = 10
    WRITE_REFUSED = 11
    LOCKED = 12
    UNREADABLE = 13
    STORAGE_FAILED = 14
    PROTOCOL = 15


class GuestStartError(Exception):
    """The guest did not start; the message is what the guest itself found, `exit_code` its end."""

    def __init__(self, message: str, exit_code: int | None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class GuestSpec:
    """All that a guest process is told.

    `machine_id` goes into each ledger entry: give the id that is the same on all sites (the
    machine's `hyperv_id`). `disks` are the images, in the machine's order (record and rewrite
    areas are found by reading them); `epoch` goes into each record and ledger entry.
    `ledger_socket` is where acknowledged records are appended, or None: a test machine gets None,
    since its records are nobody's loss. `log_file` takes the guest's own lines, appended.
    """

    machine_id: str
    name: str
    epoch: int
    disks: Sequence[Path]
    records_per_second: float
    ledger_socket: Path | None
    log_file: Path | None

    def fields(self) -> Mapping[str, Any]:
        """Return what crosses to the guest, as JSON."""
        ledger = self.ledger_socket
        return {
            "machine_id": self.machine_id,
            "epoch": self.epoch,
            "disks": [str(path.absolute()) for path in self.disks],
            "records_per_second": self.records_per_second,
            "ledger_socket": None if ledger is None else str(ledger.absolute()),
        }


class GuestStorage(Protocol):
    """The way a guest's bytes take: through its host, so that change tracking sees them."""

    def write(self, disk_index: int, offset: int, data: bytes, record: int) -> None:
        """Write (not yet durable); PermissionError when this copy may not write any more.

        `record` is the newest record that the disks hold once this write is done.
        """

    async def flush(self) -> None:
        """Return when all writes so far are durable."""


@dataclass(frozen=True, slots=True)
class GuestState:
    """A guest's answer to a nonce; `verified` is the host's own reckoning over the same blocks."""

    pid: int
    nonce: str
    proof: str
    verified: bool
    file_system_uuid: str | None
    last_record: int
    epoch: int


class GuestHandle(Protocol):
    """A running guest."""

    @property
    def pid(self) -> int:
        """Process id."""

    @property
    def running(self) -> bool:
        """Whether the process is alive."""

    @property
    def paused(self) -> bool:
        """Whether it is held where it stands; only while it is alive."""

    @property
    def exit_code(self) -> int | None:
        """How it ended (see GuestExit), None while it runs."""

    async def pause(self) -> None:
        """Hold it where it stands, for as long as anybody likes; a second time changes nothing.

        What it had written reaches the storage first; no write of it comes after the return.
        TimeoutError when it has ended, or cannot be held.
        """

    def resume(self) -> None:
        """Let a paused one go on from where it stood."""

    async def challenge(self, nonce: str, seconds: float) -> GuestState:
        """Have the guest answer; TimeoutError when it does not within the bound, or has ended."""

    async def freeze(self, seconds: float) -> None:
        """Return when the guest has finished its record, flushed, and writes nothing.

        TimeoutError when it does not within the bound, or has ended. It goes on by itself after
        FREEZE_SECONDS_MAX: nobody may hold a guest for ever.
        """

    async def thaw(self, seconds: float) -> bool:
        """Let it go on; whether it had written nothing from the freeze until now.

        False as well when it does not answer within the bound, or was not frozen.
        """

    async def stop(self, seconds: float) -> bool:
        """Ask it to finish its record, flush and end; False when it did not within the bound."""

    async def kill(self) -> None:
        """End it now and wait for its end; no write of it comes after the return."""

    async def wait(self) -> int:
        """Return the exit code once it has ended by itself or by others; bound it yourself."""
