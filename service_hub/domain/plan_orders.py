"""What an operator signs for a plan: an order for each machine, and one for each script; pure.

ADR 0004, 8: each has a header of its own in the body of the request, machines by item, scripts by
the digest of their order. The plan's job carries them, and takes new ones when it is restarted.
"""

from collections.abc import Container, Iterator, Mapping
from datetime import datetime
from typing import Final, Literal

from pydantic import JsonValue

from service_hub.domain.errors import (
    InvalidRequestError,
    SignatureEndedError,
    SignatureRequiredError,
)
from service_hub.domain.jobs import Dispatch, Job, TaskState
from service_hub.domain.operator_signatures import member_signature, needs_signature, signature_of
from service_hub.domain.plans import members_of
from service_hub.domain.protection import Operation
from service_hub.domain.records import Vault
from service_hub.domain.script_arguments import script_arguments
from wire_contract.operator_signature import (
    UNDIRECTED,
    Order,
    SignatureMalformedError,
    SignedOperation,
    read_signature,
)
from wire_contract.scripts import ScriptOrder, script_digest, signature_key
from wire_contract.vocabulary import Verb

SIGNATURES = "properties.operatorSignatures"

GoingOn = Literal["restart", "resume"]
"""What is asked of a plan's job so that it goes on with what an operator signed."""

_BEHIND: Final[Mapping[GoingOn, frozenset[TaskState]]] = {
    "restart": frozenset({TaskState.SUCCEEDED}),
    "resume": frozenset(TaskState) - {TaskState.NOT_STARTED},
}
"""Which tasks such a job does not come to again, by what is asked of it."""


def operation_of(job: Job) -> Operation | None:
    """Return what a plan's job does to its machines; None for other jobs."""
    groups = (spec.group for spec in job.own_specs)
    return next((group.operation for group in groups if group is not None), None)


def orders_of(job: Job, *, behind: Container[TaskState] = ()) -> dict[str, Order]:
    """Return what is signed for a plan's job, by the names in the request; {}: nothing.

    `behind`: the states of the tasks that are left out.
    """
    operation = operation_of(job)
    if operation is None or operation.value not in set(SignedOperation):
        return {}
    signed = SignedOperation(operation.value)
    direction = None if signed in UNDIRECTED else job.direction
    done = {task.task_id for task in job.tasks if task.state in behind}
    found = {
        member: Order(signed, member, direction)
        for spec in job.own_specs
        if spec.group is not None and spec.task_id not in done
        for member in spec.group.members
    }
    for task_id, script in _scripts(job):
        if task_id not in done:
            digest = script_digest(script)
            found[signature_key(digest)] = Order(signed, script.context.plan_id, direction, digest)
    return found


def told_orders(job: Job) -> dict[str, JsonValue] | None:
    """Return what a client that signs has to know of a plan's job; None for other jobs."""
    operation = operation_of(job)
    if operation is None or operation.value not in set(SignedOperation):
        return None
    return {
        "operation": operation.value,
        "direction": job.direction.value,
        "items": list(members_of(job)),
        "scripts": [script.model_dump(mode="json") for _, script in _scripts(job)],
    }


def signature_of_task(job: Job, dispatch: Dispatch) -> str | None:
    """Return the header that a task carries: its job's, a script's own."""
    if dispatch.verb is not Verb.RUN_SCRIPT:
        return signature_of(job)
    script = _script(job, dispatch.task_id)
    return member_signature(job, signature_key(script_digest(script)))


def check_scripts(vault: Vault, job: Job, given: Mapping[str, str]) -> None:
    """Refuse a plan's job of which a script was not signed for (its machines are looked at apart).

    InvalidRequestError, SignatureRequiredError.
    """
    texts = {name.lower(): text for name, text in given.items()}
    for name, order in _wanted(vault, job).items():
        if order.script is not None:
            _check(vault, order, name, texts.get(name))


def check_going_on(
    vault: Vault, job: Job, request: GoingOn, given: Mapping[str, str], now: datetime
) -> None:
    """Refuse to let a plan's job go on where something that is left has no signature that lasts.

    What the job carries does as long as it lasts. InvalidRequestError, SignatureRequiredError,
    SignatureEndedError.
    """
    texts = {name.lower(): text for name, text in given.items()}
    for name, order in _wanted(vault, job, behind=_BEHIND[request]).items():
        ends = _check(vault, order, name, texts.get(name.lower()) or member_signature(job, name))
        if ends <= now:
            raise SignatureEndedError(_words(order), f"the {request} of the job", ends)


def _wanted(vault: Vault, job: Job, *, behind: Container[TaskState] = ()) -> dict[str, Order]:
    operation = operation_of(job)
    wants = operation is not None and needs_signature(vault, operation)
    return orders_of(job, behind=behind) if wants else {}


def _words(order: Order) -> str:
    named = order.operation.value
    return named if order.script is None else f"a script of {named}"


def _check(vault: Vault, order: Order, name: str, text: str | None) -> datetime:
    """Return when a signature ends."""
    if text is None:
        raise SignatureRequiredError(_words(order), vault.name)
    try:
        signature = read_signature(text)
    except SignatureMalformedError as error:
        msg = f"An operator signature is malformed: {error}."
        raise InvalidRequestError(msg, SIGNATURES) from error
    if signature.order != order:
        raise InvalidRequestError(
            f"The operator signature under '{name}' is not for {_words(order)} of this plan: sign"
            " what its preview, or the progress of its job, tells under 'operator_orders'.",
            SIGNATURES,
        )
    return signature.not_after


def _scripts(job: Job) -> Iterator[tuple[str, ScriptOrder]]:
    for spec in job.own_specs:
        if spec.script is not None:
            yield spec.task_id, _script(job, spec.task_id)


def _script(job: Job, task_id: str) -> ScriptOrder:
    (side,) = job.real_sides(job.spec(task_id))
    return ScriptOrder.model_validate(script_arguments(job, task_id, side))
