"""The groups of a plan that is to be previewed, read from a body."""

from typing import Any, Final

from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.plans import MEMBERS_MAX, PlanGroup

GROUPS: Final = "groups"
GROUPS_MAX: Final = 100
NAME_MAX: Final = 256
ACTION_MAX: Final = 4_096

_KNOWN: Final = frozenset({"name", "members", "manual_action", "go_on_past_errors"})


def plan_groups(value: object) -> tuple[PlanGroup, ...]:
    """Return groups of a body; InvalidRequestError names what is wrong with them."""
    if not isinstance(value, list) or not 0 < len(value) <= GROUPS_MAX:
        raise InvalidRequestError(
            f"The property '{GROUPS}' must be a list of 1 to {GROUPS_MAX} groups.", GROUPS
        )
    return tuple(_group(each, number) for number, each in enumerate(value, start=1))


def _group(value: object, number: int) -> PlanGroup:
    place = f"{GROUPS}[{number - 1}]"
    if not isinstance(value, dict):
        raise InvalidRequestError(f"The property '{place}' must be an object.", place)
    unknown = set(value) - _KNOWN
    if unknown:
        each = min(map(str, unknown))
        raise InvalidRequestError(f"The property '{place}.{each}' is not known.", place)
    members = value.get("members")
    if not isinstance(members, list) or len(members) > MEMBERS_MAX:
        raise InvalidRequestError(
            f"The property '{place}.members' must be a list of at most {MEMBERS_MAX} machines.",
            place,
        )
    go_on = value.get("go_on_past_errors", False)
    if not isinstance(go_on, bool):
        raise InvalidRequestError(
            f"The property '{place}.go_on_past_errors' must be true or false.", place
        )
    action = value.get("manual_action")
    return PlanGroup(
        name=_text(value.get("name", f"Group {number}"), f"{place}.name", NAME_MAX),
        members=tuple(_text(each, f"{place}.members", NAME_MAX).lower() for each in members),
        manual_action=None
        if action is None
        else _text(action, f"{place}.manual_action", ACTION_MAX),
        go_on_past_errors=go_on,
    )


def _text(value: Any, place: str, characters_max: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= characters_max:
        raise InvalidRequestError(
            f"The property '{place}' must be a text of at most {characters_max} characters.", place
        )
    return value
