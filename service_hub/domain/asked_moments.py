"""Moments in filters of the dialect; pure."""

from collections.abc import Mapping
from datetime import UTC, datetime

from service_hub.domain.errors import InvalidRequestError


def asked_moment(wanted: Mapping[str, str], name: str) -> datetime | None:
    """Return a moment that a filter names, UTC where it has no offset; None where it names none.

    InvalidRequestError says how one is written.
    """
    text = wanted.get(name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequestError(
            f"'{name}' must be a moment such as 2026-11-23T14:00:00Z.", "$filter"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
