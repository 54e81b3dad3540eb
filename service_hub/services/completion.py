"""Begins the two "Finalize protection" jobs once initial replication is observed to have ended."""

from collections.abc import Sequence
from typing import Final

from service_hub.domain.jobs import Job, JobState
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import MachineObservation, ProtectedItem
from service_hub.ports.stores import Committer, Reader
from service_hub.ports.surroundings import Clock
from service_hub.services.asked_in_vmm import AskedInVmm
from service_hub.services.protection import ProtectionService
from wire_contract.vmm_interface import MachineView
from wire_contract.vocabulary import ReplicationMode, ReplicationState, Side

AWAITED_IN: Final = frozenset(
    {ProtectionState.INITIAL_REPLICATION, ProtectionState.PRIMARY_COMPLETED}
)
"""States in which an observation may begin a completion (`consider`)."""


class CompletionService:
    """The Followers of the hub's ports, and told of every observation."""

    def __init__(
        self, reader: Reader, committer: Committer, clock: Clock, protection: ProtectionService
    ) -> None:
        self._reader = reader
        self._protection = protection
        self._asked = AskedInVmm(
            reader=reader, committer=committer, clock=clock, protection=protection
        )

    def awaits(self, job: Job) -> bool:
        """Whether a completion may follow from the end of this job."""
        return job.item_id is not None and job.state is JobState.SUCCEEDED

    async def job_ended(self, job: Job) -> None:
        """Look whether the item's next completion may begin now."""
        if job.item_id is not None and self.awaits(job):
            await self.consider(job.item_id)

    async def observed(self, provider_id: str, machine_id: str) -> None:
        """Look whether a machine is what a completion waits for, or asks to be protected."""
        await self._asked.observed(provider_id, machine_id)
        for item_id in await self._items_of(provider_id, machine_id):
            await self.consider(item_id)

    async def all_observed(self, provider_id: str, machines: Sequence[MachineView]) -> None:
        """Look whether one of a server's machines is waited for, or asks to be protected.

        Its items are read once, not once for each of thousands of machines.
        """
        for machine in machines:
            if (
                machine.protection_asked_at is not None
                or machine.protection_end_asked_at is not None
            ):
                await self._asked.observed(provider_id, machine.machine_id)
        present = {f"{provider_id}/{machine.machine_id}" for machine in machines}
        for column in ("primary_provider_id", "recovery_provider_id"):
            for found in await self._reader.find(ProtectedItem, **{column: provider_id}):
                item = found.record
                if item.state in AWAITED_IN and not present.isdisjoint(_copies(item)):
                    await self.consider(item.id)

    async def _items_of(self, provider_id: str, machine_id: str) -> set[str]:
        """Return the items that a copy may belong to: a plan's machines all tell at one moment.

        An item is named after the machine that was protected first; a replica's own view names it.
        """
        key = f"{provider_id}/{machine_id}"
        seen = await self._reader.get(MachineObservation, key)
        named = None if seen is None else seen.record.machine.protected_item
        candidates = {machine_id.lower(), *([] if named is None else [named.lower()])}
        found = [await self._reader.get(ProtectedItem, each) for each in sorted(candidates)]
        items = [each.record for each in found if each is not None]
        return {each.id for each in items if key in _copies(each)}

    async def consider(self, item_id: str) -> None:
        """Begin the completion that the item's state and the primary's replication call for."""
        found = await self._reader.get(ProtectedItem, item_id)
        if found is None or found.record.current is not None:
            return
        item = found.record
        if item.state is ProtectionState.PRIMARY_COMPLETED:
            await self._protection.begin_internal(item.id, Operation.COMPLETE_RECOVERY)
        elif item.state is ProtectionState.INITIAL_REPLICATION and await self._replicating(item):
            await self._protection.begin_internal(item.id, Operation.COMPLETE_PRIMARY)

    async def _replicating(self, item: ProtectedItem) -> bool:
        side: Side = item.active_location
        observation = await self._reader.get(
            MachineObservation, f"{item.provider_at(side)}/{item.machine_at(side)}"
        )
        replication = None if observation is None else observation.record.machine.replication
        # The mode tells this relation from the one before a reversal, when this end was a replica.
        if replication is None or replication.mode is not ReplicationMode.PRIMARY:
            return False
        # A copy that travels is brought in by the completion itself, once it is written.
        waits = item.initial_replication_type == "Offline" and replication.exported
        return waits or replication.state is ReplicationState.REPLICATING


def _copies(item: ProtectedItem) -> set[str]:
    """Return where the copies of an item are observed."""
    return {f"{item.provider_at(side)}/{item.machine_at(side)}" for side in Side}
