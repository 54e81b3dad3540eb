"""What holds the lines of an exported audit log together, for whoever writes and whoever checks."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any


def hash_of(previous: str, text: str) -> str:
    """Return the hash of a line behind the one with hash `previous` (empty: it is the first)."""
    return hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()


def broken_at(rows: Iterable[Mapping[str, Any]]) -> str | None:
    """Return the number of the first exported row that does not follow the one before it.

    The first row is taken as it is: an export may begin in the middle of a log. Raises KeyError for
    what is no exported row.
    """
    previous: str | None = None
    for row in rows:
        if previous is not None and hash_of(previous, str(row["line"])) != row["hash"]:
            return str(row["number"])
        previous = str(row["hash"])
    return None
