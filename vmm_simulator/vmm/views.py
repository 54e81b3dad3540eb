"""From records to what crosses the network; pure: what is live comes as facts."""

from collections.abc import Iterable, Mapping, Sequence

from vmm_simulator.hyperv.starting import start_blocked_by
from vmm_simulator.vmm.estate_records import NetworkRecord, StoreRecord
from vmm_simulator.vmm.inventory import Inventory
from vmm_simulator.vmm.placement import clouds_of, hosts_of
from vmm_simulator.vmm.records import (
    CloudRecord,
    FabricRecord,
    HostRecord,
    MachineRecord,
    ServiceRecord,
)
from vmm_simulator.vmm.replication_views import LiveFacts, replication_view
from vmm_simulator.vmm.storage import lies_in, visible_to
from vmm_simulator.vmm.transitions import claim
from wire_contract.vmm_interface import (
    ClassificationView,
    CloudView,
    DiskView,
    HostView,
    MachineView,
    NetworkView,
    NicView,
    SubnetView,
    VmmView,
)
from wire_contract.vmm_service import NodeView, VmmServiceView


def vmm_view(fabric: FabricRecord) -> VmmView:
    """Return the VMM server."""
    return VmmView(vmm_id=fabric.vmm_id, fqdn=fabric.fqdn, version=fabric.version)


def service_view(fabric: FabricRecord, service: ServiceRecord) -> VmmServiceView:
    """Return the VMM service and its nodes."""
    return VmmServiceView(
        vmm_id=fabric.vmm_id,
        fqdn=fabric.fqdn,
        version=fabric.version,
        update_rollup=service.update_rollup,
        service_account=service.service_account,
        running=service.running,
        cluster_role=service.cluster_role,
        nodes=tuple(
            NodeView(
                fqdn=node.fqdn,
                active=node.fqdn == service.active_node,
                provider_version=node.provider_version,
            )
            for node in service.nodes
        ),
        free_disk_bytes=service.free_disk_bytes,
    )


def cloud_view(cloud: CloudRecord, hosts: Iterable[HostRecord]) -> CloudView:
    """Return a cloud and its hosts."""
    return CloudView(
        cloud_id=cloud.cloud_id,
        friendly_name=cloud.name,
        capability_profile=cloud.capability_profile,
        host_fqdns=tuple(host.fqdn for host in hosts_of(cloud, hosts)),
        paired_role=cloud.paired_role,
        partner_cloud_id=cloud.partner_cloud_id,
        synchronized=cloud.synchronize,
        host_group_ids=cloud.host_groups,
    )


def host_view(host: HostRecord, clouds: Iterable[CloudRecord]) -> HostView:
    """Return a host as the pairing has set it up."""
    return HostView(
        fqdn=host.fqdn,
        version=host.version,
        cloud_ids=clouds_of(host, clouds),
        cluster=host.cluster,
        replica_enabled=host.replica_port is not None,
        replica_port=host.replica_port,
        certificate_thumbprint=host.certificate_thumbprint,
        allowed_primaries=tuple(sorted(host.authorised)),
        host_group_id=host.host_group,
    )


def network_views(fabric: FabricRecord) -> tuple[NetworkView, ...]:
    """Return the VM networks; a network is in the clouds of its logical network."""
    clouds = {each.logical_network_id: each.cloud_ids for each in fabric.logical_networks}
    return tuple(
        NetworkView(
            network_id=network.network_id,
            friendly_name=network.name,
            network_type=network.network_type,
            logical_network_id=network.logical_network,
            cloud_ids=clouds.get(network.logical_network, ()),
            subnets=tuple(
                SubnetView(
                    name=subnet.name,
                    friendly_name=subnet.name,
                    address_list=subnet.address_list,
                )
                for subnet in network.subnets
            ),
            test_of=network.test_of,
            test_users=network.test_users,
        )
        for network in fabric.networks
    )


def classification_views(inventory: Inventory) -> tuple[ClassificationView, ...]:
    """Return the storage classifications, each with the clouds whose hosts see a store of it."""
    stores = inventory.fabric.stores
    seen: dict[str, set[str]] = {each.classification_id: set() for each in
                                 inventory.fabric.classifications}  # fmt: skip
    for host in inventory.hosts.values():
        in_clouds = clouds_of(host, inventory.clouds.values())
        for store in stores:
            if store.classification_id in seen and visible_to(store, host):
                seen[store.classification_id].update(in_clouds)
    return tuple(
        ClassificationView(
            classification_id=each.classification_id,
            friendly_name=each.name,
            cloud_ids=tuple(sorted(seen[each.classification_id])),
        )
        for each in inventory.fabric.classifications
    )


def machine_view(
    machine: MachineRecord,
    networks: Mapping[str, NetworkRecord],
    facts: LiveFacts,
    stores: Sequence[StoreRecord] = (),
) -> MachineView:
    """Return a machine as its host sees it now; `stores` are those with a classification."""
    may_start = claim(machine, confirmed=facts.epoch_confirmed)
    block = start_blocked_by(may_start)
    return MachineView(
        machine_id=machine.machine_id,
        hyperv_id=machine.hyperv_id,
        name=machine.name,
        cloud_id=machine.cloud_id,
        host=machine.host,
        generation=machine.generation,
        run_state=facts.run_state,
        epoch=machine.epoch,
        fenced=machine.fenced,
        epoch_confirmed=may_start.epoch_confirmed,
        start_blocked_by=None if block is None else block.reason,
        protected_item=machine.protected_item,
        protection_asked_at=machine.protection_asked_at,
        protection_end_asked_at=machine.protection_end_asked_at,
        test_machine_of=machine.test_machine_of,
        kept_of=machine.kept_of,
        disks=tuple(
            DiskView(
                disk_id=disk.disk_id,
                name=disk.name,
                kind=disk.kind,
                size_bytes=disk.size_bytes,
                path=disk.path,
                classification_id=next(
                    (each.classification_id for each in stores if lies_in(each, disk.path)), None
                ),
            )
            for disk in machine.disks
        ),
        nics=tuple(
            NicView(
                nic_id=nic.nic_id,
                network_id=nic.network_id,
                network_name=_network_name(nic.network_id, networks),
                address_type=nic.address_type,
                subnet=nic.subnet,
                address=nic.address,
                synthetic=nic.synthetic,
            )
            for nic in machine.nics
        ),
        replication=replication_view(machine, facts),
        guest=facts.guest,
        processors=machine.processors,
        memory_megabytes=machine.memory_megabytes,
        recovery_points=machine.recovery_points,
        started_without_hub=machine.started_without_hub,
    )


def _network_name(network_id: str | None, networks: Mapping[str, NetworkRecord]) -> str | None:
    network = None if network_id is None else networks.get(network_id)
    return None if network is None else network.name
