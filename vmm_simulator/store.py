"""The inventory in memory, always equal to what the journal holds."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from service_shell.errors import ProgramError
from vmm_simulator.asked_changes import AskedChange, take_turns, tell
from vmm_simulator.journal import Change, Journal
from vmm_simulator.problems import unknown
from vmm_simulator.vmm.clusters import with_broker_of_vmm
from vmm_simulator.vmm.estate_records import ClusterRecord, GrantRecord
from vmm_simulator.vmm.inventory import AnyRecord, Edit, Inventory, id_of, worth_telling
from vmm_simulator.vmm.machine_index import MachineIndex
from vmm_simulator.vmm.record import Record
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
_GRANT: Final = "grant"
_SERVICE: Final = "service"
_CHANGES: Final = "changes"

_KINDS: Final[Mapping[type[AnyRecord], str]] = {
    FabricRecord: _FABRIC,
    CloudRecord: _CLOUD,
    HostRecord: _HOST,
    MachineRecord: _MACHINE,
    GrantRecord: _GRANT,
}

DocumentT = TypeVar("DocumentT", bound=BaseModel)


class ChangeNumber(Record):
    """How many changes of the inventory were announced; each start of the site is one."""

    number: int = 0


class InventoryStore:
    """Every change is in the journal before anybody can see it; changes happen one by one.

    A change that is news (not a mere counter of replication) raises `change_number` in the same
    transaction, and wakes who waits for one.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._one_by_one = asyncio.Lock()
        self._inventory: Inventory | None = None
        self._service: ServiceRecord | None = None
        self._asked: list[AskedChange] = []
        self._changed = asyncio.Event()
        self._announced = asyncio.Event()
        self.change_number = 0

    async def load(self) -> bool:
        """Read everything; False when the journal is new."""
        fabrics = await self._load(_FABRIC, FabricRecord)
        if not fabrics:
            return False
        self._service = next(iter(await self._load(_SERVICE, ServiceRecord)), None)
        hosts = {each.fqdn: each for each in await self._load(_HOST, HostRecord)}
        clouds = {each.cloud_id: each for each in await self._load(_CLOUD, CloudRecord)}
        machines = {each.machine_id: each for each in await self._load(_MACHINE, MachineRecord)}
        grants = {each.grant_id: each for each in await self._load(_GRANT, GrantRecord)}
        fabric = _with_named_clusters(fabrics[0], hosts.values())
        self._inventory = Inventory(
            fabric, clouds, hosts, machines, grants, MachineIndex.of(machines)
        )
        numbers = await self._load(_CHANGES, ChangeNumber)
        self.change_number = numbers[0].number if numbers else 0
        return True

    async def seed(
        self,
        fabric: FabricRecord,
        clouds: Iterable[CloudRecord],
        hosts: Iterable[HostRecord],
        machines: Iterable[MachineRecord],
        grants: Iterable[GrantRecord] = (),
    ) -> None:
        """Write a first inventory, whole or not at all."""
        records: list[AnyRecord] = [fabric, *clouds, *hosts, *machines, *grants]
        await self._journal.save([_put(each) for each in records])
        await self.load()

    async def begin_run(self) -> None:
        """Announce that the site has started: what is live (processes, ports) may be different."""
        async with self._one_by_one:
            number = self.change_number + 1
            await self._write([_numbered(number)], lambda: self._announce(number))

    @property
    def inventory(self) -> Inventory:
        """All of it, as it is at this moment; later changes make another one."""
        assert self._inventory is not None
        return self._inventory

    @property
    def fabric(self) -> FabricRecord:
        """The VMM server and what administrators, not verbs, change."""
        return self.inventory.fabric

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
                [Change(_SERVICE, service.vmm_id, service.model_dump_json())],
                lambda: self._publish_service(service),
            )

    async def change_service(self, change: Callable[[ServiceRecord], ServiceRecord]) -> None:
        """As change_machine, for the VMM service."""
        async with self._one_by_one:
            changed = change(self.service)
            await self._write(
                [Change(_SERVICE, changed.vmm_id, changed.model_dump_json())],
                lambda: self._publish_service(changed),
            )

    @property
    def clouds(self) -> Mapping[str, CloudRecord]:
        """Clouds by id."""
        return self.inventory.clouds

    @property
    def hosts(self) -> Mapping[str, HostRecord]:
        """Hosts by FQDN."""
        return self.inventory.hosts

    @property
    def machines(self) -> Mapping[str, MachineRecord]:
        """Machines by machine id."""
        return self.inventory.machines

    def cloud(self, cloud_id: str) -> CloudRecord:
        """Return a cloud, or refuse with 404."""
        found = self.clouds.get(cloud_id)
        if found is None:
            raise unknown("cloud", cloud_id)
        return found

    def host(self, fqdn: str) -> HostRecord:
        """Return a host, or refuse with 404."""
        found = self.hosts.get(fqdn)
        if found is None:
            raise unknown("host", fqdn)
        return found

    def machine(self, machine_id: str) -> MachineRecord:
        """Return a machine, or refuse with 404."""
        found = self.machines.get(machine_id)
        if found is None:
            raise unknown("machine", machine_id)
        return found

    def copies(self, identity: str) -> tuple[MachineRecord, ...]:
        """Return the machines whose machine id or Hyper-V id is `identity`, the former first."""
        found = [each for each in self.machines.values() if identity == each.hyperv_id]
        direct = self.machines.get(identity)
        if direct is not None:
            found = [direct, *(each for each in found if each.machine_id != identity)]
        return tuple(found)

    async def edit(self, decide: Callable[[Inventory], Edit]) -> Inventory:
        """Do what a pure decision over the whole inventory asks for, in one transaction.

        Returns the inventory after it; what the decision refuses leaves everything as it was.
        """
        async with self._one_by_one:
            before = self.inventory
            await self._commit(decide(before))
            return self.inventory

    async def add_machine(self, machine: MachineRecord) -> None:
        """Add a machine, or replace the one of the same id."""
        await self.edit(lambda _: Edit(put=(machine,)))

    async def remove_machine(self, machine_id: str) -> None:
        """Forget a machine and its addresses; one that is unknown is no error."""
        await self.edit(lambda inventory: _without_machine(inventory, machine_id))

    async def change_machine(
        self, machine_id: str, change: Callable[[MachineRecord], MachineRecord]
    ) -> MachineRecord:
        """Apply a pure change to the present record and return the new one, which is durable.

        What is asked for while a transaction is written becomes the next one, together.
        """
        asked = AskedChange(machine_id, change)
        self._asked.append(asked)
        try:
            async with self._one_by_one:
                if not asked.ended.is_set():
                    await self._change_asked()
        except asyncio.CancelledError:
            if asked.taken:
                await asked.ended.wait()  # It is being written: memory must not fall behind.
            else:
                self._asked.remove(asked)
            raise
        return asked.result()

    async def _change_asked(self) -> None:
        """Do what is asked for in one transaction, one change of each machine; holds the lock."""
        together, self._asked = take_turns(self._asked)
        written = (each.decide(self.machines.get(each.machine_id)) for each in together)
        error: Exception | None = None
        try:
            await self._commit(Edit(put=tuple(each for each in written if each is not None)))
        except Exception as failure:  # noqa: BLE001 -- raised again for everybody who asked
            error = failure
        finally:
            # Also where this caller is called off: it is written and shown all the same.
            tell(together, error)

    async def change_cloud(
        self, cloud_id: str, change: Callable[[CloudRecord], CloudRecord]
    ) -> CloudRecord:
        """As change_machine, for a cloud."""
        async with self._one_by_one:
            changed = change(self.cloud(cloud_id))
            await self._commit(Edit(put=(changed,)))
            return changed

    async def change_host(
        self, fqdn: str, change: Callable[[HostRecord], HostRecord]
    ) -> HostRecord:
        """As change_machine, for a host."""
        async with self._one_by_one:
            changed = change(self.host(fqdn))
            await self._commit(Edit(put=(changed,)))
            return changed

    async def wait_for_machine(
        self, machine_id: str, holds: Callable[[MachineRecord], bool]
    ) -> MachineRecord:
        """Return the machine once the condition holds; the caller bounds the wait."""
        while not holds(self.machine(machine_id)):
            await self._changed.wait()
        return self.machine(machine_id)

    async def wait_for_change(self, after: int) -> int:
        """Return the change number once it is another than `after`; the caller bounds the wait."""
        while self.change_number == after:
            await self._announced.wait()
        return self.change_number

    async def _commit(self, edit: Edit) -> None:
        """Write an edit and then show it; the caller holds the lock."""
        before = self.inventory
        after = before.after(edit)
        changes = [_put(each) for each in edit.put]
        changes += [_removal(each) for each in edit.removed]
        number = self.change_number
        if any(worth_telling(before.find(each), each) for each in edit.put) or any(
            before.find(each) is not None for each in edit.removed
        ):
            number += 1
            changes.append(_numbered(number))
        if changes:
            await self._write(changes, lambda: self._publish(after, number))

    def _publish(self, inventory: Inventory, number: int) -> None:
        self._inventory = inventory
        self._changed.set()
        self._changed = asyncio.Event()
        self._announce(number)

    def _announce(self, number: int) -> None:
        if number != self.change_number:
            self.change_number = number
            self._announced.set()
            self._announced = asyncio.Event()

    def _publish_service(self, service: ServiceRecord) -> None:
        self._service = service

    async def _write(self, changes: list[Change], publish: Callable[[], None]) -> None:
        try:
            await self._journal.save(changes)
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


def _key(record: AnyRecord) -> tuple[str, str]:
    return _KINDS[type(record)], id_of(record)


def _put(record: AnyRecord) -> Change:
    return Change(*_key(record), record.model_dump_json())


def _removal(record: AnyRecord) -> Change:
    return Change(*_key(record), None)


def _numbered(number: int) -> Change:
    return Change(_CHANGES, "inventory", ChangeNumber(number=number).model_dump_json())


def _without_machine(inventory: Inventory, machine_id: str) -> Edit:
    machine = inventory.machines.get(machine_id)
    if machine is None:
        return Edit()
    others = [each for each in inventory.machines.values() if each is not machine]
    kept = {nic.nic_id for each in others for nic in each.nics}
    adapters = {nic.nic_id for nic in machine.nics} - kept
    released = (each for each in inventory.grants.values() if each.nic_id in adapters)
    return Edit(removed=(machine, *released))


def _with_named_clusters(fabric: FabricRecord, hosts: Iterable[HostRecord]) -> FabricRecord:
    """A journal of before clusters were kept has them as names on hosts alone.

    Those whose nodes were prepared for replication have had their broker.
    """
    known = {each.name for each in fabric.clusters}
    hosts = list(hosts)
    named = {host.cluster for host in hosts if host.cluster is not None} - known
    if not named:
        return fabric
    prepared = {host.cluster for host in hosts if host.replica_port is not None}
    clusters = (ClusterRecord(name=name) for name in sorted(named))
    added = tuple(with_broker_of_vmm(each) if each.name in prepared else each for each in clusters)
    return fabric.model_copy(update={"clusters": fabric.clusters + added})
