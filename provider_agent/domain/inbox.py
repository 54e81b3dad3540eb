"""What becomes of an event: at least once in, exactly one effect (design: channel, event stream).

Every verified event is final for the cursor. Nothing here can block the next event: whatever is
wrong with a body is a receipt `refused(reason)`.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from wire_contract.events import Assignment, EventEnvelope, Withdrawal
from wire_contract.model import WireModel
from wire_contract.reports import Report, StreamPosition
from wire_contract.vocabulary import EventType, ReceiptKind, RefusalReason, Verb

NUMBER_MAX: Final = 2**53 - 1
"""Largest sequence number, fence, epoch or attempt: what every JSON reader keeps exactly."""

COMMAND_ID_CHARACTERS_MAX: Final = 300
"""As the fabric takes it (wire_contract.vmm_interface.Command)."""

# Targets become part of a path: nothing that could climb out of it.
_TARGET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")

ModelT = TypeVar("ModelT", bound=WireModel)


class NotAnEventError(ValueError):
    """The signature holds, but what was signed is no event for this provider."""


class CommandState(StrEnum):
    """How far a command is in the journal; the order is its life."""

    ACCEPTED = "accepted"
    EXECUTING = "executing"
    FINISHED = "finished"


class Place(Enum):
    """Where an event stands relative to the cursor."""

    NEXT = "next"
    BEHIND = "behind"
    AHEAD = "ahead"
    OTHER_STREAM = "other_stream"


@dataclass(frozen=True, slots=True)
class VerifiedEvent:
    """An event whose signature and audience hold; `content` is the body where it is usable."""

    envelope: EventEnvelope
    content: Assignment | Withdrawal | None
    refusal: RefusalReason | None

    @property
    def job(self) -> str | None:
        """The job that the event belongs to."""
        return self.content.job if self.content is not None else None

    @property
    def item(self) -> str | None:
        """The protected item that the event commands."""
        return self.content.item if isinstance(self.content, Assignment) else None

    @property
    def command_id(self) -> str | None:
        """The command that the event orders or withdraws."""
        if self.content is None:
            return None
        return f"{self.content.job}/{self.content.task}/{self.content.attempt}"


@dataclass(frozen=True, slots=True)
class Known:
    """What the journal remembers about the job, the item and the command of one event."""

    command: CommandState | None = None
    fence: int = 0
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The receipt of an event, and what is to be written and done with it, in one transaction.

    `work`: a command to execute. `withdrawn`: a command that is finished without having begun.
    """

    receipt: ReceiptKind
    reason: RefusalReason | None = None
    work: Assignment | None = None
    withdrawn: Withdrawal | None = None
    refresh: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """A command that is not finished; `state` says whether it was begun before.

    `place`: its place in the journal, which is the order of the events.
    """

    assignment: Assignment
    expires_at: datetime
    state: CommandState
    place: int = 0


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What the hub is told when a session begins; `session` rises over all boots."""

    session: int
    last: StreamPosition | None
    fences: dict[str, int]
    epochs: dict[str, int]


@dataclass(frozen=True, slots=True)
class NewIds:
    """Ids for what one event may write."""

    receipt: str
    outcome: str


OutcomeOf = Callable[[Verdict, str], Report | None]
"""Makes the outcome of a command that was withdrawn, from the verdict and a report id."""


def read_event(payload: Mapping[str, Any], audience: str) -> VerifiedEvent:
    """Return the event in a verified payload; NotAnEventError says what is wrong with it."""
    kind, body = payload.get("type"), payload.get("body")
    known = isinstance(kind, str) and kind in set(EventType)
    # Type and body are judged apart: what is wrong with them must not cost the event its number.
    outside = {**payload, "type": kind if known else EventType.TOMBSTONE, "body": {}}
    envelope = _parse(EventEnvelope, outside)
    if envelope is None or not isinstance(body, dict):
        raise NotAnEventError("the signed payload is not an event envelope")
    if envelope.aud != audience:
        raise NotAnEventError(f"the event is for {envelope.aud[:64]!r}, not for this provider")
    if envelope.expires_at.tzinfo is None or envelope.issued_at.tzinfo is None:
        raise NotAnEventError("the event's times have no zone")
    if envelope.seq > NUMBER_MAX:
        raise NotAnEventError("the event's number is too large")
    if not known:
        return VerifiedEvent(envelope, None, RefusalReason.UNKNOWN_TYPE)
    return _with_content(envelope, body)


def place(cursor: StreamPosition, stream: str, seq: int) -> Place:
    """Return where `seq` of `stream` stands: only the next number may be taken in."""
    if stream != cursor.stream:
        return Place.OTHER_STREAM
    if seq == cursor.seq + 1:
        return Place.NEXT
    return Place.BEHIND if seq <= cursor.seq else Place.AHEAD


def decide(event: VerifiedEvent, known: Known, now: datetime) -> Verdict:
    """Return what becomes of the next event of the stream; the answer is final."""
    if event.refusal is not None:
        return _refused(event.refusal)
    match event.content:
        case Assignment():
            return _decide_assignment(event.envelope, event.content, known, now)
        case Withdrawal():
            return _decide_withdrawal(event.content, known)
    # A tombstone only takes its number; a refresh asks for the inventory.
    return Verdict(ReceiptKind.ACCEPTED, refresh=event.envelope.type is EventType.REFRESH)


def expires_at(envelope: EventEnvelope, assignment: Assignment) -> datetime:
    """Return the moment after which the first fabric call must not be made any more."""
    return min(envelope.expires_at, assignment.deadline)


def _decide_assignment(
    envelope: EventEnvelope, assignment: Assignment, known: Known, now: datetime
) -> Verdict:
    # First of all: an effect is counted by its command id, whatever became of the rest since.
    if known.command is not None:
        return Verdict(ReceiptKind.DUPLICATE)
    if assignment.verb not in set(Verb):
        return _refused(RefusalReason.UNKNOWN_VERB)
    if now >= expires_at(envelope, assignment):
        return _refused(RefusalReason.EXPIRED)
    if assignment.fence < known.fence:
        return _refused(RefusalReason.LOWER_FENCE)
    if assignment.item is not None and assignment.epoch < known.epoch:
        return _refused(RefusalReason.LOWER_EPOCH)
    return Verdict(ReceiptKind.ACCEPTED, work=assignment)


def _decide_withdrawal(withdrawal: Withdrawal, known: Known) -> Verdict:
    # Not refused when expired: not to begin is always safe, and the hub waits for this receipt.
    if withdrawal.fence < known.fence:
        return _refused(RefusalReason.LOWER_FENCE)
    begun = known.command in {CommandState.EXECUTING, CommandState.FINISHED}
    return Verdict(ReceiptKind.ACCEPTED, withdrawn=None if begun else withdrawal)


def _refused(reason: RefusalReason) -> Verdict:
    return Verdict(ReceiptKind.REFUSED, reason=reason)


def _with_content(envelope: EventEnvelope, body: Mapping[str, Any]) -> VerifiedEvent:
    match envelope.type:
        case EventType.ASSIGNMENT:
            assignment = _parse(Assignment, body)
            if assignment is None or not _usable(assignment):
                return VerifiedEvent(envelope, None, RefusalReason.BAD_BODY)
            return VerifiedEvent(envelope, assignment, None)
        case EventType.WITHDRAWAL:
            withdrawal = _parse(Withdrawal, body)
            if withdrawal is None or max(withdrawal.attempt, withdrawal.fence) > NUMBER_MAX:
                return VerifiedEvent(envelope, None, RefusalReason.BAD_BODY)
            return VerifiedEvent(envelope, withdrawal, None)
        case EventType.CONFIGURATION:
            # This version takes its settings from its own file alone; "accepted" would be a lie.
            return VerifiedEvent(envelope, None, RefusalReason.UNKNOWN_TYPE)
    return VerifiedEvent(envelope, None, None)


def _usable(assignment: Assignment) -> bool:
    return (
        assignment.deadline.tzinfo is not None
        and max(assignment.attempt, assignment.fence, assignment.epoch) <= NUMBER_MAX
        and len(assignment.command_id) <= COMMAND_ID_CHARACTERS_MAX
        and _TARGET.fullmatch(assignment.target) is not None
    )


def _parse(model: type[ModelT], value: Mapping[str, Any]) -> ModelT | None:
    # By way of JSON text: what could not be written again (lone surrogates) is refused here.
    try:
        return model.model_validate_json(json.dumps(value))
    except (ValidationError, TypeError, ValueError, RecursionError):
        return None
