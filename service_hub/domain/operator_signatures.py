"""Operators' signatures as the hub sees them: form and purpose, never the proof (ADR 0004).

The hub has no ChannelIntegrityKey. It refuses what the provider would refuse anyway, where that can
be seen without the key, and hands the header on as it came.
"""

from typing import Final

from service_hub.domain.errors import InvalidRequestError, SignatureRequiredError
from service_hub.domain.jobs import Job
from service_hub.domain.protection import Operation
from service_hub.domain.records import Vault
from wire_contract.operator_signature import (
    HEADER,
    SIGNATURE_CHARACTERS_MAX,
    Order,
    SignatureMalformedError,
    SignedOperation,
    read_signature,
)
from wire_contract.vocabulary import Direction

_CONTEXT: Final = "operator_signature"


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


def needs_signature(vault: Vault, operation: Operation) -> bool:
    """Return whether a vault takes this operation signed by an operator alone."""
    return vault.requires_operator_signature and operation.value in set(SignedOperation)


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
