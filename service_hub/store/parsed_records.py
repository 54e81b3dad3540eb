"""Large records that are read far more often than they change, parsed once.

A server's inventory names thousands of machines, and every job of a plan asks for it. What is kept
is known by the number of the change that wrote it: a record that was changed, or deleted and made
anew, has another one. So its text is not even read.
"""

from typing import Final, TypeVar

from service_hub.domain.records import FabricInventory, Record
from service_hub.ports.changes import Versioned

R = TypeVar("R", bound=Record)

KEPT: Final[frozenset[type[Record]]] = frozenset({FabricInventory})
KEPT_MAX: Final = 64
"""Records that are kept; where there are more, each is parsed as before once it is not among them.
"""


class ParsedRecords:
    """Keeps records as they were at a change; values are frozen: one may be given many times."""

    def __init__(self) -> None:
        self._kept: dict[tuple[type[Record], str], tuple[int, Versioned[Record]]] = {}

    def known(self, kind: type[R], record_id: str, change: int) -> Versioned[R] | None:
        """Return the record that this change wrote, where it is kept."""
        key = (kind, record_id)
        kept = self._kept.pop(key, None)
        if kept is None or kept[0] != change:
            return None
        self._kept[key] = kept  # The newest in use is the last to go.
        found = kept[1]
        assert isinstance(found.record, kind), "it was kept under its kind"
        return Versioned(found.record, found.version)

    def keep(self, kind: type[R], record_id: str, change: int, found: Versioned[R]) -> None:
        """Keep a record as this change wrote it."""
        record: Versioned[Record] = Versioned(found.record, found.version)
        self._kept[kind, record_id] = (change, record)
        if len(self._kept) > KEPT_MAX:
            del self._kept[next(iter(self._kept))]
