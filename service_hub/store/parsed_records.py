"""Large records that are read far more often than they change, parsed once.

A server's inventory names thousands of machines, and every job of a plan asks for it. What is kept
is known by its text: a record that was changed, or deleted and made anew, is another text.
"""

from typing import Final, TypeVar

from service_hub.domain.records import FabricInventory, Record

R = TypeVar("R", bound=Record)

KEPT: Final[frozenset[type[Record]]] = frozenset({FabricInventory})
KEPT_MAX: Final = 64
"""Records that are kept; where there are more, each is parsed as before once it is not among them.
"""


class ParsedRecords:
    """Gives records from their texts; values are frozen, so that one may be given many times."""

    def __init__(self) -> None:
        self._kept: dict[tuple[type[Record], str], tuple[str, Record]] = {}

    def record(self, kind: type[R], record_id: str, text: str) -> R:
        """Return the record that a text says."""
        if kind not in KEPT:
            return kind.model_validate_json(text)
        key = (kind, record_id)
        known = self._kept.pop(key, None)
        if known is not None and known[0] == text:
            self._kept[key] = known  # The newest in use is the last to go.
            found = known[1]
            assert isinstance(found, kind), "it was kept under its kind"
            return found
        record = kind.model_validate_json(text)
        self._kept[key] = (text, record)
        if len(self._kept) > KEPT_MAX:
            del self._kept[next(iter(self._kept))]
        return record
