"""Between a recovery plan and its document: names there, ids of this vault here; pure.

A machine is named by its name where no other between the two servers has it, in any case of
letters, and by its id otherwise; so what a vault exports, it also takes in.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.plans import NAMED_MAX
from service_hub.domain.protection import Operation
from service_hub.domain.records import ProtectedItem
from service_hub.domain.recovery_plans import (
    GroupType,
    PlanAction,
    PlanScript,
    RecoveryGroup,
    RecoveryPlan,
)
from wire_contract.plan_documents import ActionPart, GroupPart, PlanDocument, ScriptPart
from wire_contract.vocabulary import Side

_PLACE: Final = "groups"


def document_of(
    plan: RecoveryPlan, servers: Mapping[Side, str], known: Sequence[ProtectedItem]
) -> PlanDocument:
    """Return the plan as a document; `known` are the vault's items between its two servers.

    A machine that is not protected any more is named by its id: taken in, it is refused by that.
    """
    names = _names(known)
    return PlanDocument(
        name=plan.name,
        primary=servers[Side.PRIMARY],
        recovery=servers[Side.RECOVERY],
        groups=tuple(
            GroupPart(
                type=each.group_type.value,
                machines=tuple(names.get(member, member) for member in each.members),
                before=tuple(_action_part(action) for action in each.before),
                after=tuple(_action_part(action) for action in each.after),
            )
            for each in plan.groups
        ),
    )


def groups_of_document(
    document: PlanDocument, known: Sequence[ProtectedItem]
) -> tuple[RecoveryGroup, ...]:
    """Return the groups with the ids of the vault; `known` as for document_of.

    InvalidRequestError names the machines that are not there, or that several are called.
    """
    ids = {each.id.lower(): each.id for each in known}
    called: dict[str, list[str]] = {}
    for each in known:
        called.setdefault(each.friendly_name.casefold(), []).append(each.id)
    named = [machine for group in document.groups for machine in group.machines]
    found = {
        name: [ids[name.lower()]] if name.lower() in ids else called.get(name.casefold(), [])
        for name in named
    }
    _refuse_unknown(document, found)
    return tuple(
        RecoveryGroup(
            group_type=GroupType(each.type),
            members=tuple(found[name][0] for name in each.machines),
            before=tuple(_action(action) for action in each.before),
            after=tuple(_action(action) for action in each.after),
        )
        for each in document.groups
    )


def _names(known: Sequence[ProtectedItem]) -> dict[str, str]:
    """Return the name of each item by its id, where the name means it and nothing else."""
    times: dict[str, int] = {}
    for each in known:
        folded = each.friendly_name.casefold()
        times[folded] = times.get(folded, 0) + 1
    ids = {each.id.lower() for each in known}
    return {
        each.id: each.friendly_name
        for each in known
        if times[each.friendly_name.casefold()] == 1 and each.friendly_name.lower() not in ids
    }


def _refuse_unknown(document: PlanDocument, found: Mapping[str, Sequence[str]]) -> None:
    between = f"between '{document.primary}' and '{document.recovery}'"
    unknown = [name for name, ids in found.items() if not ids]
    if unknown:
        raise InvalidRequestError(
            f"{len(unknown)} machines of the plan are not protected {between} in this vault:"
            f" {_some(unknown)}. Protect them first, or take them out of the document.",
            _PLACE,
        )
    several = [name for name, ids in found.items() if len(ids) > 1]
    if several:
        raise InvalidRequestError(
            f"Several machines {between} are called {_some(several)}: name them by the ids of their"
            " protected items.",
            _PLACE,
        )


def _some(names: Sequence[str]) -> str:
    told = ", ".join(f"'{each}'" for each in names[:NAMED_MAX])
    more = len(names) - NAMED_MAX
    return f"{told} and {more} more" if more > 0 else told


def _action_part(action: PlanAction) -> ActionPart:
    script = action.script
    return ActionPart.model_validate(
        {
            "name": action.name,
            "kinds": tuple(each.value for each in action.kinds),
            "directions": action.directions,
            "manual": action.manual,
            "script": None
            if script is None
            else ScriptPart(
                path=script.path,
                side=script.side,
                seconds=script.seconds,
                undo_path=script.undo_path,
            ),
        }
    )


def _action(part: ActionPart) -> PlanAction:
    script = part.script
    return PlanAction(
        name=part.name,
        kinds=tuple(Operation(each) for each in part.kinds),
        directions=part.directions,
        manual=part.manual,
        script=None
        if script is None
        else PlanScript(
            path=script.path, side=script.side, seconds=script.seconds, undo_path=script.undo_path
        ),
    )
