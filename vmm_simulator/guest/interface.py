"""What a host knows of a guest process: start it, serve its writes, question it, stop it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class GuestSpec:
    """All that a guest process is told.

    `disks` are the images (record and rewrite areas are found by reading them); `epoch` goes into
    each ledger entry. `ledger_socket` is where acknowledged records are appended, or None.
    """

    machine_id: str
    name: str
    epoch: int
    disks: Sequence[Path]
    records_per_second: float
    ledger_socket: Path | None
    log_file: Path | None


class GuestStorage(Protocol):
    """The way a guest's bytes take: through its host, so that change tracking sees them."""

    def write(self, disk_index: int, offset: int, data: bytes, record: int) -> None:
        """Write (not yet durable); PermissionError when this copy may not write any more."""

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

    async def challenge(self, nonce: str, seconds: float) -> GuestState:
        """Have the guest answer; TimeoutError when it does not within the bound."""

    async def stop(self, seconds: float) -> bool:
        """Ask it to finish its record, flush and end; False when it did not within the bound."""

    async def kill(self) -> None:
        """End it now and wait for its end."""
