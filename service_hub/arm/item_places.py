"""A cloud or a server as the target of an operation: it stands for the machines protected in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from service_hub.arm.handle_plans import ReadArguments
from service_hub.arm.ids import CONTAINERS, FABRICS, names_in_id
from service_hub.arm.routes import PLAN_OPERATIONS
from service_hub.domain.checks import refusal_of_state
from service_hub.domain.drill_networks import TEST_NETWORK
from service_hub.domain.errors import ConflictError, InvalidRequestError
from service_hub.domain.injections import ARM_VERBS, InjectionKind
from service_hub.domain.plans import PlanGroup, PlanRequest
from service_hub.domain.protection import Operation
from service_hub.domain.records import ProtectedItem, Vault
from service_hub.ports.use_cases import ItemFacts
from wire_contract.vocabulary import Direction

LEFT_OUT_NAMED_MAX: Final = 5
"""How many machines that are left out a dry run names; the others are counted."""


@dataclass(frozen=True, slots=True)
class ItemPlace:
    """A container, or with `container` None a fabric; names in lower case."""

    arm_id: str
    fabric: str
    container: str | None

    def holds(self, facts: ItemFacts) -> bool:
        """Return whether an item lies in it: it stays with its first primary for good."""
        in_fabric = facts.primary.provider.fabric_name.lower() == self.fabric
        cloud = facts.item.primary_cloud_id.lower()
        return in_fabric and self.container in {None, cloud}


@dataclass(frozen=True, slots=True)
class Members:
    """What is asked of which items of a place; `notes` say which are left out."""

    request: PlanRequest
    notes: tuple[str, ...]


def item_place(vault: Vault, target: str) -> ItemPlace | None:
    """Return the container or fabric that an id names, None where it names something else."""
    for kinds in ((FABRICS,), (FABRICS, CONTAINERS)):
        try:
            fabric, *container = names_in_id(target, vault, kinds, "target")
        except InvalidRequestError:
            continue
        name = container[0].lower() if container else None
        return ItemPlace(target.rstrip("/"), fabric.lower(), name)
    return None


def operation_on_all(event: InjectionKind) -> tuple[Operation, ReadArguments]:
    """Return the operation of an event, and what reads its properties: those of a plan's body."""
    found = PLAN_OPERATIONS.get(ARM_VERBS[event])
    if found is None:
        raise InvalidRequestError(
            f"{event.value} can't be injected into a whole cloud or server: name a protected item.",
            "target",
        )
    return found


def refuse_test_network(arguments: Mapping[str, JsonValue]) -> None:
    """Raise InvalidRequestError where a place is to be tested in a network, as a plan can be."""
    if TEST_NETWORK in arguments:
        raise InvalidRequestError(
            "A whole cloud or server is tested with NoNetworkAttachAsInput: save a recovery plan"
            " to test its machines in a network.",
            "properties.networkType",
        )


def members_of_place(
    place: ItemPlace,
    operation: Operation,
    arguments: Mapping[str, JsonValue],
    items: Sequence[ProtectedItem],
    now: datetime,
) -> Members:
    """Return what is asked of those items that allow it now; ConflictError where none does.

    They go side by side, as one group of a plan that nobody saved; unplanned failovers go on past
    what fails (behaviour.md, 2.7).
    """
    refuse_test_network(arguments)
    named = arguments.get("failover_direction")
    direction = None if named is None else Direction(str(named))
    refusals = {each.id: refusal_of_state(each, operation, direction, now) for each in items}
    chosen = [each for each in items if refusals[each.id] is None]
    left_out = [each for each in items if refusals[each.id] is not None]
    if not chosen:
        reasons = {error.message for error in refusals.values() if error is not None}
        because = min(reasons) if reasons else "no machine is protected there"
        raise ConflictError(f"{operation.value} fits no machine of {place.arm_id}: {because}")
    group = PlanGroup(
        name="Group 1",
        number=1,
        members=tuple(each.id for each in chosen),
        go_on_past_errors=operation is Operation.UNPLANNED_FAILOVER,
    )
    name = place.container or place.fabric
    request = PlanRequest(
        plan_id=name,
        name=name,
        operation=operation,
        groups=(group,),
        arguments=arguments,
        direction=direction,
    )
    return Members(request, _notes(left_out))


def _notes(left_out: Sequence[ProtectedItem]) -> tuple[str, ...]:
    if not left_out:
        return ()
    names = ", ".join(sorted(each.friendly_name for each in left_out)[:LEFT_OUT_NAMED_MAX])
    more = len(left_out) - LEFT_OUT_NAMED_MAX
    others = f" and {more} more" if more > 0 else ""
    return (f"Left out, since their state does not allow it now: {names}{others}.",)
