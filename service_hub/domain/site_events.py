"""What an injected event asks of the management port of a laboratory's site; pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue, ValidationError

from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.injections import InjectionKind
from wire_contract.faults import FaultRequest

RESTORE: Final = "restore"
FAULTS: Final = "faults"
LINK: Final = "link"
"""`cut` or `up`: what the hosts of the site send to other sites."""

_KNOWN: Final = (RESTORE, FAULTS, LINK)


@dataclass(frozen=True, slots=True)
class SiteOrder:
    """One request to the management port: `PUT` this path with this body."""

    path: str
    body: Mapping[str, JsonValue]


def site_orders(event: InjectionKind, arguments: Mapping[str, JsonValue]) -> tuple[SiteOrder, ...]:
    """Return what is asked of the site, in order; InvalidRequestError names a wrong argument.

    Asking again for what holds already changes nothing there.
    """
    unknown = sorted(set(arguments) - set(_KNOWN))
    if unknown:
        known = ", ".join(_KNOWN)
        raise _wrong(unknown[0], f"is not known to {event.value}: it takes {known}")
    ends = arguments.get(RESTORE, False)
    if not isinstance(ends, bool):
        raise _wrong(RESTORE, "must be true or false")
    link = arguments.get(LINK)
    if LINK in arguments and link not in ("cut", "up"):
        raise _wrong(LINK, "must be 'cut' or 'up'")
    orders = []
    if link is not None:
        orders.append(SiteOrder("/link", {"up": ends or link == "up"}))
    if FAULTS in arguments or (event is InjectionKind.REPLICATION_FAULT and link is None):
        orders.append(SiteOrder("/faults", {FAULTS: _faults(arguments, ends=ends)}))
    if event is InjectionKind.SITE_OUTAGE:
        orders.append(SiteOrder("/power", {"on": ends}))
    elif event is InjectionKind.PROVIDER_LOSS:
        orders.append(SiteOrder("/service", {"running": ends}))
    return tuple(orders)


def _faults(arguments: Mapping[str, JsonValue], *, ends: bool) -> JsonValue:
    if ends:
        if arguments.get(FAULTS):
            raise _wrong(FAULTS, "must be left out where 'restore' takes all faults back")
        return []
    if FAULTS not in arguments:
        raise _wrong(FAULTS, "must say what goes wrong, or 'link' that the link is cut")
    try:
        wanted = FaultRequest.model_validate({FAULTS: arguments[FAULTS]})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(each) for each in first["loc"])
        raise _wrong(place, f"can't be used: {first['msg']}") from None
    told: JsonValue = wanted.model_dump(mode="json")[FAULTS]
    return told


def _wrong(name: str, cause: str) -> InvalidRequestError:
    return InvalidRequestError(f"The argument '{name}' {cause}.", f"arguments.{name}")
