"""Lists in pages: `{"value": [...], "nextLink": null}`, the rest behind `$skipToken`."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from service_hub.arm.calls import Answer, Call
from service_hub.domain.errors import InvalidRequestError

PAGE_ENTRIES_MAX: Final = 200
"""Entries of one page; some 60 jobs were recorded in one."""

_TOKEN: Final = re.compile(r"([0-9]{1,9})-([0-9a-f]{16})")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_SKIP_TOKENS: Final = ("$skiptoken", "skiptoken")
_TAKE: Final = "$take"


def page(call: Call, entries: Sequence[dict[str, Any]], public_url: str) -> Answer:
    """Answer with one page of entries; each has an `id`, by which the next page begins."""
    query = {key.lower(): value for key, value in call.query.items()}
    if query.get("$filter"):
        raise InvalidRequestError(
            "This list can't be filtered. Ask for it without '$filter' and choose from the answer.",
            "$filter",
        )
    limit = _taken(query.get(_TAKE))
    start = _start(entries, next((query[key] for key in _SKIP_TOKENS if query.get(key)), None))
    shown = entries[start : start + limit]
    more = start + limit < len(entries)
    token = f"{start + limit}-{_mark(shown[-1])}" if more else None
    link = _next_link(call, token, public_url) if token else None
    return Answer(body={"value": list(shown), "nextLink": link})


def _taken(text: str | None) -> int:
    if text is None:
        return PAGE_ENTRIES_MAX
    if not _NUMBER.fullmatch(text) or int(text) == 0:
        raise InvalidRequestError("'$take' must be a number above 0.", _TAKE)
    return min(int(text), PAGE_ENTRIES_MAX)


def _mark(entry: dict[str, Any]) -> str:
    return hashlib.sha256(str(entry["id"]).encode()).hexdigest()[:16]


def _start(entries: Sequence[dict[str, Any]], token: str | None) -> int:
    """Return where the next page begins: after the entry the last one ended with.

    New jobs come in front, so that a position alone would show an entry twice; the position serves
    when that entry is gone.
    """
    if token is None:
        return 0
    found = _TOKEN.fullmatch(token)
    if found is None:
        raise InvalidRequestError("'$skipToken' isn't one that this list gave.", "$skipToken")
    position, mark = int(found[1]), found[2]
    for index, entry in enumerate(entries):
        if _mark(entry) == mark:
            return index + 1
    return min(position, len(entries))


def _next_link(call: Call, token: str, public_url: str) -> str:
    url = urlsplit(call.url)
    kept = [
        (key, value)
        for key, value in parse_qsl(url.query, keep_blank_values=True)
        if key.lower() not in _SKIP_TOKENS
    ]
    return f"{public_url}{url.path}?{urlencode([*kept, ('$skipToken', token)])}"
