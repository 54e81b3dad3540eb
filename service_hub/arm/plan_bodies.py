"""Bodies of recovery plans: read into what is saved (arm-api.md, 2.9)."""

from dataclasses import replace
from typing import Final, Literal

from pydantic import Field

from service_hub.arm.bodies import (
    CleanupProperties,
    DirectionName,
    Input,
    read,
)
from service_hub.arm.ids import CONTAINERS, FABRICS, PROTECTED_ITEMS, names_in_id
from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.protection import Operation
from service_hub.domain.records import Vault
from service_hub.domain.recovery_plans import (
    PLAN_OPERATIONS,
    GroupType,
    PlanAction,
    PlanScript,
    RecoveryGroup,
)
from service_hub.ports.use_cases import RequestIdentity
from wire_contract.scripts import SECONDS_DEFAULT
from wire_contract.vocabulary import Direction, Side

_GROUPS_MAX: Final = 200
_ENTRIES_MAX: Final = 10_000


class ActionDetailsInput(Input):
    """What an action does: ManualActionDetails, ScriptActionDetails, AutomationRunbook...

    `undo_path` is ours: what runs at the clean-up of a test.
    """

    instance_type: str | None = None
    description: str | None = None
    path: str | None = None
    timeout: str | int | None = None
    fabric_location: Literal["Primary", "Recovery"] | None = None
    undo_path: str | None = None


class ActionInput(Input):
    """An action before or after a group."""

    action_name: str
    failover_types: list[str] = Field(default_factory=list, max_length=50)
    failover_directions: list[DirectionName] = Field(default_factory=list, max_length=10)
    custom_details: ActionDetailsInput


class MemberInput(Input):
    """A machine of a group; `id` is its protected item's."""

    id: str
    virtual_machine_id: str | None = None


class GroupInput(Input):
    """A group of a plan."""

    group_type: Literal["Shutdown", "Boot", "Failover"]
    replication_protected_items: list[MemberInput] = Field(
        default_factory=list, max_length=_ENTRIES_MAX
    )
    start_group_actions: list[ActionInput] = Field(default_factory=list, max_length=100)
    end_group_actions: list[ActionInput] = Field(default_factory=list, max_length=100)


class PlanProperties(Input):
    """What a new plan consists of."""

    primary_fabric_id: str
    recovery_fabric_id: str
    failover_deployment_model: str | None = None
    groups: list[GroupInput] = Field(max_length=_GROUPS_MAX)


class PlanInput(Input):
    """PUT of a recovery plan."""

    properties: PlanProperties


class PlanChangeProperties(Input):
    """All groups of a plan; without them nothing is changed."""

    groups: list[GroupInput] = Field(max_length=_GROUPS_MAX)


class PlanChangeInput(Input):
    """PATCH of a recovery plan."""

    properties: PlanChangeProperties


class PlanFailoverProperties(Input):
    """Where to."""

    failover_direction: DirectionName


class PlanFailoverInput(Input):
    """POST of a planned failover of a plan."""

    properties: PlanFailoverProperties


class PlanUnplannedProperties(PlanFailoverProperties):
    """Also whether the sources are asked to shut down and to send what they still have."""

    source_site_operations: Literal["Required", "NotRequired"] = "NotRequired"


class PlanUnplannedInput(Input):
    """POST of an unplanned failover of a plan."""

    properties: PlanUnplannedProperties


class PlanTestProperties(PlanFailoverProperties):
    """Also the network of the test machines."""

    network_type: (
        Literal["NoNetworkAttachAsInput", "VmNetworkAsInput", "LogicalNetworkAsInput"] | None
    ) = None
    network_id: str | None = None


class PlanTestInput(Input):
    """POST of a test failover of a plan."""

    properties: PlanTestProperties


class PlanCleanupInput(Input):
    """POST of the clean-up of a plan's test."""

    properties: CleanupProperties = Field(default_factory=CleanupProperties)


class PlanSignedProperties(Input):
    """What an operator signed: headers (Agent-Authentication) by item, and by script's digest."""

    operator_signatures: dict[str, str] = Field(default_factory=dict, max_length=_ENTRIES_MAX)


class PlanSignedInput(Input):
    """POST of any operation of a plan; ours, the recorded service has nothing of the kind."""

    properties: PlanSignedProperties = Field(default_factory=PlanSignedProperties)


def with_signatures(identity: RequestIdentity, body: bytes) -> RequestIdentity:
    """Return who asks, with the operator's signatures for the machines of a plan (ours)."""
    if not body:
        return identity
    given = read(body, PlanSignedInput).properties.operator_signatures
    return replace(identity, member_signatures=given)


def groups_of(groups: list[GroupInput], vault: Vault) -> tuple[RecoveryGroup, ...]:
    """Return the groups of a body; InvalidRequestError names the property that is wrong."""
    return tuple(_group(each, vault, f"groups[{at}]") for at, each in enumerate(groups))


def fabric_of(fabric_id: str, vault: Vault, target: str) -> str:
    """Return the name of the server that an id names, in its stored form."""
    (name,) = names_in_id(fabric_id, vault, (FABRICS,), target)
    return name.lower()


def _group(group: GroupInput, vault: Vault, place: str) -> RecoveryGroup:
    kinds = (FABRICS, CONTAINERS, PROTECTED_ITEMS)
    target = f"{place}.replicationProtectedItems"
    return RecoveryGroup(
        group_type=GroupType(group.group_type),
        members=tuple(
            names_in_id(each.id, vault, kinds, target)[-1].lower()
            for each in group.replication_protected_items
        ),
        before=tuple(
            _action(each, f"{place}.startGroupActions[{at}]")
            for at, each in enumerate(group.start_group_actions)
        ),
        after=tuple(
            _action(each, f"{place}.endGroupActions[{at}]")
            for at, each in enumerate(group.end_group_actions)
        ),
    )


def _action(action: ActionInput, place: str) -> PlanAction:
    details = action.custom_details
    kind = (details.instance_type or "").lower()
    if kind == "automationrunbookactiondetails":
        raise InvalidRequestError(
            "Runbooks of Azure Automation can't be run between two VMM sites. Use a script of the"
            " VMM library (ScriptActionDetails), or a manual action.",
            f"{place}.customDetails.instanceType",
        )
    manual, script = "", None
    if kind == "manualactiondetails":
        # The portal sends a manual action without a description: its name then says what to do.
        manual = details.description or action.action_name
    elif kind == "scriptactiondetails":
        script = _script(details, f"{place}.customDetails")
    else:
        raise InvalidRequestError(
            "An action is of the type ManualActionDetails or ScriptActionDetails.",
            f"{place}.customDetails.instanceType",
        )
    return PlanAction(
        name=action.action_name,
        kinds=tuple(_operation(each, place) for each in action.failover_types),
        directions=tuple(Direction(each) for each in action.failover_directions),
        manual=manual,
        script=script,
    )


def _script(details: ActionDetailsInput, place: str) -> PlanScript:
    if not details.path or details.fabric_location is None:
        missing = "path" if not details.path else "fabricLocation"
        raise InvalidRequestError(
            f"A script needs its '{missing}': the path below the library share, and which server"
            " runs it (Primary or Recovery).",
            f"{place}.{missing}",
        )
    return PlanScript(
        path=details.path,
        side=Side(details.fabric_location),
        seconds=_seconds(details.timeout, f"{place}.timeout"),
        undo_path=details.undo_path or "",
    )


def _seconds(value: str | int | None, place: str) -> int:
    """Return a time limit: seconds, as the dialect's text holds them."""
    if value is None or value == "":
        return SECONDS_DEFAULT
    text = str(value).strip()
    if not text.isascii() or not text.isdigit() or len(text) > len("86400"):
        raise InvalidRequestError("A script's time limit is a whole number of seconds.", place)
    return int(text)


def _operation(text: str, place: str) -> Operation:
    for each in PLAN_OPERATIONS:
        if each.value.lower() == text.lower():
            return each
    known = ", ".join(PLAN_OPERATIONS)
    raise InvalidRequestError(
        f"No plan does '{text}': an action is for one or more of {known}.",
        f"{place}.failoverTypes",
    )
