"""Records that are read more often than they change and are long to parse, parsed once.

A server's inventory names thousands of machines, and every job of a plan asks for it; what was seen
of a machine is asked for by each report that shows it again. What is kept
is known by the number of the change that wrote it: a record that was changed, or deleted and made
anew, has another one. So its text is not even read.
"""

from collections.abc import Mapping
from typing import Final, TypeVar

from service_hub.domain.records import FabricInventory, MachineObservation, Record
from service_hub.ports.changes import Versioned

R = TypeVar("R", bound=Record)

KEPT: Final[Mapping[type[Record], int]] = {FabricInventory: 64, MachineObservation: 2000}
"""How many of each kind are kept; where there are more, one that is not among them is parsed."""


class ParsedRecords:
    """Keeps records as they were at a change; values are frozen: one may be given many times."""

    def __init__(self) -> None:
        self._kept: dict[type[Record], dict[str, tuple[int, Versioned[Record]]]] = {
            kind: {} for kind in KEPT
        }

    def known(self, kind: type[R], record_id: str, change: int) -> Versioned[R] | None:
        """Return the record that this change wrote, where it is kept."""
        of_kind = self._kept[kind]
        kept = of_kind.pop(record_id, None)
        if kept is None or kept[0] != change:
            return None
        of_kind[record_id] = kept  # The newest in use is the last to go.
        found = kept[1]
        assert isinstance(found.record, kind), "it was kept under its kind"
        return Versioned(found.record, found.version)

    def keep(self, kind: type[R], record_id: str, change: int, found: Versioned[R]) -> None:
        """Keep a record as this change wrote it."""
        record: Versioned[Record] = Versioned(found.record, found.version)
        of_kind = self._kept[kind]
        of_kind[record_id] = (change, record)
        if len(of_kind) > KEPT[kind]:
            del of_kind[next(iter(of_kind))]
