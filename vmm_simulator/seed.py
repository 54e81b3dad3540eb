"""From the configured inventory to the first records of the journal."""

from pathlib import Path

from service_shell.errors import ProgramError
from vmm_simulator.config import MachineSettings, SimulatorSettings
from vmm_simulator.vmm.records import (
    AddressPoolRecord,
    ClassificationRecord,
    CloudRecord,
    DiskRecord,
    FabricRecord,
    HostGroupRecord,
    HostRecord,
    LogicalNetworkRecord,
    MachineRecord,
    NetworkRecord,
    NicRecord,
    NodeRecord,
    ServiceRecord,
    SubnetRecord,
)


def fabric(settings: SimulatorSettings) -> FabricRecord:
    """Return the VMM server and what no verb changes."""
    inventory = settings.inventory
    return FabricRecord(
        vmm_id=settings.vmm.id,
        fqdn=settings.vmm.fqdn,
        version=settings.vmm.version,
        host_groups=tuple(
            HostGroupRecord(group_id=each.id, name=each.name, path=each.path)
            for each in inventory.host_groups
        ),
        logical_networks=tuple(
            LogicalNetworkRecord(logical_network_id=each.id, name=each.name, cloud_ids=each.clouds)
            for each in inventory.logical_networks
        ),
        networks=tuple(
            NetworkRecord(
                network_id=each.id,
                name=each.name,
                network_type=each.type,
                logical_network=each.logical_network,
                subnets=tuple(
                    SubnetRecord(name=subnet.name, address_list=subnet.address_list)
                    for subnet in each.subnets
                ),
            )
            for each in inventory.networks
        ),
        address_pools=tuple(
            AddressPoolRecord(
                pool_id=each.id,
                name=each.name,
                network_id=each.network,
                first=each.first,
                last=each.last,
            )
            for each in inventory.ip_pools
        ),
        classifications=tuple(
            ClassificationRecord(classification_id=each.id, name=each.name)
            for each in inventory.classifications
        ),
        library_shares=inventory.library_shares,
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


def clouds(settings: SimulatorSettings) -> tuple[CloudRecord, ...]:
    """Return the clouds, not yet paired."""
    return tuple(
        CloudRecord(
            cloud_id=each.id,
            name=each.name,
            capability_profile=each.capability_profile,
            host_groups=each.host_groups,
            synchronize=each.synchronize,
        )
        for each in settings.inventory.clouds
    )


def hosts(settings: SimulatorSettings) -> tuple[HostRecord, ...]:
    """Return the hosts, not yet prepared."""
    return tuple(
        HostRecord(
            fqdn=each.fqdn,
            version=each.version,
            host_group=each.host_group,
            disks_directory=str(each.disks_directory),
            cluster=each.cluster,
        )
        for each in settings.inventory.hosts
    )


def machines(settings: SimulatorSettings) -> tuple[MachineRecord, ...]:
    """Return the machines; each disk's size is read from its image, which must exist."""
    return tuple(_machine(each) for each in settings.inventory.machines)


def _machine(machine: MachineSettings) -> MachineRecord:
    return MachineRecord(
        machine_id=machine.id,
        hyperv_id=machine.id,
        name=machine.name,
        cloud_id=machine.cloud,
        host=machine.host,
        generation=machine.generation,
        disks=tuple(
            DiskRecord(
                disk_id=disk.id,
                name=disk.name,
                kind=disk.kind,
                size_bytes=_size(disk.path, machine.name),
                path=str(disk.path),
            )
            for disk in machine.disks
        ),
        nics=tuple(NicRecord(nic_id=nic.id, network_id=nic.network) for nic in machine.nics),
        records_per_second=machine.records_per_second,
        desired_running=machine.running,
    )


def _size(path: Path, machine: str) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise ProgramError(
            f"the disk {path} of machine {machine} cannot be read ({error.strerror});"
            " create the image or correct its path"
        ) from error
