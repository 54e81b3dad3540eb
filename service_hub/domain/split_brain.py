"""Two copies after an unplanned failover: what the former source may still do, and what it holds.

Architecture, decision 4: while a lost source cannot be reached, two copies can run, and only one
holds the current epoch; the other is stopped and fenced at first contact. What it wrote meanwhile
is on no other disk: reversing the replication overwrites it, so that somebody has to say whether it
is kept or given up. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from service_hub.domain.protection import ProtectionState
from wire_contract.vmm_interface import MachineView
from wire_contract.vocabulary import ReplicationMode, RunState


class SourceChanges(StrEnum):
    """What becomes of what the former source alone holds, when replication is reversed.

    KEEP: its disks are set aside in a machine of their own first. DISCARD: they are overwritten.
    """

    KEEP = "Keep"
    DISCARD = "Discard"


FAILED_OVER_UNPLANNED: Final = frozenset(
    {
        ProtectionState.UNPLANNED_FAILED_OVER,
        ProtectionState.UNPLANNED_COMMITTED,
        ProtectionState.UNPLANNED_COMMIT_FAILED,
    }
)
"""The former source was not brought to its end first."""


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """What the former source holds that the copy which runs does not.

    `seen`: it has shown itself since the failover; before that, nothing is known. `records` counts
    the guest's own (None: it names none), `changed_bytes` what its host has noted and not sent.
    """

    seen: bool
    records: int | None = None
    changed_bytes: int = 0

    @property
    def may_be_lost(self) -> bool:
        """Whether a reversal would, or could, overwrite something."""
        return not self.seen or bool(self.records) or self.changed_bytes > 0

    @property
    def words(self) -> str:
        """What there is, for people."""
        if not self.seen:
            return (
                "its former source has not shown itself since the failover: what it wrote is"
                " unknown"
            )
        if not self.may_be_lost:
            return "its former source holds nothing that the copy which runs does not have"
        count = "an unknown number of" if self.records is None else str(self.records)
        return (
            f"its former source holds {count} records ({self.changed_bytes} bytes noted as changed)"
            " that the copy which runs does not have"
        )


def left_behind(
    source: MachineView | None,
    holder: MachineView | None,
    seen_at: datetime | None,
    failed_over_at: datetime | None,
) -> LeftBehind:
    """Compare the former source with the copy that runs, by their newest views."""
    early = seen_at is None or (failed_over_at is not None and seen_at < failed_over_at)
    if source is None or early:
        return LeftBehind(seen=False)
    replication = source.replication
    if replication is None or replication.mode is not ReplicationMode.PRIMARY:
        # It is a replica again, or nothing: the reversal has taken it over already.
        return LeftBehind(seen=True)
    records = None
    stands_at = None if holder is None else holder.replication
    if replication.last_record is not None and stands_at is not None:
        records = max(0, replication.last_record - stands_at.last_cut_record)
    return LeftBehind(seen=True, records=records, changed_bytes=replication.tracked_bytes)


def choice_of(arguments: Mapping[str, object]) -> SourceChanges | None:
    """Return what the operator chose, None where nothing was said."""
    chosen = arguments.get("source_changes")
    return None if chosen is None else SourceChanges(str(chosen))


def may_run(source: MachineView | None, *, seen: bool, connected: bool) -> bool:
    """Whether the former source may still run beside the copy that was started."""
    if not seen:
        return not connected or source is None or source.run_state is RunState.RUNNING
    return source is not None and source.run_state is RunState.RUNNING
