"""What a copy knows of itself as a replica: one small file, replaced whole (replica.json)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from vmm_simulator.hyperv.backend import (
    BackendStateError,
    CutKind,
    DiskFile,
    PointKind,
    RecoveryPoint,
    TransferHeader,
)
from vmm_simulator.hyperv.disks import write_durably
from vmm_simulator.hyperv.transfer_header import CopyState, decode_header, encode_header

RECORD_FILE: Final = "replica.json"
POINTS_MAX: Final = 64
"""Most points that are kept of one machine (behaviour 1.4: 24 and the newest)."""

_RECORD_BYTES_MAX: Final = 1_048_576


class FileGuard(NamedTuple):
    """By what a disk file is known again: whoever else writes, truncates or replaces it shows.

    Taken when a change set is durably applied, compared when the next one is announced, when the
    host starts, and before the copy is promoted. Times are in nanoseconds since 1970.
    """

    inode: int
    size_bytes: int
    modified: int
    changed: int

    @classmethod
    def of(cls, disk: DiskFile) -> Self:
        """Return the guard of a file as it is now; a missing one has none of the real ones."""
        try:
            found = disk.path.stat()
        except FileNotFoundError:
            return cls(0, 0, 0, 0)
        return cls(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def guards_of(disks: Sequence[DiskFile]) -> tuple[FileGuard, ...]:
    """Return the guards of all disks."""
    return tuple(FileGuard.of(disk) for disk in disks)


@dataclass(frozen=True, slots=True)
class KeptPoint:
    """A recovery point: the state after the change set with this header."""

    kind: PointKind
    header: TransferHeader
    sizes: tuple[int, ...]

    def public(self, machine_id: str) -> RecoveryPoint:
        """Return it as others know it."""
        header = self.header
        return RecoveryPoint(
            point_id=header.transfer_id,
            machine_id=machine_id,
            taken_at=header.taken_at,
            kind=self.kind,
            cut=header.cut,
            last_record=header.last_record,
        )


def newest_point(header: TransferHeader, sizes: tuple[int, ...]) -> KeptPoint:
    """Return the point that the newest change set is, kept or not."""
    kind = PointKind.PLANNED if header.kind is CutKind.FINAL else PointKind.STANDARD
    return KeptPoint(kind, header, sizes)


class Phase(StrEnum):
    """How far a promotion is; while RESTORING or REVERTING the disks are of no one moment.

    COMMITTED: the copy goes its own way and takes nothing until it begins a new lineage.
    """

    RESTORING = "restoring"
    PROMOTED = "promoted"
    REVERTING = "reverting"
    COMMITTED = "committed"


@dataclass(frozen=True, slots=True)
class Promotion:
    """The copy is failed over to a point (None: it never held a change set).

    `running_since` is the boot id under which guest writes may have come since; None after a clean
    end.
    """

    phase: Phase
    point: KeptPoint | None
    running_since: str | None


@dataclass(frozen=True, slots=True)
class PartialCopy:
    """How much of a whole copy is durably here: everything before `offset` of `disk`."""

    copy_id: str
    disk: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class ReplicaRecord:
    """The durable state; `points` from the oldest to the newest.

    `boot` names the run of the operating system in which it was written.
    """

    state: CopyState | None = None
    held: TransferHeader | None = None
    points: tuple[KeptPoint, ...] = ()
    promotion: Promotion | None = None
    partial: PartialCopy | None = None
    guards: tuple[FileGuard, ...] = ()
    boot: str = ""

    def write(self, folder: Path) -> None:
        """Return when it is durable."""
        folder.mkdir(parents=True, exist_ok=True)
        promotion = self.promotion
        fields = {
            "state": self.state,
            "held": None if self.held is None else encode_header(self.held),
            "points": [_encode_point(point) for point in self.points],
            "promotion": None
            if promotion is None
            else {
                "phase": promotion.phase,
                "point": None if promotion.point is None else _encode_point(promotion.point),
                "running_since": promotion.running_since,
            },
            "partial": None
            if self.partial is None
            else [self.partial.copy_id, self.partial.disk, self.partial.offset],
            "guards": self.guards,
            "boot": self.boot,
        }
        write_durably(folder / RECORD_FILE, json.dumps(fields).encode())

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return what was written last; what older versions did not write is empty."""
        path = folder / RECORD_FILE
        try:
            with path.open("rb") as file:
                fields = json.loads(file.read(_RECORD_BYTES_MAX))
            held, partial = fields["held"], fields.get("partial")
            promotion = fields.get("promotion")
            return cls(
                state=CopyState(fields["state"]),
                held=None if held is None else decode_header(held),
                points=tuple(_decode_point(point) for point in fields.get("points", ())),
                promotion=None if promotion is None else _decode_promotion(promotion),
                partial=None
                if partial is None
                else PartialCopy(str(partial[0]), int(partial[1]), int(partial[2])),
                guards=tuple(
                    FileGuard(*(int(number) for number in guard))
                    for guard in fields.get("guards", ())
                ),
                boot=str(fields.get("boot", "")),
            )
        except FileNotFoundError:
            return cls()
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise BackendStateError(
                f"{path} is damaged ({error}); delete it and resynchronize the machine"
            ) from error


def _encode_point(point: KeptPoint) -> dict[str, Any]:
    return {"kind": point.kind, "header": encode_header(point.header), "sizes": point.sizes}


def _decode_point(fields: Any) -> KeptPoint:
    sizes = tuple(int(size) for size in fields["sizes"])
    return KeptPoint(PointKind(fields["kind"]), decode_header(fields["header"]), sizes)


def _decode_promotion(fields: Any) -> Promotion:
    point, running_since = fields["point"], fields["running_since"]
    return Promotion(
        Phase(fields["phase"]),
        None if point is None else _decode_point(point),
        None if running_since is None else str(running_since),
    )
