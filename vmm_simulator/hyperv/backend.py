"""The interface between replication's decisions and its bytes (design: replication, back ends).

One back end serves the machines of one host. Nothing here is peculiar to raw files: a later back
end (qcow2 disks of real guests, dirty bitmaps, NBD) implements the same protocol, and the contract
suite is written against it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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


class Consistency(StrEnum):
    """What a cut promises: that of a sudden stop, or that of applications that were made ready."""

    CRASH = "crash"
    APPLICATION = "application"


class PointKind(StrEnum):
    """Why a recovery point exists (behaviour 1.1.2)."""

    STANDARD = "standard"
    APPLICATION_CONSISTENT = "application_consistent"
    PLANNED = "planned"


@dataclass(frozen=True, slots=True)
class RecoveryPoint:
    """A state of all disks of a replica that can be failed over to.

    `point_id` is the id of the transfer that brought it; `last_record` the newest guest record in
    it. Cuts rise from older points to newer ones.
    """

    point_id: str
    machine_id: str
    taken_at: datetime
    kind: PointKind
    cut: int
    last_record: int


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
    consistency: Consistency = Consistency.CRASH


@dataclass(frozen=True, slots=True)
class TransferHeader:
    """What the receiver checks before it takes a byte, and stores with the commit.

    What a back end fills in itself: `consistency`; `sizes`, those of the disks at the cut (none
    named: not compared); `copy_id`, the transfer that a FULL goes on with (its own id: it begins).
    `source` is the machine that sends (null: a host of before this was said), `ancestor` the
    transfer of the change set before it, where the sender knows of one. `origin` names the source
    that sends: the back end fills it in, and a copy of the source has another one.
    """

    relationship_id: str
    transfer_id: str
    epoch: int
    cut: int
    kind: CutKind
    taken_at: datetime
    last_record: int
    consistency: Consistency = Consistency.CRASH
    sizes: tuple[int, ...] = ()
    copy_id: str | None = None
    source: str | None = None
    ancestor: str | None = None
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class AppliedCut:
    """The newest change set that a replica holds durably, and the transfer that brought it."""

    cut: int
    last_record: int
    taken_at: datetime
    consistency: Consistency = Consistency.CRASH
    transfer_id: str | None = field(default=None, compare=False)


class Authentication(StrEnum):
    """How two hosts prove who they are: 8084 and 8083 by default."""

    CERTIFICATE = "certificate"
    KERBEROS = "kerberos"


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """A replica host: connect to `address:port`, verify that it is `fqdn`.

    The rest is what the policy says of the way there: how to prove who is who, whether what is sent
    is compressed, whether to go past the host's own proxy.
    """

    fqdn: str
    address: str
    port: int
    authentication: Authentication = Authentication.CERTIFICATE
    compression: bool = False
    bypass_proxy: bool = False


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

    async def cut_group(
        self,
        machine_ids: Sequence[str],
        kind: CutKind,
        cuts: Mapping[str, int],
        now: datetime,
        consistency: Consistency,
    ) -> Mapping[str, ChangeSet]:
        """Cut several machines of this host at one moment: all of them, or none.

        `cuts` numbers the set of each. Who asks for APPLICATION has made the guests ready before
        and lets them go on afterwards; the back end notes it with the set and its transfer.
        """

    def tracked_bytes(self, machine_id: str) -> int:
        """Return how much has changed since the newest acknowledged set: the log's size.

        Unlike `pending_bytes` it leaves out what a FULL sends besides (behaviour 1.5: over 50 % of
        the disks' size a resynchronization is required).
        """

    def last_record(self, machine_id: str) -> int:
        """Return the newest guest record on this copy's disks, 0 where none was ever named."""

    async def resize_disk(
        self, machine_id: str, disk_index: int, size_bytes: int
    ) -> Sequence[DiskFile]:
        """Give a disk another size, on either end; returns the disks as they are now.

        Marks and what a replica holds stay valid; new space reads as zeros. A change set of another
        size than the replica's disks is refused with DISK_SIZES_DIFFER until both ends have the
        same. Points from before a shrink cannot be failed over to. Repeat it after a crash.
        """

    async def add_disk(self, machine_id: str, disk: DiskFile) -> Sequence[DiskFile]:
        """Add a disk behind the others (a missing file is made, empty); returns all disks.

        On a tracked machine all that is allocated on it counts as changed.
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
        when the peer cannot be reached, TransferRefusedError when it refuses. A FULL that was
        interrupted before, also by a kill of either end, goes on: what the replica has durably and
        what did not change since is not sent again.
        """

    async def export(
        self,
        change_set: ChangeSet,
        header: TransferHeader,
        folder: Path,
        progress: Callable[[int], None],
    ) -> None:
        """Write a FULL set into a folder (made if missing) that `import_seed` takes elsewhere.

        As `send` otherwise: release it as acknowledged when this has returned. The folder counts
        from the moment that its manifest is there, which is written last.
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

    def receiving(self, machine_id: str) -> CutKind | None:
        """Return what kind of change set is arriving now, None where none is."""

    async def forget_applied_cut(self, machine_id: str) -> None:
        """Begin a new lineage (the copy became a primary, or a replica of another primary).

        The first change set of the new lineage may have any number.
        """

    async def recover(self, machine_ids: Mapping[str, Sequence[DiskFile]]) -> None:
        """At start: finish committed change sets, delete unfinished ones, reopen the marks."""

    async def await_import(self, machine_id: str) -> None:
        """Hold the change sets that come until `import_seed` has brought what they build on."""

    async def import_seed(
        self, machine_id: str, folder: Path, progress: Callable[[int, int], None]
    ) -> AppliedCut:
        """Bring an exported folder onto a replica's disks, then what was held meanwhile.

        The whole folder is verified before a byte is written; ValueError says what is wrong with
        it. `progress` gets how much is done, and of how much. Returns the newest change set that
        the replica holds then.
        """

    def resynchronization_reason(self, machine_id: str) -> str:
        """Return why this replica takes only a whole copy or a comparison; empty: it takes changes.

        So it is when its disks were altered by someone else.
        """

    def recovery_points(self, machine_id: str) -> Sequence[RecoveryPoint]:
        """Return what can be failed over to, the newest first.

        The newest change set that is held comes first, kept or not; none without a complete copy.
        """

    async def make_point(self, machine_id: str, kind: PointKind) -> RecoveryPoint:
        """Keep the state after the newest change set that is held; again: the same point."""

    async def merge_points(self, machine_id: str, keep_at_most: int) -> None:
        """Drop the oldest kept points over that number; the newest state stays in any case."""

    async def drop_points(self, machine_id: str) -> None:
        """Drop all kept points; the newest state stays."""

    async def promote(self, machine_id: str, point_id: str | None) -> RecoveryPoint | None:
        """Make the disks those of a point (null: the newest), until `revert` or `commit`.

        From here on no transfer is taken: one under way is dropped, a committed one is applied
        first. Then attach, and track. Asked again for the same point nothing happens; for another
        one it has to be reverted first. Returns the point; None where nothing was ever held.
        """

    def promoted_point(self, machine_id: str) -> RecoveryPoint | None:
        """Return the point that the disks were promoted to; None when they are not promoted."""

    async def revert(self, machine_id: str) -> bool:
        """Take a promotion back, with all that a guest has written since; detach it first.

        True: the disks are again those of the newest change set and take the next one. False: they
        could not be brought back exactly (the machine under us went down meanwhile), a comparison
        is required.
        """

    async def commit(self, machine_id: str) -> None:
        """Accept a promotion: nothing can be reverted any more, all kept points go."""

    async def copy_for_test(
        self, machine_id: str, test_machine_id: str, folder: Path, point_id: str | None = None
    ) -> Sequence[DiskFile]:
        """Copy a replica's disks as of a point (null: the newest), sparse, all at one moment."""

    async def copy_aside(
        self, machine_id: str, disks: Sequence[DiskFile], kept_id: str, folder: Path
    ) -> Sequence[DiskFile]:
        """Copy the disks of a machine that is off, sparse, into a machine of their own."""

    async def remove_disks(self, machine_id: str, disks: Sequence[DiskFile]) -> None:
        """Delete the files of a test machine and all that was kept beside them."""

    async def aclose(self) -> None:
        """Stop with flush: everything is durable and closed, marks and replicas stay."""
