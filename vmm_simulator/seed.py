"""From settings to records: the first inventory of the journal, and what an administrator adds."""

from collections.abc import Iterable
from pathlib import Path

from service_shell.errors import ProgramError
from vmm_simulator.config import (
    AddressPoolSettings,
    ClassificationSettings,
    CloudSettings,
    ClusterSettings,
    FileShareSettings,
    HostGroupSettings,
    HostSettings,
    LibraryShareSettings,
    LogicalNetworkSettings,
    MachineSettings,
    NetworkSettings,
    NetworkSiteSettings,
    NicSettings,
    SimulatorSettings,
    StoreSettings,
)
from vmm_simulator.vmm.estate_records import (
    AddressPoolRecord,
    AddressType,
    BrokerRecord,
    CapacityRecord,
    ClassificationRecord,
    ClusterRecord,
    FileShareRecord,
    LibraryShareRecord,
    LogicalNetworkRecord,
    NetworkRecord,
    NetworkSiteRecord,
    StoreRecord,
    SubnetRecord,
    SubnetVlanRecord,
)
from vmm_simulator.vmm.inventory import Inventory
from vmm_simulator.vmm.machine_edits import with_addresses
from vmm_simulator.vmm.records import (
    CloudRecord,
    DiskRecord,
    FabricRecord,
    HostGroupRecord,
    HostRecord,
    MachineRecord,
    NicRecord,
    NodeRecord,
    ServiceRecord,
)
from vmm_simulator.vmm.rules import broken_rules


def first_inventory(settings: SimulatorSettings) -> Inventory:
    """Return what the site begins with; ProgramError names every rule that it breaks.

    Sizes of disks are read from their images; static adapters get their addresses.
    """
    listed = Inventory(
        fabric(settings),
        {each.id: cloud(each) for each in settings.inventory.clouds},
        {each.fqdn: host(each) for each in settings.inventory.hosts},
        {each.id: machine(each) for each in settings.inventory.machines},
    )
    broken = tuple(broken_rules(listed))
    if broken:
        raise ProgramError(f"the inventory does not hold together: {'; '.join(broken)}; correct it")
    addressed = listed
    for each in settings.inventory.machines:
        addressed = addressed.after(with_addresses(addressed, addressed.machines[each.id]))
    return addressed


def fabric(settings: SimulatorSettings) -> FabricRecord:
    """Return the VMM server and what administrators, not verbs, change."""
    inventory = settings.inventory
    return FabricRecord(
        vmm_id=settings.vmm.id,
        fqdn=settings.vmm.fqdn,
        version=settings.vmm.version,
        host_groups=tuple(host_group(each) for each in inventory.host_groups),
        logical_networks=tuple(logical_network(each) for each in inventory.logical_networks),
        networks=tuple(network(each) for each in inventory.networks),
        address_pools=tuple(address_pool(each) for each in inventory.ip_pools),
        classifications=tuple(classification(each) for each in inventory.classifications),
        library_shares=tuple(
            LibraryShareRecord(unc=each) if isinstance(each, str) else library_share(each)
            for each in inventory.library_shares
        ),
        clusters=tuple(cluster(each) for each in inventory.clusters),
        stores=tuple(store(each) for each in inventory.stores),
        file_shares=tuple(file_share(each) for each in inventory.file_shares),
    )


def host_group(settings: HostGroupSettings) -> HostGroupRecord:
    """Return a host group."""
    return HostGroupRecord(group_id=settings.id, name=settings.name, path=settings.path)


def cluster(settings: ClusterSettings) -> ClusterRecord:
    """Return a cluster; its broker, where it has one, was made by hand."""
    broker = None
    if settings.broker is not None:
        broker = BrokerRecord(name=settings.broker, made_by_vmm=False)
    return ClusterRecord(name=settings.name, addressing=settings.addressing, broker=broker)


def logical_network(settings: LogicalNetworkSettings) -> LogicalNetworkRecord:
    """Return a logical network with its definitions."""
    return LogicalNetworkRecord(
        logical_network_id=settings.id,
        name=settings.name,
        cloud_ids=settings.clouds,
        sites=tuple(_network_site(each) for each in settings.sites),
        network_virtualization=settings.network_virtualization,
        uses_gre=settings.uses_gre,
        private_vlans=settings.private_vlans,
        isolated_sites=settings.isolated_sites,
    )


def _network_site(settings: NetworkSiteSettings) -> NetworkSiteRecord:
    return NetworkSiteRecord(
        site_id=settings.id,
        name=settings.name,
        host_groups=settings.host_groups,
        subnets=tuple(
            SubnetVlanRecord(subnet=each.subnet, vlan=each.vlan) for each in settings.subnets
        ),
    )


def network(settings: NetworkSettings) -> NetworkRecord:
    """Return a VM network."""
    return NetworkRecord(
        network_id=settings.id,
        name=settings.name,
        network_type=settings.type.value,
        logical_network=settings.logical_network,
        subnets=tuple(
            SubnetRecord(name=subnet.name, address_list=subnet.address_list)
            for subnet in settings.subnets
        ),
    )


def address_pool(settings: AddressPoolSettings) -> AddressPoolRecord:
    """Return a static address pool."""
    return AddressPoolRecord(
        pool_id=settings.id,
        name=settings.name,
        network_id=settings.network,
        subnet=settings.subnet,
        first=settings.first,
        last=settings.last,
        reserved=settings.reserved,
        gateways=settings.gateways,
        dns_servers=settings.dns_servers,
    )


def classification(settings: ClassificationSettings) -> ClassificationRecord:
    """Return a storage classification."""
    return ClassificationRecord(
        classification_id=settings.id, name=settings.name, description=settings.description
    )


def store(settings: StoreSettings) -> StoreRecord:
    """Return a store."""
    return StoreRecord(
        store_id=settings.id,
        name=settings.name,
        kind=settings.kind,
        folder=str(settings.folder),
        capacity_bytes=settings.capacity_bytes,
        classification_id=settings.classification,
        cluster=settings.cluster,
        hosts=settings.hosts,
        foreign_bytes=settings.foreign_bytes,
    )


def library_share(settings: LibraryShareSettings) -> LibraryShareRecord:
    """Return a share of the library."""
    return LibraryShareRecord(unc=settings.unc, folder=str(settings.folder))


def file_share(settings: FileShareSettings) -> FileShareRecord:
    """Return a folder for offline replication."""
    return FileShareRecord(
        unc=settings.unc,
        folder=str(settings.folder),
        server=settings.server,
        full_control=settings.full_control,
        share_full_control=settings.share_full_control,
        server_groups=settings.server_groups,
        read_write=settings.read_write,
    )


def service(settings: SimulatorSettings) -> ServiceRecord:
    """Return the VMM service, running; without a cluster the server is its only node."""
    vmm = settings.vmm
    nodes = (vmm.fqdn,) if vmm.cluster is None else vmm.cluster.nodes
    active = None if vmm.cluster is None else vmm.cluster.active
    return ServiceRecord(
        vmm_id=vmm.id,
        update_rollup=vmm.update_rollup,
        service_account=vmm.service_account,
        cluster_role=None if vmm.cluster is None else vmm.cluster.role,
        nodes=tuple(NodeRecord(fqdn=node) for node in nodes),
        active_node=active or nodes[0],
        free_disk_bytes=vmm.free_disk_bytes,
    )


def cloud(settings: CloudSettings) -> CloudRecord:
    """Return a cloud, not yet paired."""
    return CloudRecord(
        cloud_id=settings.id,
        name=settings.name,
        capability_profile=settings.capability_profile,
        host_groups=settings.host_groups,
        synchronize=settings.synchronize,
        capacity=CapacityRecord(**settings.capacity.model_dump()),
    )


def host(settings: HostSettings) -> HostRecord:
    """Return a host, not yet prepared."""
    return HostRecord(
        fqdn=settings.fqdn,
        version=settings.version,
        host_group=settings.host_group,
        disks_directory=str(settings.disks_directory),
        cluster=settings.cluster,
        processors=settings.processors,
        memory_megabytes=settings.memory_megabytes,
        logical_networks=settings.logical_networks,
        delegations=settings.delegations,
        run_as_account=settings.run_as_account,
        authorisations=settings.authorisations,
        bandwidth=settings.bandwidth,
        proxy=settings.proxy,
        keytab=None if settings.keytab_file is None else str(settings.keytab_file),
    )


def nic(settings: NicSettings) -> NicRecord:
    """Return an adapter; a static one has no address before one was granted."""
    wanted = settings.address if settings.address_type is AddressType.STATIC else None
    return NicRecord(
        nic_id=settings.id,
        network_id=settings.network,
        address_type=settings.address_type.value,
        subnet=settings.subnet,
        address=wanted,
        mac=settings.mac,
        synthetic=settings.synthetic,
    )


def machine(settings: MachineSettings) -> MachineRecord:
    """Return a machine; each disk's size is read from its image, which must exist."""
    return MachineRecord(
        machine_id=settings.id,
        hyperv_id=settings.id,
        name=settings.name,
        cloud_id=settings.cloud,
        host=settings.host,
        generation=settings.generation,
        disks=tuple(
            DiskRecord(
                disk_id=disk.id,
                name=disk.name,
                kind=disk.kind,
                size_bytes=_size(disk.path, settings.name),
                path=str(disk.path),
            )
            for disk in settings.disks
        ),
        nics=tuple(nic(each) for each in settings.nics),
        records_per_second=settings.records_per_second,
        desired_running=settings.running,
        processors=settings.processors,
        memory_megabytes=settings.memory_megabytes,
        owner=settings.owner,
        recovery_points=settings.recovery_points,
    )


def make_library_folders(shares: Iterable[LibraryShareRecord]) -> None:
    """Have the folders of the library's shares; ProgramError where one cannot be made."""
    for share in shares:
        if share.folder is None:
            continue
        try:
            Path(share.folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ProgramError(
                f"the folder {share.folder} of library share {share.unc} cannot be made"
                f" ({error.strerror}); correct it"
            ) from error


def _size(path: Path, machine_name: str) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise ProgramError(
            f"the disk {path} of machine {machine_name} cannot be read ({error.strerror});"
            " create the image or correct its path"
        ) from error
