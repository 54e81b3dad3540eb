"""From records to what VMM's console shows of networks, storage and hardware; pure."""

from collections.abc import Iterable, Mapping

from vmm_simulator.vmm.capacity import Needs
from vmm_simulator.vmm.estate_records import (
    AddressPoolRecord,
    ClusterRecord,
    FileShareRecord,
    GrantRecord,
    LogicalNetworkRecord,
    StoreRecord,
)
from vmm_simulator.vmm.fitness import status
from vmm_simulator.vmm.inventory import Inventory
from vmm_simulator.vmm.networks import free_count
from vmm_simulator.vmm.offline_folders import offline_problems
from vmm_simulator.vmm.records import CloudRecord, FabricRecord, HostRecord, MachineRecord
from vmm_simulator.vmm.storage import free_bytes, highly_available, lies_in
from vmm_simulator.vmm.views import classification_views, network_views
from wire_contract.vmm_fabric import (
    AddressPoolView,
    CapacityView,
    DiskHardwareView,
    FabricView,
    FileShareView,
    GrantView,
    HardwareView,
    HostRoomView,
    LibraryShareView,
    LogicalNetworkView,
    NetworkSiteView,
    NicHardwareView,
    StoreView,
)
from wire_contract.vmm_interface import ClusterView, HostGroupView
from wire_contract.vocabulary import RunState


def fabric_view(
    inventory: Inventory,
    run_states: Mapping[str, RunState],
    *,
    service_account: str,
    change_number: int,
) -> FabricView:
    """Return the whole object model; `run_states` by machine id are read from the processes."""
    fabric, machines = inventory.fabric, tuple(inventory.machines.values())
    return FabricView(
        change_number=change_number,
        host_groups=host_group_views(inventory),
        clusters=cluster_views(fabric),
        hosts=tuple(_room(each) for each in inventory.hosts.values()),
        capacities=tuple(_capacity(each, machines) for each in inventory.clouds.values()),
        logical_networks=tuple(_logical_network(each) for each in fabric.logical_networks),
        networks=network_views(fabric),
        address_pools=tuple(
            _pool(each, inventory.grants.values()) for each in fabric.address_pools
        ),
        classifications=classification_views(inventory),
        stores=tuple(_store(each, inventory) for each in fabric.stores),
        library_shares=tuple(
            LibraryShareView(unc=each.unc, folder=each.folder) for each in fabric.library_shares
        ),
        file_shares=tuple(
            _file_share(each, inventory, service_account) for each in fabric.file_shares
        ),
        machines=tuple(
            _hardware(each, inventory, run_states[each.machine_id]) for each in machines
        ),
    )


def host_group_views(inventory: Inventory) -> tuple[HostGroupView, ...]:
    """Return the host groups, each with how many hosts and machines are in it."""
    group_of = {host.fqdn: host.host_group for host in inventory.hosts.values()}
    hosts = list(group_of.values())
    machines = [
        group_of.get(each.host)
        for each in inventory.machines.values()
        if each.test_machine_of is None and not each.reserved
    ]
    return tuple(
        HostGroupView(
            host_group_id=each.group_id,
            friendly_name=each.name,
            path=each.path,
            host_count=hosts.count(each.group_id),
            machine_count=machines.count(each.group_id),
        )
        for each in inventory.fabric.host_groups
    )


def cluster_views(fabric: FabricRecord) -> tuple[ClusterView, ...]:
    """Return the host clusters and their brokers."""
    return tuple(_cluster(each) for each in fabric.clusters)


def _cluster(cluster: ClusterRecord) -> ClusterView:
    return ClusterView(
        name=cluster.name,
        addressing=cluster.addressing.value,
        broker=None if cluster.broker is None else cluster.broker.name,
    )


def _room(host: HostRecord) -> HostRoomView:
    return HostRoomView(
        fqdn=host.fqdn,
        processors=host.processors,
        memory_megabytes=host.memory_megabytes,
        logical_network_ids=host.logical_networks,
        delegations=host.delegations,
        run_as_account=host.run_as_account,
    )


def _capacity(cloud: CloudRecord, machines: Iterable[MachineRecord]) -> CapacityView:
    taken = [Needs.of(each) for each in machines if each.cloud_id == cloud.cloud_id]
    return CapacityView(
        cloud_id=cloud.cloud_id,
        **cloud.capacity.model_dump(),
        used_processors=sum(each.processors for each in taken),
        used_memory_megabytes=sum(each.memory_megabytes for each in taken),
        used_storage_bytes=sum(each.disk_bytes for each in taken),
        used_machines=len(taken),
    )


def _logical_network(network: LogicalNetworkRecord) -> LogicalNetworkView:
    return LogicalNetworkView(
        logical_network_id=network.logical_network_id,
        friendly_name=network.name,
        cloud_ids=network.cloud_ids,
        network_virtualization=network.network_virtualization,
        uses_gre=network.uses_gre,
        private_vlans=network.private_vlans,
        isolated_sites=network.isolated_sites,
        sites=tuple(
            NetworkSiteView(
                site_id=site.site_id,
                friendly_name=site.name,
                host_group_ids=site.host_groups,
                subnets=tuple(f"{each.subnet}-{each.vlan}" for each in site.subnets),
            )
            for site in network.sites
        ),
    )


def _pool(pool: AddressPoolRecord, grants: Iterable[GrantRecord]) -> AddressPoolView:
    own = [each for each in grants if each.pool_id == pool.pool_id]
    return AddressPoolView(
        pool_id=pool.pool_id,
        friendly_name=pool.name,
        network_id=pool.network_id,
        subnet=pool.subnet,
        first=pool.first,
        last=pool.last,
        reserved=pool.reserved,
        gateways=pool.gateways,
        dns_servers=pool.dns_servers,
        grants=tuple(GrantView(address=each.address, nic_id=each.nic_id) for each in own),
        free_count=free_count(pool, own),
    )


def _store(store: StoreRecord, inventory: Inventory) -> StoreView:
    return StoreView(
        store_id=store.store_id,
        friendly_name=store.name,
        kind=store.kind.value,
        classification_id=store.classification_id,
        folder=store.folder,
        cluster=store.cluster,
        host_fqdns=store.hosts,
        capacity_bytes=store.capacity_bytes,
        free_bytes=free_bytes(store, inventory.machines.values()),
    )


def _file_share(
    share: FileShareRecord, inventory: Inventory, service_account: str
) -> FileShareView:
    missing = tuple(
        offline_problems(
            share,
            service_account=service_account,
            using_hosts=inventory.hosts.values(),
            all_hosts=inventory.hosts,
        )
    )
    return FileShareView(
        unc=share.unc,
        folder=share.folder,
        server=share.server,
        ready=not missing,
        missing=missing,
    )


def _hardware(machine: MachineRecord, inventory: Inventory, run_state: RunState) -> HardwareView:
    stores = inventory.fabric.stores
    return HardwareView(
        machine_id=machine.machine_id,
        status=status(machine, run_state).value,
        owner=machine.owner,
        processors=machine.processors,
        memory_megabytes=machine.memory_megabytes,
        highly_available=highly_available(machine, inventory.hosts[machine.host], stores),
        disks=tuple(
            DiskHardwareView(
                disk_id=disk.disk_id,
                disk_format=disk.disk_format,
                disk_type=disk.disk_type,
                store_id=next((s.store_id for s in stores if lies_in(s, disk.path)), None),
            )
            for disk in machine.disks
        ),
        nics=tuple(
            NicHardwareView(
                nic_id=nic.nic_id,
                mac=nic.mac,
                subnet=nic.subnet,
                address=nic.address,
                synthetic=nic.synthetic,
            )
            for nic in machine.nics
        ),
    )
