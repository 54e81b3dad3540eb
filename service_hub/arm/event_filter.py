"""Reads the `$filter` of lists: comparisons joined by `and`.

The dialect's client writes the fields of its EventQueryParameter so (arm-api.md, table of
operations): `EventType eq 'VmHealth' and StartTime eq '2026-11-23T00:00:00Z'`.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from service_hub.arm.calls import Call
from service_hub.domain.errors import InvalidRequestError

FILTER_CHARACTERS_MAX: Final = 2_000

_COMPARISON: Final = re.compile(r"\s*(\w{1,64})\s+eq\s+'((?:[^']|'')*)'\s*", re.IGNORECASE)
_AND: Final = re.compile(r"and(?=\s)", re.IGNORECASE)


def read_filter(text: str | None) -> Mapping[str, str]:
    """Return what is wanted, by name in lower case; InvalidRequestError."""
    if not text:
        return {}
    if len(text) > FILTER_CHARACTERS_MAX:
        raise _unreadable(f"it is longer than {FILTER_CHARACTERS_MAX} characters")
    wanted: dict[str, str] = {}
    at = 0
    while True:
        found = _COMPARISON.match(text, at)
        if found is None:
            raise _unreadable("write it as EventType eq 'VmHealth' and Severity eq 'Critical'")
        name = found[1].lower()
        if name in wanted:
            raise _unreadable(f"it names {found[1]} twice")
        wanted[name] = found[2].replace("''", "'")
        at = found.end()
        if at == len(text):
            return wanted
        joined = _AND.match(text, at)
        if joined is None:
            raise _unreadable("comparisons are joined by 'and'")
        at = joined.end()


def asked_filter(call: Call) -> Mapping[str, str]:
    """Return what a request's `$filter` wants, whichever case its name has."""
    query = {key.lower(): value for key, value in call.query.items()}
    return read_filter(query.get("$filter"))


def without_filter(call: Call) -> Call:
    """Return the request as one whose filter was done, so that the list takes it."""
    rest = {key: text for key, text in call.query.items() if key.lower() != "$filter"}
    return replace(call, query=rest)


def _unreadable(why: str) -> InvalidRequestError:
    return InvalidRequestError(f"'$filter' can't be read: {why}.", "$filter")
