"""Protects machines whose administrators asked for it in VMM, and ends that (behaviour.md, 2.3).

The provider sends name and id with the machine's view; the hub begins EnableProtection, or
DisableProtection, as if the request had come over its own surface. What cannot begin is an alert,
and is looked at again.
"""

from collections.abc import Awaitable, Callable

import structlog

from service_hub.domain.errors import DomainError, InvalidRequestError, StorageUnavailableError
from service_hub.domain.protection import Operation
from service_hub.domain.records import (
    Alert,
    ContainerMapping,
    FormerItem,
    MachineObservation,
    ProtectedItem,
    Provider,
    ReplicationPolicy,
    Vault,
)
from service_hub.ports.changes import Change, Save
from service_hub.ports.stores import Committer, Reader
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import RequestIdentity
from service_hub.services.protection import ProtectionService
from wire_contract.vmm_interface import MachineView

log = structlog.get_logger(__name__)


class AskedInVmm:
    """Told of every observation."""

    def __init__(
        self, *, reader: Reader, committer: Committer, clock: Clock, protection: ProtectionService
    ) -> None:
        self._reader = reader
        self._committer = committer
        self._clock = clock
        self._protection = protection

    async def observed(self, provider_id: str, machine_id: str) -> None:
        """Begin, or end, to protect a machine that asks for it, once for each time of asking."""
        seen = await self._reader.get(MachineObservation, f"{provider_id}/{machine_id}")
        if seen is None:
            return
        machine = seen.record.machine
        begin: Callable[[Provider, MachineView], Awaitable[None]]
        if await self._is_open(machine):
            begin = self._begin
        elif await self._end_is_open(provider_id, machine):
            begin = self._end
        else:
            return
        provider = await self._reader.get(Provider, provider_id)
        if provider is None:
            return
        try:
            await begin(provider.record, machine)
        except StorageUnavailableError:
            raise
        except DomainError as error:
            await self._tell(provider.record, machine, str(error))

    async def _is_open(self, machine: MachineView) -> bool:
        asked_at = machine.protection_asked_at
        if asked_at is None or machine.protected_item is not None:
            return False
        if await self._reader.get(ProtectedItem, machine.machine_id) is not None:
            return False
        # Asked before its protection ended: that has been answered.
        former = await self._reader.get(FormerItem, machine.machine_id)
        ended_at = None if former is None else former.record.ended_at
        return ended_at is None or asked_at > ended_at

    async def _end_is_open(self, provider_id: str, machine: MachineView) -> bool:
        """Whether the active copy of an item at rest asks for the end, and was asked since."""
        asked_at = machine.protection_end_asked_at
        if asked_at is None or machine.protected_item is None:
            return False
        found = await self._reader.get(ProtectedItem, machine.protected_item)
        if found is None:
            return False
        item = found.record
        active = (item.provider_at(item.active_location), item.machine_at(item.active_location))
        if active != (provider_id, machine.machine_id):
            return False
        return item.current is None and item.plan is None

    async def _end(self, provider: Provider, machine: MachineView) -> None:
        """Ask for it under one name for each time, so that asking again finds the same job."""
        vault = await self._reader.get(Vault, provider.vault_id)
        assert machine.protected_item is not None, "it is an item's"
        if vault is None:
            return
        job = await self._protection.request(
            vault.record,
            machine.protected_item,
            Operation.DISABLE.value,
            {},
            RequestIdentity(
                principal=f"provider {provider.id}",
                client_request_id=f"end asked in VMM at {machine.protection_end_asked_at}",
                correlation_id=self._clock.new_id(),
                method="POST",
                path=f"/vmm/machines/{machine.machine_id}/remove",
                body_digest="",
            ),
        )
        log.info("end_of_protection_asked_in_vmm", machine_id=machine.machine_id, job_id=job.id)

    async def _begin(self, provider: Provider, machine: MachineView) -> None:
        vault = await self._reader.get(Vault, provider.vault_id)
        if vault is None:
            return
        correlation = self._clock.new_id()
        job = await self._protection.enable(
            vault.record,
            container=(provider.fabric_name, machine.cloud_id),
            item_name=machine.machine_id,
            machine_id=machine.machine_id,
            policy_name=await self._policy(machine.cloud_id),
            identity=RequestIdentity(
                principal=f"provider {provider.id}",
                client_request_id=f"asked in VMM at {machine.protection_asked_at}",
                correlation_id=correlation,
                method="PUT",
                path=f"/vmm/machines/{machine.machine_id}",
                body_digest="",
            ),
        )
        log.info("protection_asked_in_vmm", machine_id=machine.machine_id, job_id=job.id)

    async def _policy(self, cloud_id: str) -> str:
        """Return the policy of the cloud's pair; InvalidRequestError where it has none."""
        for found in await self._reader.find(ContainerMapping, primary_cloud_id=cloud_id):
            policy = await self._reader.get(ReplicationPolicy, found.record.policy_id)
            if policy is not None and found.record.mapping_state == "Paired":
                return policy.record.name
        raise InvalidRequestError(
            "its cloud is not paired as a primary: pair it, then the protection begins by itself"
        )

    async def _tell(self, provider: Provider, machine: MachineView, cause: str) -> None:
        """Raise one alert for each time that it was asked."""
        ends = machine.protection_end_asked_at
        asked_at, what = (
            (machine.protection_asked_at, "its protection")
            if ends is None
            else (f"end/{ends}", "the end of its protection")
        )
        alert_id = f"asked/{provider.id}/{machine.machine_id}/{asked_at}"
        if await self._reader.get(Alert, alert_id) is not None:
            return
        alert = Alert(
            id=alert_id,
            vault_id=provider.vault_id,
            provider_id=provider.id,
            code="ProtectionNotBegun" if ends is None else "ProtectionNotEnded",
            message=f"{machine.name} ({machine.machine_id}): {what} was asked for in VMM"
            f" and could not begin: {cause}",
            raised_at=self._clock.now(),
        )
        await self._committer.commit(Change(saves=(Save(alert, None),)))
        log.warning("asked_in_vmm_in_vain", machine_id=machine.machine_id, cause=cause)
