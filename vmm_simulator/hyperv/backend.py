"""The interface between replication's decisions and its bytes (design: replication, back ends).

One back end serves the machines of one host. Nothing here is peculiar to raw files: a later back
end (qcow2 disks of real guests, dirty bitmaps, NBD) implements the same protocol, and the contract
suite is written against it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class DiskFile:
    """A virtual disk of a machine: a sparse raw file of `size_bytes`."""

    disk_id: str
    path: Path
    size_bytes: int


class CutKind(StrEnum):
    """What a change set holds."""

    FULL = "full"
    DIFFERENCES = "differences"
    DELTA = "delta"
    FINAL = "final"


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """What one cut froze, for all disks of the machine at one moment.

    `cut` numbers the change sets of one relationship, rising by one; `last_record` is the newest
    guest record written before the cut (0 where none was named); `bytes_total` is what will be
    sent. The bytes stay those of the moment of the cut until the set is released, whatever the
    guest writes meanwhile.
    """

    machine_id: str
    cut: int
    kind: CutKind
    taken_at: datetime
    last_record: int
    bytes_total: int


@dataclass(frozen=True, slots=True)
class TransferHeader:
    """What the receiver checks before it takes a byte, and stores with the commit."""

    relationship_id: str
    transfer_id: str
    epoch: int
    cut: int
    kind: CutKind
    taken_at: datetime
    last_record: int


@dataclass(frozen=True, slots=True)
class AppliedCut:
    """The newest change set that a replica holds durably."""

    cut: int
    last_record: int
    taken_at: datetime


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """A replica host: connect to `address:port`, verify that its certificate names `fqdn`."""

    fqdn: str
    address: str
    port: int


class BackendStateError(Exception):
    """The machine's bytes are not in the state that the call needs; names cause and remedy."""


class TransferRefusedError(Exception):
    """The replica host answered and refused; `code` is a WMI return code, 32775 for a state.

    `applied` is the newest change set that the replica holds, where the replica host named it: a
    primary whose acknowledgement was lost goes on from there.
    """

    def __init__(self, code: int, message: str, applied: AppliedCut | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.applied = applied


class ReplicationBackend(Protocol):
    """Bytes of one host's machines; every method may be repeated after a crash."""

    async def attach(self, machine_id: str, disks: Sequence[DiskFile]) -> None:
        """Open the disks for writing by the guest's host; disks that are missing are an error."""

    async def detach(self, machine_id: str) -> None:
        """Flush and close the disks."""

    def write(
        self, machine_id: str, disk_index: int, offset: int, data: bytes, record: int
    ) -> None:
        """Take a guest's write: mark it as changed first, then write; not yet durable.

        Synchronous on purpose: a cut lies between two writes, never inside one. Raises
        PermissionError once `forbid_writes` was called.
        """

    async def flush(self, machine_id: str) -> None:
        """Return when all writes taken so far are durable."""

    def forbid_writes(self, machine_id: str) -> None:
        """Refuse further guest writes at once (the epoch has passed this copy by)."""

    def allow_writes(self, machine_id: str) -> None:
        """Take guest writes again."""

    async def start_tracking(self, machine_id: str) -> None:
        """Begin to note changed blocks; survives kill -9 (a mark is set before its write).

        A copy that notes its own changes is no replica: a transfer under way is dropped, a
        committed one is applied first, further ones are refused until `stop_tracking`.
        """

    async def stop_tracking(self, machine_id: str) -> None:
        """Forget the marks."""

    def is_tracking(self, machine_id: str) -> bool:
        """Return whether changes are noted."""

    def pending_bytes(self, machine_id: str) -> int:
        """Return how much is marked and not yet acknowledged by the replica."""

    async def cut(self, machine_id: str, kind: CutKind, cut: int, now: datetime) -> ChangeSet:
        """Freeze what is marked (FULL: what is allocated) on all disks at one moment.

        DIFFERENCES is a FULL whose sending leaves out the blocks that are equal on the replica.
        A cut that was not acknowledged before is contained in the next one, which takes its
        number unless the replica turns out to hold it (`TransferRefusedError.applied`).
        """

    async def send(
        self,
        change_set: ChangeSet,
        peer: PeerAddress,
        header: TransferHeader,
        progress: Callable[[int], None],
    ) -> AppliedCut:
        """Ship the set and return once the replica holds it durably.

        `progress` gets the bytes done so far (of `bytes_total`). Raises OSError (or ssl.SSLError)
        when the peer cannot be reached, TransferRefusedError when it refuses.
        """

    async def release(self, change_set: ChangeSet, *, acknowledged: bool) -> None:
        """Drop an acknowledged set; give the marks of another back to the next cut."""

    async def create_replica_disks(self, machine_id: str, disks: Sequence[DiskFile]) -> None:
        """Make empty sparse files for a replica, or keep those that exist with the right size.

        Whatever was tracked here is forgotten: a replica has no changes of its own. Files that
        were made or remade take a FULL (or DIFFERENCES) first; kept ones also a DELTA.
        """

    def applied_cut(self, machine_id: str) -> AppliedCut | None:
        """Return the newest change set that this replica holds, read from its own files."""

    async def forget_applied_cut(self, machine_id: str) -> None:
        """Begin a new lineage (the copy became a primary, or a replica of another primary).

        The first change set of the new lineage may have any number.
        """

    async def recover(self, machine_ids: Mapping[str, Sequence[DiskFile]]) -> None:
        """At start: finish committed change sets, delete unfinished ones, reopen the marks."""

    async def copy_for_test(
        self, machine_id: str, test_machine_id: str, folder: Path
    ) -> Sequence[DiskFile]:
        """Copy a replica's disks as of the newest applied change set, sparse, all at one moment."""

    async def remove_disks(self, machine_id: str, disks: Sequence[DiskFile]) -> None:
        """Delete the files of a test machine and all that was kept beside them."""

    async def aclose(self) -> None:
        """Stop with flush: everything is durable and closed, marks and replicas stay."""
