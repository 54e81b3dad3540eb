"""What a VMM server knows, as plain frozen records; the journal keeps them as they are."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import PurePosixPath

from pydantic import Field

from vmm_simulator.hyperv.authorisation import Authorisations, entry_for
from vmm_simulator.hyperv.bandwidth import BandwidthWindow
from vmm_simulator.hyperv.proxy_address import ProxyAddress
from vmm_simulator.hyperv.statistics import Monitoring
from vmm_simulator.vmm.estate_records import (
    AddressPoolRecord,
    CapacityRecord,
    ClassificationRecord,
    ClusterRecord,
    FileShareRecord,
    LibraryShareRecord,
    LogicalNetworkRecord,
    NetworkRecord,
    StoreRecord,
)
from vmm_simulator.vmm.partner_clusters import PartnerCluster, brokers_of
from vmm_simulator.vmm.record import Record
from vmm_simulator.vmm.relationship_records import RelationshipRecord
from vmm_simulator.vmm.replication_ports import PairPort
from wire_contract.vmm_interface import StartedWithoutHub
from wire_contract.vocabulary import ReplicationMode, ReplicationState


class HostGroupRecord(Record):
    """A host group; `path` is its place below All Hosts."""

    group_id: str
    name: str
    path: str


class FabricRecord(Record):
    """The VMM server itself and what administrators, not verbs, change."""

    vmm_id: str
    fqdn: str
    version: str
    host_groups: tuple[HostGroupRecord, ...] = ()
    logical_networks: tuple[LogicalNetworkRecord, ...] = ()
    networks: tuple[NetworkRecord, ...] = ()
    address_pools: tuple[AddressPoolRecord, ...] = ()
    classifications: tuple[ClassificationRecord, ...] = ()
    library_shares: tuple[LibraryShareRecord, ...] = ()
    clusters: tuple[ClusterRecord, ...] = ()
    stores: tuple[StoreRecord, ...] = ()
    file_shares: tuple[FileShareRecord, ...] = ()

    def cluster(self, name: str | None) -> ClusterRecord | None:
        """Return a cluster by name; a journal of before clusters were kept names unknown ones."""
        return next((each for each in self.clusters if each.name == name), None)


class NodeRecord(Record):
    """A server that VMM runs on, and the provider that set-up has put there."""

    fqdn: str
    provider_version: str | None = None


class ServiceRecord(Record):
    """The VMM service: whether it runs, where, and under which account."""

    vmm_id: str
    running: bool = True
    update_rollup: int
    service_account: str
    cluster_role: str | None = None
    nodes: tuple[NodeRecord, ...]
    active_node: str
    free_disk_bytes: int | None = None


class CloudRecord(Record):
    """A cloud, made of host groups; the pairing is what `pair_cloud` recorded."""

    cloud_id: str
    name: str
    capability_profile: str
    host_groups: tuple[str, ...]
    paired_role: str = ""
    partner_cloud_id: str | None = None
    synchronize: bool = True
    capacity: CapacityRecord = CapacityRecord()


class HostRecord(Record):
    """A Hyper-V host; `allowed_primaries` holds the authorised partners per cloud.

    `processors` and `memory_megabytes` null: as many machines as anybody wants. `logical_networks`
    null: its adapters reach all of them. `delegations` are the services that it may use in the
    name of others (`cifs/server`). `run_as_account`: the account that it was added to VMM with.
    `certificate_names` null: a journal of before they were kept, or no certificate.
    `replica_ports`: what each cloud's pairing set up; `replica_port` is the one of the newest, and
    all that a journal of before knows. `partner_clusters`: those of each cloud's pairing, as it
    told of them. `authorisations`, `bandwidth` (of what it sends), `proxy`
    and `keytab` are the host's own settings.
    """

    fqdn: str
    version: str
    host_group: str
    disks_directory: str
    cluster: str | None = None
    replica_port: int | None = None
    allowed_primaries: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    certificate_thumbprint: str | None = None
    certificate_names: tuple[str, ...] | None = None
    replica_ports: dict[str, PairPort] = Field(default_factory=dict)
    partner_clusters: dict[str, tuple[PartnerCluster, ...]] = Field(default_factory=dict)
    authorisations: Authorisations = Authorisations()
    bandwidth: tuple[BandwidthWindow, ...] = ()
    proxy: ProxyAddress | None = None
    keytab: str | None = None
    processors: int | None = None
    memory_megabytes: int | None = None
    logical_networks: tuple[str, ...] | None = None
    delegations: tuple[str, ...] = ()
    run_as_account: str | None = None
    monitoring: Monitoring = Monitoring()

    @property
    def ports(self) -> frozenset[PairPort]:
        """What is to be listened on."""
        known = frozenset(self.replica_ports.values())
        if known or self.replica_port is None:
            return known
        return frozenset({PairPort(port=self.replica_port)})

    def port_of(self, cloud_id: str) -> int | None:
        """Return the port that a cloud's pairing uses here; None: the host takes no replicas."""
        if not self.replica_ports:
            return self.replica_port
        known = self.replica_ports.get(cloud_id)
        return None if known is None else known.port

    def authorises(self, fqdn: str, brokers: Sequence[str] = ()) -> bool:
        """Return whether a server may replicate here, by itself or as a node of these brokers'."""
        found = entry_for(fqdn, self.authorisations, self.allowed_primaries, brokers)
        return found is not None

    def brokers_of(self, fqdn: str) -> tuple[str, ...]:
        """Return the brokers that a server stands for, as this host's pairings tell."""
        told = (each for clusters in self.partner_clusters.values() for each in clusters)
        return brokers_of(told, fqdn)

    @property
    def authorised(self) -> frozenset[str]:
        """FQDNs whose host may create a replica here or send to one."""
        return frozenset(name for names in self.allowed_primaries.values() for name in names)


class DiskRecord(Record):
    """A virtual disk: a sparse raw file at `path`, absolute."""

    disk_id: str
    name: str
    kind: str
    size_bytes: int
    path: str
    disk_format: str = "VHDX"
    disk_type: str = "Dynamic"


class NicRecord(Record):
    """A network adapter; `network_id` is null when it is not connected.

    `address` was granted out of a pool, `vlan` is that of its network there (null: none);
    `synthetic`: not an emulated adapter.
    """

    nic_id: str
    network_id: str | None = None
    address_type: str = "Dynamic"
    subnet: str | None = None
    address: str | None = None
    mac: str | None = None
    synthetic: bool = True
    vlan: int | None = None


class MachineRecord(Record):
    """One copy of a machine on this fabric.

    `hyperv_id` is the same on both ends. `desired_running` is what to come back to after a
    restart; whether the machine runs is read from its process. `reserved`: placed, but its disks
    are not made before the primary's host offers the relationship. `protected_item` is the VM's
    "Datacenter Recovery" property. `migrating_to` is the node that a live migration goes to, noted
    before the first step. `saved`: off with its memory saved, neither Running nor PowerOff.
    `kept_of`: the copy whose disks were set aside in this machine before it was overwritten.
    `recovery_points`: how many additional ones were set at the machine in VMM, null: none.
    `as_replica`: there before its primary, which is to compare with it; not yet related.
    """

    machine_id: str
    hyperv_id: str
    name: str
    cloud_id: str
    host: str
    generation: int
    disks: tuple[DiskRecord, ...]
    nics: tuple[NicRecord, ...] = ()
    records_per_second: float = 0.0
    desired_running: bool = False
    reserved: bool = False
    epoch: int = 0
    fenced: bool = False
    fenced_at_epoch: int = 0
    protected_item: str | None = None
    protected_role: str | None = None
    protected_active: bool = False
    protection_asked_at: datetime | None = None
    protection_end_asked_at: datetime | None = None
    test_machine_of: str | None = None
    kept_of: str | None = None
    relationship: RelationshipRecord | None = None
    processors: int = 1
    memory_megabytes: int = 1024
    owner: str = ""
    saved: bool = False
    migrating_to: str | None = None
    recovery_points: int | None = None
    started_without_hub: StartedWithoutHub | None = None
    as_replica: bool = False

    @property
    def mode(self) -> ReplicationMode:
        """Role of this copy."""
        if self.test_machine_of is not None:
            return ReplicationMode.TEST_REPLICA
        return ReplicationMode.NONE if self.relationship is None else self.relationship.mode

    @property
    def state(self) -> ReplicationState:
        """Replication state of this copy."""
        return ReplicationState.DISABLED if self.relationship is None else self.relationship.state

    @property
    def protected(self) -> bool:
        """Whether its start needs the current epoch: another copy may be the active one."""
        return self.relationship is not None or self.protected_item is not None


def disk_folder(
    host: HostRecord,
    machine_id: str,
    store: StoreRecord | None = None,
    primary_host: str | None = None,
    brokers: Sequence[str] = (),
) -> PurePosixPath:
    """Return where the disks of a replica or test machine are kept.

    Where the entry says that authorises its primary's host, else in its store, else on its host.
    """
    entry = None
    if primary_host is not None:
        entry = entry_for(primary_host, host.authorisations, host.allowed_primaries, brokers)
    root = host.disks_directory if store is None else store.folder
    if entry is not None and entry.storage_location is not None:
        root = entry.storage_location
    return PurePosixPath(root) / "Hyper-V Replica" / machine_id
