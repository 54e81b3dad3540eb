"""Hosts come, go and restart while the site runs."""

from collections.abc import Iterable

import structlog

from service_shell.errors import ProgramError
from vmm_simulator.host_maker import HostMaker
from vmm_simulator.hyperv.backend import BackendStateError
from vmm_simulator.hyperv.host import Host
from vmm_simulator.hyperv.host_guests import disk_files
from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.store import InventoryStore
from vmm_simulator.verbs.call import Fabric
from vmm_simulator.vmm.estate_edits import checked, put_host, remove_host
from vmm_simulator.vmm.records import HostRecord, MachineRecord

log = structlog.get_logger(__name__)


async def recover_host(store: InventoryStore, host: Host) -> None:
    """Let a host's back end finish what a kill has interrupted, and the records follow it."""
    own = [machine for machine in store.machines.values() if machine.host == host.fqdn]
    disks = {each.machine_id: () if each.reserved else disk_files(each) for each in own}
    try:
        await host.backend.recover(disks)
    except (BackendStateError, OSError) as error:
        raise RefusedError(
            Code.FAILED,
            f"the replication state of host {host.fqdn} cannot be recovered: {error}",
            "look at the host's folder below the data directory",
        ) from error
    await host.receiver.recover()


async def open_ports(store: InventoryStore, hosts: Iterable[Host]) -> None:
    """Open the replication port of each host that was prepared."""
    for host in hosts:
        await host.listen(store.host(host.fqdn).ports)


async def start_guests(fabric: Fabric, machines: Iterable[MachineRecord]) -> None:
    """Start again what ran and is not protected: a protected machine waits for its epoch."""
    for machine in list(machines):
        if not machine.desired_running or machine.protected:
            continue
        try:
            await fabric.host_of(machine).guests.start(machine)
        except RefusedError as refusal:
            # One machine that does not start must not keep the site down.
            log.warning("guest_not_started", machine_id=machine.machine_id, cause=refusal.message)


class HostLife:
    """Adds, removes and restarts hosts; `hosts` is the mapping that the fabric looks into."""

    def __init__(self, fabric: Fabric, hosts: dict[str, Host], maker: HostMaker) -> None:
        self._fabric = fabric
        self._hosts = hosts
        self._maker = maker
        self._down: set[str] = set()

    async def put(self, record: HostRecord) -> None:
        """Add a host, or change what an administrator sets of one."""
        if record.fqdn not in self._hosts:
            try:
                self._hosts[record.fqdn] = self._maker.make(record)
            except ProgramError as error:
                raise RefusedError(
                    Code.NOT_FOUND, str(error), "add it to the hosts file, then ask again"
                ) from error
        try:
            await self._fabric.store.edit(checked(lambda inventory: put_host(inventory, record)))
        except RefusedError:
            if record.fqdn not in self._fabric.store.hosts:
                await self._hosts.pop(record.fqdn).close()
            raise
        await self._fabric.brokers.settle()

    async def remove(self, fqdn: str) -> None:
        """Take a host away, with its port and what is kept of it in memory."""
        await self._fabric.store.edit(checked(lambda inventory: remove_host(inventory, fqdn)))
        await self._fabric.brokers.settle(down=self._down | {fqdn})
        await self._hosts.pop(fqdn).close()

    async def restart(self, fqdn: str) -> None:
        """Have a host go down, as hard as a crash for its guests, and come up again.

        What it knew in memory is gone: its protected machines wait for their epochs. The caller
        holds the locks of the host's machines.
        """
        self._fabric.store.host(fqdn)
        await self.go_down(fqdn)
        await self.come_up(fqdn)

    async def go_down(self, fqdn: str) -> None:
        """End a host, as hard as a crash for its guests; its disks stay as they are."""
        fabric = self._fabric
        for machine in self._machines_of(fqdn):
            await fabric.cycles.stop(machine.machine_id)
            fabric.confirmed.discard(machine.machine_id)
        # The role of a broker that it owned goes to another node, which then answers for it.
        self._down.add(fqdn)
        await fabric.brokers.settle(down=self._down)
        await self._hosts[fqdn].close()
        log.warning("host_down", host=fqdn)

    async def come_up(self, fqdn: str) -> None:
        """Have a host that went down begin anew with what it has stored."""
        fabric = self._fabric
        host = self._maker.make(fabric.store.host(fqdn))
        self._hosts[fqdn] = host
        own = self._machines_of(fqdn)
        log.warning("host_up", host=fqdn, machines=len(own))
        await recover_host(fabric.store, host)
        await open_ports(fabric.store, [host])
        self._down.discard(fqdn)
        await fabric.brokers.settle(down=self._down)
        await start_guests(fabric, own)
        for machine in own:
            fabric.cycles.ensure(machine.machine_id)

    def _machines_of(self, fqdn: str) -> list[MachineRecord]:
        return [each for each in self._fabric.store.machines.values() if each.host == fqdn]
