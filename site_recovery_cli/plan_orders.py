"""What an operator signs of a plan: its machines, and each of its scripts, which are told first."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from site_recovery_cli.connection import Connection
from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError
from site_recovery_cli.output import say
from wire_contract.operator_signature import SignedOperation
from wire_contract.scripts import ScriptOrder
from wire_contract.vocabulary import Direction


@dataclass(frozen=True, slots=True)
class PlanOrders:
    """An operation on a plan's machines, and the scripts that are run for it."""

    operation: SignedOperation
    direction: Direction
    items: tuple[str, ...]
    scripts: tuple[ScriptOrder, ...]

    def tell(self) -> None:
        """Name each script that is about to be signed for: the hub says which they are."""
        for script in self.scripts:
            context = script.context
            say(f"Signs {script.path} at {context.side} ({context.group}, {context.when} it).")


def orders_in(answer: Mapping[str, Any]) -> PlanOrders | None:
    """Return the orders that a hub's answer names, None where nothing is signed; CommandError."""
    named = answer.get("operator_orders")
    if named is None:
        return None
    try:
        return PlanOrders(
            SignedOperation(named["operation"]),
            Direction(named["direction"]),
            tuple(str(each) for each in named["items"]),
            tuple(ScriptOrder.model_validate(each) for each in named["scripts"]),
        )
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise CommandError(
            "the hub's answer names no orders that an operator could sign;"
            " is the hub of another version?",
            ExitCode.NOT_OFFERED,
        ) from error


async def scripts_to_sign(
    connection: Connection, vault: str | None, plan: Any, operation: str, direction: str | None
) -> tuple[ScriptOrder, ...]:
    """Return the scripts of a run of a plan of the SDK, told to who asks; () where it has none."""
    groups = [] if plan.properties is None else plan.properties.groups or []
    actions = [
        action
        for group in groups
        for action in [*(group.start_group_actions or []), *(group.end_group_actions or [])]
    ]
    kinds = {str(getattr(each.custom_details, "instance_type", "")) for each in actions}
    if "ScriptActionDetails" not in kinds:
        return ()
    question: dict[str, Any] = {"operation": operation, "plan": plan.name}
    if direction is not None:
        question["direction"] = direction
    vault_id = await connection.vault_id(vault)
    orders = orders_in(await connection.routes.preview(vault_id, question))
    if orders is None:
        return ()
    orders.tell()
    return orders.scripts
