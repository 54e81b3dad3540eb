"""Transfer headers, acknowledgements and refusals as JSON: in HTTP, in redo logs, on the replica.

`decide` is the rule by which a replica takes or refuses a change set (pure).
"""

import re
from dataclasses import replace
from enum import Enum, StrEnum
from typing import Annotated, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from vmm_simulator.hyperv.backend import (
    AppliedCut,
    Consistency,
    CutKind,
    TransferHeader,
    TransferRefusedError,
)
from vmm_simulator.hyperv.frames import DISKS_MAX
from vmm_simulator.problems import Code

HEADER_NAME: Final = "replica-transfer"
"""HTTP header that carries the transfer header as JSON."""

TRANSFER_HEADER_BYTES_MAX: Final = 4_096
_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_NUMBER_MAX: Final = 2**63 - 1
_Number = Annotated[int, Field(ge=0, le=_NUMBER_MAX)]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _HeaderWire(_Wire):
    relationship_id: str = Field(pattern=f"^{_IDENTIFIER.pattern}$")
    transfer_id: str = Field(pattern=f"^{_IDENTIFIER.pattern}$")
    epoch: int = Field(ge=0, le=_NUMBER_MAX)
    cut: int = Field(ge=1, le=_NUMBER_MAX)
    kind: CutKind
    taken_at: AwareDatetime
    last_record: int = Field(ge=0, le=_NUMBER_MAX)
    consistency: Consistency = Consistency.CRASH
    sizes: tuple[_Number, ...] = Field(default=(), max_length=DISKS_MAX)
    copy_id: str | None = Field(default=None, pattern=f"^{_IDENTIFIER.pattern}$")
    source: str | None = Field(default=None, pattern=f"^{_IDENTIFIER.pattern}$")
    ancestor: str | None = Field(default=None, pattern=f"^{_IDENTIFIER.pattern}$")
    origin: str | None = Field(default=None, pattern=f"^{_IDENTIFIER.pattern}$")


class _RefusalWire(_Wire):
    code: int
    message: str
    applied: AppliedCut | None = None


_APPLIED: Final = TypeAdapter(AppliedCut)
_PLACE: Final[TypeAdapter[tuple[int, int] | None]] = TypeAdapter(tuple[_Number, _Number] | None)


def encode_header(header: TransferHeader) -> str:
    """Return one line of ASCII JSON, fit for an HTTP header."""
    fields = {name: getattr(header, name) for name in TransferHeader.__slots__}
    return _HeaderWire(**fields).model_dump_json(exclude_defaults=True)


def decode_header(text: str | bytes) -> TransferHeader:
    """Return the header; ValueError says what is wrong with a foreign one."""
    if len(text) > TRANSFER_HEADER_BYTES_MAX:
        raise ValueError(f"a transfer header is over {TRANSFER_HEADER_BYTES_MAX} bytes")
    try:
        wire = _HeaderWire.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"transfer header: {problem['loc']}: {problem['msg']}") from None
    return TransferHeader(**dict(wire))


def encode_applied(applied: AppliedCut) -> bytes:
    """Return an acknowledgement."""
    return _APPLIED.dump_json(applied)


def decode_applied(data: bytes) -> AppliedCut:
    """Return the acknowledged cut; ValueError when it is none."""
    return _APPLIED.validate_json(data)


def encode_place(place: tuple[int, int] | None) -> bytes:
    """Return how far a whole copy is: up to an offset of a disk, or nothing of it is there."""
    return _PLACE.dump_json(place)


def decode_place(data: bytes) -> tuple[int, int] | None:
    """Return what `encode_place` was given; ValueError when it is nothing of the kind."""
    return _PLACE.validate_json(data)


def encode_refusal(error: TransferRefusedError) -> bytes:
    """Return a refusal's body."""
    refusal = _RefusalWire(code=error.code, message=str(error), applied=error.applied)
    return refusal.model_dump_json().encode()


def decode_refusal(data: bytes) -> TransferRefusedError:
    """Return the refusal to raise; ValueError when the body is none."""
    refusal = _RefusalWire.model_validate_json(data)
    return TransferRefusedError(refusal.code, refusal.message, refusal.applied)


def applied_by(header: TransferHeader | None) -> AppliedCut | None:
    """Return what a replica holds whose newest change set has this header."""
    if header is None:
        return None
    return AppliedCut(
        header.cut, header.last_record, header.taken_at, header.consistency, header.transfer_id
    )


class CopyState(StrEnum):
    """What a replica's disk files are worth.

    AWAITING_IMPORT: nothing yet, change sets are held until the export that they build on is here.
    ALTERED: someone else wrote to a complete copy.
    """

    EMPTY = "empty"
    AWAITING_IMPORT = "awaiting import"
    BASE = "base"
    INCOMPLETE = "incomplete"
    COMPLETE = "complete"
    ALTERED = "altered"


UNUSABLE: Final = frozenset({CopyState.EMPTY, CopyState.AWAITING_IMPORT, CopyState.INCOMPLETE})
"""States in which the disks are not those of any moment."""


class Decision(Enum):
    """What a replica does with an announced transfer."""

    ACKNOWLEDGE_AGAIN = "acknowledge_again"
    WRITE_DIRECTLY = "write_directly"
    SPOOL = "spool"


def decide(state: CopyState, held: TransferHeader | None, offered: TransferHeader) -> Decision:
    """Return what to do with an offered transfer, or raise TransferRefusedError.

    Only the very transfer that is held is acknowledged again: another one with the same number was
    cut later and may hold more. A FULL replaces everything and is written in place, marked as
    incomplete until its end; all else goes through a redo log.
    """
    applied = applied_by(held)
    if held is not None:
        if replace(held, copy_id=None) == replace(offered, copy_id=None):
            return Decision.ACKNOWLEDGE_AGAIN
        if offered.epoch < held.epoch:
            raise TransferRefusedError(
                Code.LOWER_EPOCH,
                f"epoch {offered.epoch} is over: the replica holds one of epoch {held.epoch}",
                applied,
            )
        if offered.relationship_id == held.relationship_id and offered.cut <= held.cut:
            raise TransferRefusedError(
                Code.INVALID_STATE,
                f"cut {offered.cut} comes too late: the replica holds cut {held.cut}",
                applied,
            )
        _refuse_other_source(held, offered)
    if offered.kind is CutKind.FULL:
        return Decision.WRITE_DIRECTLY
    if offered.kind is CutKind.DIFFERENCES:
        if state is CopyState.AWAITING_IMPORT:
            raise TransferRefusedError(
                Code.INVALID_STATE,
                "the replica waits for the import of an export: there is nothing to compare with",
                applied,
            )
        return Decision.SPOOL
    _refuse_gap(state, held, offered)
    return Decision.SPOOL


def _refuse_other_source(held: TransferHeader, offered: TransferHeader) -> None:
    """Refuse what follows on another change set than the one that is held, by the same number."""
    next_one = (held.relationship_id, held.cut + 1)
    if (offered.relationship_id, offered.cut) != next_one:
        return
    if offered.ancestor not in (None, held.transfer_id):
        raise TransferRefusedError(
            Code.OTHER_SOURCE,
            f"cut {offered.cut} follows on transfer {offered.ancestor}, and the replica holds"
            f" {held.transfer_id}: two sources claim this replica",
            applied_by(held),
        )
    # Who was chosen to take over names no ancestor: it follows on nothing.
    if offered.ancestor is not None and None not in (held.origin, offered.origin):
        _refuse_copy(held, offered)


def _refuse_copy(held: TransferHeader, offered: TransferHeader) -> None:
    """Refuse a source that knows what was sent, and did not send it: a copy of the one that did."""
    if offered.origin != held.origin:
        raise TransferRefusedError(
            Code.OTHER_SOURCE,
            f"transfer {held.transfer_id}, which the replica holds, came of another source than the"
            " one that goes on from it: two sources claim this replica (another source claims the"
            " same replica). Find the other copy of this machine (a clone, or one from a backup)"
            " and remove its replication; then resynchronize the one that is to go on",
            applied_by(held),
        )


def _refuse_gap(state: CopyState, held: TransferHeader | None, offered: TransferHeader) -> None:
    applied = applied_by(held)
    if state in (CopyState.EMPTY, CopyState.INCOMPLETE, CopyState.ALTERED):
        raise TransferRefusedError(
            Code.RESYNCHRONIZATION_REQUIRED,
            f"the replica is {state}: it takes a full copy or a resynchronization only",
            applied,
        )
    if held is None:
        return
    if offered.relationship_id != held.relationship_id:
        raise TransferRefusedError(
            Code.INVALID_STATE,
            "the replica follows another relationship: begin a new lineage first",
            applied,
        )
    if offered.cut != held.cut + 1:
        raise TransferRefusedError(
            Code.RESYNCHRONIZATION_REQUIRED,
            f"cut {offered.cut} leaves a gap: the replica holds cut {held.cut}",
            applied,
        )
