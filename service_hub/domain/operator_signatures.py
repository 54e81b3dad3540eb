"""Operators' signatures as the hub sees them: form and purpose, never the proof (ADR 0004).

The hub has no ChannelIntegrityKey. It refuses what the provider would refuse anyway, where that can
be seen without the key, and hands the header on as it came.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, Literal

from pydantic import JsonValue

from service_hub.domain.errors import (
    InvalidRequestError,
    SignatureEndedError,
    SignatureRequiredError,
)
from service_hub.domain.jobs import Job
from service_hub.domain.protection import Operation
from service_hub.domain.records import Vault
from service_hub.domain.undo import undo_steps
from wire_contract.operator_signature import (
    HEADER,
    SIGNATURE_CHARACTERS_MAX,
    UNDIRECTED,
    Order,
    SignatureMalformedError,
    SignedOperation,
    read_signature,
)
from wire_contract.vocabulary import Direction

_CONTEXT: Final = "operator_signature"
_OF_MEMBERS: Final = "member_signatures"
"""Where a plan's job keeps what its members' jobs carry, by item."""

JobRequest = Literal["restart", "cancel"]
"""What is asked of a job so that more follows which an operator signs."""


def check_signature(
    vault: Vault, operation: Operation, item_id: str, direction: Direction | None, text: str | None
) -> None:
    """Refuse a request whose operator's signature is missing or is for something else.

    In a vault that does not require signatures nothing is refused: older clients send the header
    with every call, and it binds nothing there.
    """
    if not needs_signature(vault, operation):
        return
    if text is None:
        raise SignatureRequiredError(operation.value, vault.name)
    try:
        order = read_signature(text).order
    except SignatureMalformedError as error:
        raise InvalidRequestError(
            f"The operator signature is malformed: {error}.", HEADER
        ) from error
    if order is None or not _same(order, operation, item_id, direction):
        raise InvalidRequestError(
            "The operator signature is not for this operation on this item: its PropertyBag must"
            f" name Operation '{operation.value}', Item '{item_id}' and, where the request has"
            " one, its Direction.",
            HEADER,
        )


def check_each(
    vault: Vault,
    operation: Operation,
    members: Iterable[str],
    direction: Direction | None,
    texts: Mapping[str, str],
) -> None:
    """Refuse a plan whose machines were not all signed for, each by a header of its own."""
    if not needs_signature(vault, operation):
        return
    undirected = operation.value in {each.value for each in UNDIRECTED}
    signed = {name.lower(): text for name, text in texts.items()}
    for member in members:
        text = signed.get(member.lower())
        check_signature(vault, operation, member, None if undirected else direction, text)


def with_member_signatures(job: Job, texts: Mapping[str, str]) -> Job:
    """Return a plan's job with what the jobs of its members, and its scripts, carry from now on."""
    if not texts:
        return job
    before = job.context.get(_OF_MEMBERS)
    kept: dict[str, JsonValue] = dict(before) if isinstance(before, dict) else {}
    kept |= {name.lower(): text for name, text in texts.items()}
    return job.model_copy(update={"context": {**job.context, _OF_MEMBERS: kept}})


def member_signature(job: Job, member: str) -> str | None:
    """Return what the job of one member of a plan carries."""
    kept = job.context.get(_OF_MEMBERS)
    text = kept.get(member.lower()) if isinstance(kept, dict) else None
    return text if isinstance(text, str) else None


def needs_signature(vault: Vault, operation: Operation) -> bool:
    """Return whether a vault takes this operation signed by an operator alone."""
    return vault.requires_operator_signature and operation.value in set(SignedOperation)


def signature_for(
    vault: Vault, job: Job, request: JobRequest, text: str | None, now: datetime
) -> str | None:
    """Return the header that a job carries from now on; None: the one that it has.

    In a vault that requires signatures, one that cannot do is refused before anything is sent:
    InvalidRequestError, SignatureRequiredError, SignatureEndedError.
    """
    order = order_of(job)
    if order is None:
        return None
    operation = Operation(order.operation.value)
    if not needs_signature(vault, operation):
        return text if text is not None and _is_for(order, text) else None
    if text is not None:
        check_signature(vault, operation, order.item, order.direction, text)
    if request == "cancel" and not undo_steps(job):
        # Nothing follows that anybody would have to sign.
        return text
    carried = text or signature_of(job)
    if carried is None or not _is_for(order, carried):
        raise SignatureRequiredError(f"{operation.value} (to {request} its job)", vault.name)
    ends = read_signature(carried).not_after
    if ends <= now:
        raise SignatureEndedError(operation.value, f"the {request} of the job", ends)
    return text


def order_of(job: Job) -> Order | None:
    """Return what an operator signs for a job to go on or be taken back, None for other jobs."""
    if job.operation is None or job.item_id is None:
        return None
    if job.operation.value not in set(SignedOperation):
        return None
    operation = SignedOperation(job.operation.value)
    directed = operation not in UNDIRECTED
    return Order(operation, job.item_id, job.direction if directed else None)


def _is_for(order: Order, text: str) -> bool:
    try:
        return read_signature(text).order == order
    except SignatureMalformedError:
        return False


def with_signature(job: Job, text: str | None) -> Job:
    """Return the job with the header that its tasks carry; what cannot be one is left out."""
    fits = text is not None and text.isascii() and text.isprintable()
    if text is None or not fits or len(text) > SIGNATURE_CHARACTERS_MAX:
        return job
    return job.model_copy(update={"context": {**job.context, _CONTEXT: text}})


def signature_of(job: Job) -> str | None:
    """Return the header that a job's tasks carry."""
    text = job.context.get(_CONTEXT)
    return text if isinstance(text, str) else None


def _same(order: Order, operation: Operation, item_id: str, direction: Direction | None) -> bool:
    return (
        order.operation.value == operation.value
        and order.item.lower() == item_id.lower()
        and order.direction in {None, direction}
        and (direction is None or order.direction is not None)
    )
