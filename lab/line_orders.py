"""What passes on the line between a site and its hub, and what is asked of it; pure.

The lab's relay is asked in one line of JSON on its control socket, and answers in one; a provider
asks it for a way to the hub with CONNECT, as it asks any proxy (RFC 9110, 9.3.6).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

CONTROL_BYTES_MAX: Final = 65_536
HEAD_BYTES_MAX: Final = 8_192
ALL_SITES: Final = "all"

_CONNECT: Final = re.compile(
    rb"CONNECT ([0-9A-Za-z.\-]{1,253}):([0-9]{1,5}) HTTP/1\.[01]\r\n(?:[^\x00]*\r\n)?\r\n"
)

SiteName = Annotated[str, Field(min_length=1, max_length=64)]


class Carried(StrEnum):
    """What a line carries: all but the events, and the events."""

    HTTPS = "https"
    MQTT = "mqtt"


class LineDoes(StrEnum):
    """What may be done to a line."""

    CUT = "cut"
    HEAL = "heal"


Cuts = Mapping[str, frozenset[Carried]]
"""What does not pass, by site; a site whose line is whole is not named."""


class LineError(ValueError):
    """What was asked cannot be; the message says why."""


class LineOrder(BaseModel):
    """An order to the relay: what of a site's line, or of all of them, is cut or healed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    site: SiteName
    does: LineDoes
    carries: frozenset[Carried] = frozenset(Carried)


class LineAnswer(BaseModel):
    """What the relay answers: what is cut from now on, or why the order was refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cut: dict[SiteName, frozenset[Carried]] = Field(default_factory=dict)
    refused: str | None = Field(default=None, max_length=4_096)


@dataclass(frozen=True, slots=True)
class Way:
    """Where a provider wants to be led to."""

    host: str
    port: int


def read_order(line: bytes) -> LineOrder:
    """Return an order; LineError for anything else."""
    try:
        return LineOrder.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(each) for each in first["loc"]) or "the order"
        raise LineError(f"{where}: {first['msg']}") from None


def read_cuts(content: bytes) -> Cuts:
    """Return what was cut, as `LineAnswer` has it; LineError for anything else."""
    try:
        return LineAnswer.model_validate_json(content).cut
    except ValidationError as error:
        raise LineError(f"it does not say what is cut ({error.error_count()} errors)") from None


def read_way(head: bytes) -> Way:
    """Return where the head of a request wants to be led to; LineError where it is no CONNECT."""
    found = _CONNECT.fullmatch(head)
    if found is None:
        raise LineError("only CONNECT host:port is understood here")
    return Way(found[1].decode().lower(), int(found[2]))


def changed(cuts: Cuts, order: LineOrder, sites: frozenset[str]) -> Cuts:
    """Return what is cut once an order is carried out; LineError for a site that is not there."""
    meant = sites if order.site == ALL_SITES else frozenset({order.site})
    if not meant <= sites:
        raise LineError(f"there is no site {order.site}; there is {', '.join(sorted(sites))}")
    after = {
        site: cuts.get(site, frozenset()) | order.carries
        if order.does is LineDoes.CUT
        else cuts.get(site, frozenset()) - order.carries
        for site in meant
    }
    return {site: cut for site, cut in {**cuts, **after}.items() if cut}
