"""Consistency groups: the primaries of a site that are cut at one moment (issue: one cut for all).

The member that comes first by its id leads: at its interval it cuts for all that replicate and are
not still busy, and hands each its change set. A member whose sending fails sends it with the next;
the others go on. All points of a group that carry one time are one moment of all.
"""

from collections.abc import Callable, Sequence

import structlog

from service_shell.clock import Clock
from vmm_simulator.hyperv.backend import Consistency
from vmm_simulator.hyperv.cutting import cut_application_consistent, cut_together
from vmm_simulator.hyperv.host_guests import disk_files
from vmm_simulator.hyperv.shipping import Shipping
from vmm_simulator.store import InventoryStore
from wire_contract.vocabulary import ReplicationMode, ReplicationState

log = structlog.get_logger(__name__)


class Groups:
    """Who is cut with whom; `shipping_of` and `wake` reach the members' own cycles."""

    def __init__(
        self,
        store: InventoryStore,
        clock: Clock,
        shipping_of: Callable[[str], Shipping],
        wake: Callable[[str], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._shipping_of = shipping_of
        self._wake = wake

    def members(self, machine_id: str) -> Sequence[str]:
        """Return the replicating machines that are cut with this one, itself among them."""
        machine = self._store.machine(machine_id)
        group = None if machine.relationship is None else machine.relationship.consistency_group
        if group is None:
            return (machine_id,)
        return sorted(
            each.machine_id
            for each in self._store.machines.values()
            if each.relationship is not None
            and each.relationship.consistency_group == group
            and each.mode is ReplicationMode.PRIMARY
            and each.state is ReplicationState.REPLICATING
            and not each.fenced
        )

    async def cut(self, machine_ids: Sequence[str]) -> None:
        """Cut all members that are not busy at one moment, and hand each its change set."""
        shippings = [self._shipping_of(machine_id) for machine_id in machine_ids]
        free = [each for each in shippings if not each.busy]
        members = [each.member() for each in free]
        for member in members:
            await member.host.backend.attach(member.machine_id, disk_files(member.machine))
        now = self._clock.now()
        sets = None
        if any(each.application_consistency_due(now) for each in free):
            sets = await cut_application_consistent(members, self._clock)
            for each in free:
                await each.note_application_consistency(found=sets is not None)
        if sets is None:
            sets = await cut_together(members, self._clock.now(), Consistency.CRASH)
        for shipping, member in zip(free, members, strict=True):
            shipping.hand(sets[member.machine_id])
            self._wake(member.machine_id)
        log.info("group_cut", machine_ids=list(sets), busy=len(shippings) - len(free))
