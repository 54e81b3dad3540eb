"""Whether an operator ordered what the hub asks: the insisting provider's own judgement (ADR 0004).

Everything is judged on the signature and on what the local fabric shows; the hub's word for it
(item, side, task) is never enough.
"""

import hmac
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from certs.channel_integrity import holds
from wire_contract.events import Assignment
from wire_contract.operator_signature import (
    DESTRUCTIVE,
    FIRST_EPOCH,
    ORDERED,
    SIGNATURE_LIFE_MAX,
    TESTING,
    UNDIRECTED,
    OperatorSignature,
    Order,
    SignatureMalformedError,
    read_signature,
)
from wire_contract.reports import Authority
from wire_contract.scripts import ScriptOrder, script_digest
from wire_contract.vmm_interface import MachineView
from wire_contract.vocabulary import ReplicationMode, RunState, Side, Verb


class NotOrderedError(Exception):
    """No operator's signature allows this; the message says why not."""


@dataclass(frozen=True, slots=True)
class Copy:
    """The machine a verb is for, as the local fabric shows it.

    `original` is the Hyper-V id of the protected machine: the item's name on both ends. A test
    machine has that of the replica that it was made of.
    """

    machine_id: str
    original: str
    epoch: int
    primary: bool
    test: bool

    @property
    def side(self) -> Side:
        """The end of the item that this is: only the first primary bears the Hyper-V id itself."""
        return Side.PRIMARY if _same(self.machine_id, self.original) else Side.RECOVERY


def copy_of(view: MachineView, tested: MachineView | None) -> Copy:
    """Return the copy behind a view; `tested` is the replica that a test machine was made of."""
    return Copy(
        machine_id=view.machine_id,
        original=tested.hyperv_id if tested is not None else view.hyperv_id,
        epoch=view.epoch,
        primary=_mode(view) is ReplicationMode.PRIMARY,
        test=view.test_machine_of is not None,
    )


def needs_order(assignment: Assignment, copy: Copy | None) -> bool:
    """Return whether a command may be carried out on an operator's signature alone."""
    if DESTRUCTIVE.get(Verb(assignment.verb), True):
        return True
    # A raised epoch on a replica makes its primary stop and fence itself at the next contact.
    known = FIRST_EPOCH if copy is None else max(copy.epoch, FIRST_EPOCH)
    return assignment.epoch > known and not (copy is not None and copy.primary)


def checked_order(
    text: str | None, key: str, assignment: Assignment, copy: Copy | None, now: datetime
) -> OperatorSignature:
    """Return the signature that allows the command; NotOrderedError says why there is none."""
    if text is None:
        raise NotOrderedError("the request carried no operator signature")
    try:
        signature = read_signature(text)
    except SignatureMalformedError as error:
        raise NotOrderedError(f"the operator signature cannot be read: {error}") from error
    if not holds(key, signature.signed_text, signature.hmac):
        raise NotOrderedError(
            "the operator signature was not made with this vault's channel integrity key,"
            " or it was changed on its way"
        )
    _check_times(signature, now)
    if signature.order is None:
        raise NotOrderedError("the operator signature binds no operation on an item")
    _check_order(signature.order, assignment, copy)
    return signature


def stops_without_order(authority: Authority, view: MachineView | None) -> bool:
    """Return whether the hub's word on a copy would stop or fence one, here or at the partner.

    The hub says at each session which copies may run; nobody signs that. What it can only confirm
    is let through, what could take a running or startable copy away is not.
    """
    if view is None:
        return False
    primary = _mode(view) is ReplicationMode.PRIMARY
    if not authority.authoritative and (primary or view.run_state is not RunState.OFF):
        # Already stopped and fenced: nothing more is taken away.
        return not (view.fenced and view.run_state is RunState.OFF)
    return not primary and 0 < view.epoch < authority.epoch


def _check_times(signature: OperatorSignature, now: datetime) -> None:
    if signature.not_after - signature.not_before > SIGNATURE_LIFE_MAX:
        days = SIGNATURE_LIFE_MAX.days
        raise NotOrderedError(f"the operator signature is for longer than {days} days")
    if now < signature.not_before:
        raise NotOrderedError(
            f"the operator signature is valid only from {signature.not_before:%F %T} UTC on"
        )
    if now >= signature.not_after:
        raise NotOrderedError(f"the operator signature expired at {signature.not_after:%F %T} UTC")


def _check_script(order: Order, assignment: Assignment) -> None:
    """Refuse a script that is not the very one that was signed, and all else under its order."""
    if Verb(assignment.verb) is not Verb.RUN_SCRIPT:
        raise NotOrderedError("the operator signature is for a script of a recovery plan")
    if order.script is None:
        raise NotOrderedError("the operator signature is for a machine, and this is a script")
    try:
        asked = ScriptOrder.model_validate(assignment.arguments)
    except ValidationError:
        raise NotOrderedError("the script's order cannot be read") from None
    same_plan = _same(order.item, asked.context.plan_id)
    if not same_plan or order.operation.value != asked.context.kind:
        raise NotOrderedError("the operator signature is for another plan, or another operation")
    if not hmac.compare_digest(order.script.encode(), script_digest(asked).encode()):
        raise NotOrderedError(
            "the operator signature is for another script: path, server's end, time limit, place"
            " in the plan and machines must be those that were signed"
        )


def _check_order(order: Order, assignment: Assignment, copy: Copy | None) -> None:
    verb = Verb(assignment.verb)
    if verb is Verb.RUN_SCRIPT or order.script is not None:
        _check_script(order, assignment)
        return
    items = [assignment.item or "", *([copy.original] if copy is not None else [])]
    if not all(_same(order.item, item) for item in items):
        raise NotOrderedError("the operator signature is for another machine")
    sides = ORDERED[order.operation].get(verb)
    if sides is None:
        raise NotOrderedError(
            f"the operator signature is for {order.operation.value}, which never does {verb.value}"
        )
    if order.operation in TESTING:
        if copy is not None and not copy.test:
            raise NotOrderedError(
                "the operator signature is for a test, and this is no test machine"
            )
        return
    if copy is not None and copy.test:
        raise NotOrderedError("the operator signature is not for a test machine")
    if order.operation in UNDIRECTED:
        return
    if order.direction is None:
        raise NotOrderedError("the operator signature names no direction")
    allowed = {order.direction.place(side) for side in sides}
    if copy is not None and copy.side not in allowed:
        raise NotOrderedError(
            f"the operator signature is for {order.direction.value}, which does"
            f" {verb.value} on the other end"
        )


def _mode(view: MachineView) -> ReplicationMode:
    return view.replication.mode if view.replication is not None else ReplicationMode.NONE


def _same(left: str, right: str) -> bool:
    return left.casefold() == right.casefold()
