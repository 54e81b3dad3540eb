"""Whether what both sites show agrees with what a restored hub believes; pure."""

from collections.abc import Mapping

from wire_contract.vmm_interface import MachineView
from wire_contract.vocabulary import ReplicationMode, RunState, Side


def agrees(authority: Side, views: Mapping[Side, MachineView]) -> bool:
    """Return whether the copy at `authority` is plainly the one that may run.

    It must not be fenced, and either it alone runs (paused or not), or it alone replicates as the
    primary.
    """
    other = Side.RECOVERY if authority is Side.PRIMARY else Side.PRIMARY
    holder, partner = views[authority], views[other]
    if holder.fenced or partner.run_state is not RunState.OFF:
        return False
    return holder.run_state is not RunState.OFF or (
        _is_primary(holder) and not _is_primary(partner)
    )


def _is_primary(view: MachineView) -> bool:
    return view.replication is not None and view.replication.mode is ReplicationMode.PRIMARY
