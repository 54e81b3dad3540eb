"""What a VMM server knows, as plain frozen records; the journal keeps them as they are."""

from pathlib import PurePosixPath

from pydantic import BaseModel, ConfigDict, Field

from vmm_simulator.hyperv.statistics import Monitoring
from vmm_simulator.vmm.relationship_records import RelationshipRecord
from wire_contract.vocabulary import ReplicationMode, ReplicationState


class Record(BaseModel):
    """A frozen, closed document of the journal."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SubnetRecord(Record):
    """A subnet of a VM network."""

    name: str
    address_list: tuple[str, ...] = ()


class NetworkRecord(Record):
    """A VM network; `network_type` is the isolation of behaviour section 6."""

    network_id: str
    name: str
    network_type: str
    logical_network: str
    subnets: tuple[SubnetRecord, ...] = ()


class LogicalNetworkRecord(Record):
    """A logical network and the clouds that it is attached to."""

    logical_network_id: str
    name: str
    cloud_ids: tuple[str, ...] = ()


class AddressPoolRecord(Record):
    """A static IP address pool."""

    pool_id: str
    name: str
    network_id: str
    first: str
    last: str


class ClassificationRecord(Record):
    """A storage classification."""

    classification_id: str
    name: str


class HostGroupRecord(Record):
    """A host group; `path` is its place below All Hosts."""

    group_id: str
    name: str
    path: str


class FabricRecord(Record):
    """The VMM server itself and what no verb changes."""

    vmm_id: str
    fqdn: str
    version: str
    host_groups: tuple[HostGroupRecord, ...] = ()
    logical_networks: tuple[LogicalNetworkRecord, ...] = ()
    networks: tuple[NetworkRecord, ...] = ()
    address_pools: tuple[AddressPoolRecord, ...] = ()
    classifications: tuple[ClassificationRecord, ...] = ()
    library_shares: tuple[str, ...] = ()


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


class HostRecord(Record):
    """A Hyper-V host; `allowed_primaries` holds the authorised partners per cloud."""

    fqdn: str
    version: str
    host_group: str
    disks_directory: str
    cluster: str | None = None
    replica_port: int | None = None
    allowed_primaries: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    certificate_thumbprint: str | None = None
    monitoring: Monitoring = Monitoring()

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


class NicRecord(Record):
    """A network adapter; `network_id` is null when it is not connected."""

    nic_id: str
    network_id: str | None = None
    address_type: str = "Dynamic"


class MachineRecord(Record):
    """One copy of a machine on this fabric.

    `hyperv_id` is the same on both ends. `desired_running` is what to come back to after a
    restart; whether the machine runs is read from its process. `reserved`: placed, but its disks
    are not made before the primary's host offers the relationship. `protected_item` is the VM's
    "Datacenter Recovery" property.
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
    test_machine_of: str | None = None
    relationship: RelationshipRecord | None = None

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


def disk_folder(host: HostRecord, machine_id: str) -> PurePosixPath:
    """Return where a host keeps the disks of a replica or test machine of its own."""
    return PurePosixPath(host.disks_directory) / "Hyper-V Replica" / machine_id
