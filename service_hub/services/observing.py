"""Keeps what providers saw: who saw it and when stands beside every view and read-back."""

import json
from datetime import datetime

from service_hub.domain.jobs import UNDO_SUFFIX, Job
from service_hub.domain.looker_records import TaskReceipt
from service_hub.domain.records import (
    FabricInventory,
    MachineObservation,
    Provider,
    ProviderContact,
)
from service_hub.ports.changes import NEW, Save
from service_hub.ports.stores import WideReader
from service_hub.ports.surroundings import Clock
from service_hub.services.witnessing import Witnessing
from wire_contract.reports import TaskOutcome
from wire_contract.vmm_interface import InventoryView, MachineView
from wire_contract.vocabulary import Side


class Observing:
    """Makes the records of what a provider tells, under its identity and its present boot."""

    def __init__(self, *, reader: WideReader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock
        self._witnessing = Witnessing(reader=reader)

    async def inventory(self, provider: Provider, view: InventoryView, now: datetime) -> list[Save]:
        """Return what replaces all that is known of a fabric."""
        boot_id = await self.boot(provider)
        inventory = FabricInventory(
            id=provider.id, vault_id=provider.vault_id, observed_at=now, boot_id=boot_id, view=view
        )
        machines = [_observation(provider, each, now, boot_id) for each in view.machines]
        told = await self._witnessing.told_by(machines)
        return [*(Save(record, None) for record in (inventory, *machines)), *told]

    async def machine(
        self, provider: Provider, machine: MachineView, observed_at: datetime
    ) -> list[Save]:
        """Return what replaces the view of one machine."""
        seen = _observation(provider, machine, observed_at, await self.boot(provider))
        return [Save(seen, None), *await self._witnessing.told_by((seen,))]

    async def read_back(
        self, provider: Provider, report: TaskOutcome, found: tuple[Job, str, Side]
    ) -> list[Save]:
        """Return the receipt of an attempt and the view it read back; a repeated report: nothing.

        `found` is what the report is about. What follows is decided on that view, not on an older
        one.
        """
        job, task_id, side = found
        receipt_id = f"{job.id}/{task_id}/{side.value}/{report.attempt}"
        if await self._reader.get(TaskReceipt, receipt_id) is not None:
            return []
        boot_id, saves = await self.boot(provider), []
        if _was_asked(job, task_id, side, report.attempt):
            receipt = TaskReceipt(
                id=receipt_id,
                vault_id=job.vault_id,
                job_id=job.id,
                task_id=task_id,
                side=side,
                attempt=report.attempt,
                succeeded=report.succeeded,
                observed=report.observed,
                observed_at=report.observed_at,
                provider_id=provider.id,
                boot_id=boot_id,
                received_at=self._clock.now(),
            )
            saves.append(Save(receipt, NEW))
        seen = report.observed.get("machine")
        if isinstance(seen, dict):
            machine = MachineView.model_validate_json(json.dumps(seen))
            shown = _observation(provider, machine, report.observed_at, boot_id)
            saves += [Save(shown, None), *await self._witnessing.told_by((shown,))]
        return saves

    async def boot(self, provider: Provider) -> str:
        """Return which of the provider's runs speaks now; "" before its first session."""
        contact = await self._reader.get(ProviderContact, provider.id)
        return "" if contact is None else contact.record.boot_id


def _observation(
    provider: Provider, machine: MachineView, observed_at: datetime, boot_id: str
) -> MachineObservation:
    return MachineObservation(
        id=f"{provider.id}/{machine.machine_id}",
        vault_id=provider.vault_id,
        provider_id=provider.id,
        observed_at=observed_at,
        boot_id=boot_id,
        machine=machine,
    )


def _was_asked(job: Job, task_id: str, side: Side, attempt: int) -> bool:
    """Return whether this attempt was ever sent: nobody fills the hub with receipts of others."""
    if attempt < 1:
        return False
    run = job.run(task_id.removesuffix(UNDO_SUFFIX))
    if run is None or all(part.side is not side for part in run.parts):
        return False
    return attempt <= (run.undo_attempt if task_id.endswith(UNDO_SUFFIX) else run.attempt)
