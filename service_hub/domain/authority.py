"""What an operator decides when a restored hub cannot tell which copy of a machine may run; pure.

A decision is a new epoch, as a failover is: both sites are told it, the copy that was not chosen is
stopped and fenced. State and place of the item then follow what the chosen copy shows.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from service_hub.domain.protection import ProtectionState
from service_hub.domain.records import ProtectedItem
from wire_contract.vmm_interface import MachineView
from wire_contract.vocabulary import ReplicationMode, ReplicationState, RunState, Side

Views = Mapping[Side, MachineView | None]

_COPYING: Final = frozenset(
    {ReplicationState.READY, ReplicationState.WAITING_TO_COMPLETE_INITIAL_REPLICATION}
)
_FAILED_OVER: Final = {
    (ReplicationState.RECOVERED, False): ProtectionState.PLANNED_FAILED_OVER,
    (ReplicationState.RECOVERED, True): ProtectionState.UNPLANNED_FAILED_OVER,
    (ReplicationState.COMMITTED, False): ProtectionState.PLANNED_COMMITTED,
    (ReplicationState.COMMITTED, True): ProtectionState.UNPLANNED_COMMITTED,
}
"""What a replica's state says of its item, and whether the failover was unplanned."""

_AS_PRIMARY: Final = frozenset(
    {
        ProtectionState.INITIAL_REPLICATION,
        ProtectionState.PRIMARY_COMPLETED,
        ProtectionState.PROTECTED,
        ProtectionState.TEST_OPEN,
    }
)
"""States of an item whose active copy replicates as the primary."""


def refusal_of(item: ProtectedItem, side: Side, views: Views) -> str | None:
    """Return why the copy at one end cannot be chosen, or None."""
    if item.authority_questioned_at is None:
        return "which copy may run is not in question"
    if item.current is not None:
        return f"job {item.current.job_id} works with this machine; let it end first"
    if views[side] is None:
        return f"the {side.value} site has shown no copy of this machine; start its provider first"
    if _state_after(item, side, views) is None:
        return (
            f"the copy at {side.value} is a replica that was never failed over, and cannot run;"
            f" decide for {side.other.value}, and fail over from there if you need this one"
        )
    return None


def warnings_of(item: ProtectedItem, side: Side, views: Views) -> tuple[str, ...]:
    """Return what an operator should know before the copy at one end is chosen."""
    holder, partner = views[side], views[side.other]
    words = []
    if item.authority is not side:
        words.append(f"the hub's database says that {item.authority.value} is authoritative")
    if partner is None:
        words.append(f"the {side.other.value} site has shown nothing since the restore")
    elif partner.run_state is not RunState.OFF:
        how = "is paused" if partner.run_state is RunState.PAUSED else "runs"
        words.append(
            f"the copy at {side.other.value} {how}: it is stopped, and what it wrote is not copied"
        )
    if holder is not None:
        if holder.run_state is not RunState.RUNNING:
            how = "is paused" if holder.run_state is RunState.PAUSED else "does not run"
            words.append(f"the copy at {side.value} {how}")
        if holder.fenced:
            words.append(f"the copy at {side.value} was fenced: a newer one has run elsewhere")
        if partner is not None and holder.epoch < partner.epoch:
            words.append(
                f"the copy at {side.other.value} has seen a newer epoch ({partner.epoch};"
                f" {side.value}: {holder.epoch})"
            )
    return tuple(words)


def decided(item: ProtectedItem, side: Side, views: Views, now: datetime) -> ProtectedItem:
    """Return the item under a new epoch with this end authoritative; asks `refusal_of` first."""
    state = _state_after(item, side, views)
    assert state is not None, "refused before"
    epochs = [view.epoch for view in views.values() if view is not None]
    update = {
        "authority": side,
        "active_location": side,
        "authority_questioned_at": None,
        "epoch": max([item.epoch, *epochs]) + 1,
        "state": state,
        "failed_over_unplanned": _unplanned(side, views),
        "last_failover_at": item.last_failover_at if item.active_location is side else now,
    }
    return item.model_copy(update=update)


def _state_after(item: ProtectedItem, side: Side, views: Views) -> ProtectionState | None:
    """Return the state that the chosen copy shows; None: it cannot be the active one."""
    view = views[side]
    if view is None or view.replication is None:
        return None
    replication = view.replication
    if replication.mode is ReplicationMode.PRIMARY:
        if item.active_location is side and item.state in _AS_PRIMARY:
            return item.state
        copying = replication.state in _COPYING
        return ProtectionState.INITIAL_REPLICATION if copying else ProtectionState.PROTECTED
    return _FAILED_OVER.get((replication.state, _unplanned(side, views)))


def _unplanned(side: Side, views: Views) -> bool:
    """Whether the other copy was not brought to its end first, as a planned failover does."""
    holder, partner = views[side], views[side.other]
    if holder is None or holder.replication is None:
        return False
    if holder.replication.mode is ReplicationMode.PRIMARY:
        return False
    ended = ReplicationState.SYNCED_REPLICATION_COMPLETE
    return partner is None or partner.replication is None or partner.replication.state is not ended
