"""A machine that Hyper-V Replica replicates already is taken over, without another copy; pure.

Primary and replica lie in the two clouds of the pair; relationship and replica stay, and get the
settings of the cloud (behaviour.md, 2.3: onboarding).
"""

from typing import Final

from service_hub.domain.records import ProtectedItem
from wire_contract.vmm_interface import InventoryView, MachineView, ReplicationView
from wire_contract.vocabulary import ReplicationMode, ReplicationState

_GOES_ON: Final = frozenset(
    {
        ReplicationState.READY,
        ReplicationState.WAITING_TO_COMPLETE_INITIAL_REPLICATION,
        ReplicationState.REPLICATING,
    }
)
"""States of a primary in which asking for its relationship again changes nothing of it."""


def relationship_to_take_over(
    machine: MachineView, recovery: InventoryView | None, cloud_id: str
) -> ReplicationView | None:
    """Return the relationship of a primary whose replica lies in the other cloud, or None.

    Both ends must show it: the same virtual machine, and each the other as its peer.
    """
    own = machine.replication
    if own is None or own.mode is not ReplicationMode.PRIMARY or own.state not in _GOES_ON:
        return None
    for each in () if recovery is None else recovery.machines:
        other = each.replication
        if (
            each.machine_id == own.peer_machine_id
            and each.hyperv_id == machine.hyperv_id
            and each.cloud_id == cloud_id
            and each.protected_item is None
            and other is not None
            and other.mode is ReplicationMode.REPLICA
            and other.relationship_id == own.relationship_id
        ):
            return own
    return None


def taking_over(item: ProtectedItem, relationship: ReplicationView) -> ProtectedItem:
    """Return the new item as that of a relationship that there is."""
    return item.model_copy(
        update={
            "taken_over": True,
            "relationship_id": relationship.relationship_id,
            "recovery_machine_id": relationship.peer_machine_id,
            "recovery_host": relationship.peer_host,
        }
    )
