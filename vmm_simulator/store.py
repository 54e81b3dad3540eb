"""The inventory in memory, always equal to what the journal holds."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from service_shell.errors import ProgramError
from vmm_simulator.journal import Change, Journal
from vmm_simulator.problems import unknown
from vmm_simulator.vmm.records import (
    CloudRecord,
    FabricRecord,
    HostRecord,
    MachineRecord,
    ServiceRecord,
)

_FABRIC: Final = "fabric"
_CLOUD: Final = "cloud"
_HOST: Final = "host"
_MACHINE: Final = "machine"
_SERVICE: Final = "service"

DocumentT = TypeVar("DocumentT", bound=BaseModel)


class InventoryStore:
    """Every change is in the journal before anybody can see it; changes happen one by one."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._one_by_one = asyncio.Lock()
        self._fabric: FabricRecord | None = None
        self._service: ServiceRecord | None = None
        self._clouds: dict[str, CloudRecord] = {}
        self._hosts: dict[str, HostRecord] = {}
        self._machines: dict[str, MachineRecord] = {}
        self._changed = asyncio.Event()

    async def load(self) -> bool:
        """Read everything; False when the journal is new."""
        fabrics = await self._load(_FABRIC, FabricRecord)
        if not fabrics:
            return False
        self._fabric = fabrics[0]
        self._service = next(iter(await self._load(_SERVICE, ServiceRecord)), None)
        self._clouds = {each.cloud_id: each for each in await self._load(_CLOUD, CloudRecord)}
        self._hosts = {each.fqdn: each for each in await self._load(_HOST, HostRecord)}
        machines = await self._load(_MACHINE, MachineRecord)
        self._machines = {each.machine_id: each for each in machines}
        return True

    async def seed(
        self,
        fabric: FabricRecord,
        clouds: Iterable[CloudRecord],
        hosts: Iterable[HostRecord],
        machines: Iterable[MachineRecord],
    ) -> None:
        """Write a first inventory, whole or not at all."""
        changes = [Change(_FABRIC, fabric.vmm_id, fabric.model_dump_json())]
        changes += [Change(_CLOUD, each.cloud_id, each.model_dump_json()) for each in clouds]
        changes += [Change(_HOST, each.fqdn, each.model_dump_json()) for each in hosts]
        changes += [Change(_MACHINE, each.machine_id, each.model_dump_json()) for each in machines]
        await self._journal.save(changes)
        await self.load()

    @property
    def fabric(self) -> FabricRecord:
        """The VMM server and what no verb changes."""
        assert self._fabric is not None
        return self._fabric

    @property
    def has_service(self) -> bool:
        """Whether the journal knows the VMM service: one of an older version does not."""
        return self._service is not None

    @property
    def service(self) -> ServiceRecord:
        """The VMM service."""
        assert self._service is not None
        return self._service

    async def put_service(self, service: ServiceRecord) -> None:
        """Replace the record of the VMM service, durably."""
        async with self._one_by_one:
            await self._write(
                Change(_SERVICE, service.vmm_id, service.model_dump_json()),
                lambda: self._publish_service(service),
            )

    async def change_service(self, change: Callable[[ServiceRecord], ServiceRecord]) -> None:
        """As change_machine, for the VMM service."""
        async with self._one_by_one:
            changed = change(self.service)
            await self._write(
                Change(_SERVICE, changed.vmm_id, changed.model_dump_json()),
                lambda: self._publish_service(changed),
            )

    @property
    def clouds(self) -> Mapping[str, CloudRecord]:
        """Clouds by id."""
        return self._clouds

    @property
    def hosts(self) -> Mapping[str, HostRecord]:
        """Hosts by FQDN."""
        return self._hosts

    @property
    def machines(self) -> Mapping[str, MachineRecord]:
        """Machines by machine id."""
        return self._machines

    def cloud(self, cloud_id: str) -> CloudRecord:
        """Return a cloud, or refuse with 404."""
        found = self._clouds.get(cloud_id)
        if found is None:
            raise unknown("cloud", cloud_id)
        return found

    def host(self, fqdn: str) -> HostRecord:
        """Return a host, or refuse with 404."""
        found = self._hosts.get(fqdn)
        if found is None:
            raise unknown("host", fqdn)
        return found

    def machine(self, machine_id: str) -> MachineRecord:
        """Return a machine, or refuse with 404."""
        found = self._machines.get(machine_id)
        if found is None:
            raise unknown("machine", machine_id)
        return found

    def copies(self, identity: str) -> tuple[MachineRecord, ...]:
        """Return the machines whose machine id or Hyper-V id is `identity`, the former first."""
        found = [each for each in self._machines.values() if identity == each.hyperv_id]
        direct = self._machines.get(identity)
        if direct is not None:
            found = [direct, *(each for each in found if each.machine_id != identity)]
        return tuple(found)

    async def add_machine(self, machine: MachineRecord) -> None:
        """Add a machine, or replace the one of the same id."""
        async with self._one_by_one:
            await self._write(_machine_change(machine), lambda: self._publish(machine))

    async def remove_machine(self, machine_id: str) -> None:
        """Forget a machine; one that is unknown is no error."""
        async with self._one_by_one:
            await self._write(
                Change(_MACHINE, machine_id, None), lambda: self._withdraw(machine_id)
            )

    async def change_machine(
        self, machine_id: str, change: Callable[[MachineRecord], MachineRecord]
    ) -> MachineRecord:
        """Apply a pure change to the present record and return the new one, which is durable."""
        async with self._one_by_one:
            present = self.machine(machine_id)
            changed = change(present)
            if changed != present:
                await self._write(_machine_change(changed), lambda: self._publish(changed))
            return changed

    async def change_cloud(
        self, cloud_id: str, change: Callable[[CloudRecord], CloudRecord]
    ) -> CloudRecord:
        """As change_machine, for a cloud."""
        async with self._one_by_one:
            changed = change(self.cloud(cloud_id))
            await self._write(
                Change(_CLOUD, cloud_id, changed.model_dump_json()),
                lambda: self._clouds.update({cloud_id: changed}),
            )
            return changed

    async def change_host(
        self, fqdn: str, change: Callable[[HostRecord], HostRecord]
    ) -> HostRecord:
        """As change_machine, for a host."""
        async with self._one_by_one:
            changed = change(self.host(fqdn))
            await self._write(
                Change(_HOST, fqdn, changed.model_dump_json()),
                lambda: self._hosts.update({fqdn: changed}),
            )
            return changed

    async def wait_for_machine(
        self, machine_id: str, holds: Callable[[MachineRecord], bool]
    ) -> MachineRecord:
        """Return the machine once the condition holds; the caller bounds the wait."""
        while not holds(self.machine(machine_id)):
            await self._changed.wait()
        return self.machine(machine_id)

    def _publish(self, machine: MachineRecord) -> None:
        self._machines[machine.machine_id] = machine
        self._changed.set()
        self._changed = asyncio.Event()

    def _publish_service(self, service: ServiceRecord) -> None:
        self._service = service

    def _withdraw(self, machine_id: str) -> None:
        self._machines.pop(machine_id, None)

    async def _write(self, change: Change, publish: Callable[[], None]) -> None:
        try:
            await self._journal.save([change])
        except asyncio.CancelledError:
            # The journal has finished the write all the same: memory must not fall behind it.
            publish()
            raise
        publish()

    async def _load(self, kind: str, model: type[DocumentT]) -> list[DocumentT]:
        try:
            return [model.model_validate_json(body) for body in await self._journal.documents(kind)]
        except ValidationError as error:
            raise ProgramError(
                f"the journal holds a damaged {kind} ({error.errors()[0]['msg']});"
                " restore it from a copy, or move the data directory away to begin anew"
            ) from error


def _machine_change(machine: MachineRecord) -> Change:
    return Change(_MACHINE, machine.machine_id, machine.model_dump_json())
