"""Lists in pages: `{"value": [...], "nextLink": null}`, the rest behind `$skipToken`."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from service_hub.arm.calls import Answer, Call
from service_hub.domain.errors import InvalidRequestError
from service_hub.ports.stores import EventPlace, JobPlace

PAGE_ENTRIES_MAX: Final = 200
"""Entries of one page; some 60 jobs were recorded in one."""

_TOKEN: Final = re.compile(r"([0-9]{1,9})-([0-9a-f]{16})")
_PLACE_TOKEN: Final = re.compile(r"([0-9]{1,18})-([0-9a-f-]{1,64})")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_SKIP_TOKENS: Final = ("$skiptoken", "skiptoken")
_TAKE: Final = "$take"


def page(call: Call, entries: Sequence[dict[str, Any]], public_url: str) -> Answer:
    """Answer with one page of entries; each has an `id`, by which the next page begins."""
    limit, token = _asked(call)
    start = _start(entries, token)
    shown = entries[start : start + limit]
    more = start + limit < len(entries)
    following = f"{start + limit}-{_mark(shown[-1])}" if more else None
    return _answer(call, shown, following, public_url)


def asked_of_jobs(call: Call) -> tuple[JobPlace | None, int]:
    """Return behind which job a page begins, None for the first one, and how many are asked for.

    Jobs are too many to read them all for each page: a page's place is that of its last job.
    """
    limit, token = _asked(call, may_filter=True)
    if token is None:
        return None, limit
    return JobPlace(*_place(token)), limit


def asked_of_events(call: Call) -> tuple[EventPlace | None, int]:
    """Return the same of events; a filter is the caller's to read."""
    limit, token = _asked(call, may_filter=True)
    return (None if token is None else EventPlace(*_place(token))), limit


def _place(token: str) -> tuple[int, str]:
    found = _PLACE_TOKEN.fullmatch(token)
    if found is None:
        raise _unknown_token()
    return int(found[1]), found[2]


def page_of_jobs(
    call: Call, shown: Sequence[dict[str, Any]], last: JobPlace | None, public_url: str
) -> Answer:
    """Answer with one page of jobs; `last` is the place of its last one where more follow."""
    following = None if last is None else f"{last.created}-{last.job_id}"
    return _answer(call, shown, following, public_url)


def page_of_events(
    call: Call, shown: Sequence[dict[str, Any]], last: EventPlace | None, public_url: str
) -> Answer:
    """Answer with one page of events; `last` is the place of its last one where more follow."""
    following = None if last is None else f"{last.created}-{last.event_id}"
    return _answer(call, shown, following, public_url)


def _asked(call: Call, *, may_filter: bool = False) -> tuple[int, str | None]:
    """Return how many entries are asked for, and the token of the page before."""
    query = {key.lower(): value for key, value in call.query.items()}
    if query.get("$filter") and not may_filter:
        raise InvalidRequestError(
            "This list can't be filtered. Ask for it without '$filter' and choose from the answer.",
            "$filter",
        )
    token = next((query[key] for key in _SKIP_TOKENS if query.get(key)), None)
    return _taken(query.get(_TAKE)), token


def _answer(
    call: Call, shown: Sequence[dict[str, Any]], following: str | None, public_url: str
) -> Answer:
    link = _next_link(call, following, public_url) if following else None
    return Answer(body={"value": list(shown), "nextLink": link})


def _unknown_token() -> InvalidRequestError:
    return InvalidRequestError("'$skipToken' isn't one that this list gave.", "$skipToken")


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
        raise _unknown_token()
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
