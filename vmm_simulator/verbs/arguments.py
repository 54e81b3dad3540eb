"""The arguments of every verb, closed and bounded (docs/wire-contract.md, verbs)."""

from ipaddress import IPv4Address
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from vmm_simulator.config import FQDN_PATTERN, IDENTITY_PATTERN
from vmm_simulator.hyperv.backend import Authentication
from vmm_simulator.hyperv.schedule import Window
from vmm_simulator.vmm.estate_records import AddressType
from wire_contract.model import Moment, WireModel
from wire_contract.reports import HostCertificate
from wire_contract.vmm_interface import WithoutHub
from wire_contract.vocabulary import Side

HOSTS_MAX: Final = 256
DISKS_MAX: Final = 16
RELATIONSHIPS_MAX: Final = 10_000
NICS_MAX: Final = 12
CLOUDS_MAX: Final = 256
DRILL_NETWORKS_MAX: Final = 256
DISK_BYTES_MAX: Final = 64 * 2**40
"""Largest VHDX."""

Identity = Annotated[str, StringConstraints(pattern=IDENTITY_PATTERN)]
Fqdn = Annotated[str, StringConstraints(pattern=FQDN_PATTERN, max_length=253)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=160)]
Port = Annotated[int, Field(ge=1, le=65_535)]


class NoArguments(WireModel):
    """For verbs that take none."""


class ConfigureHosts(WireModel):
    """Issued certificates, one per host."""

    certificates: tuple[HostCertificate, ...] = Field(max_length=HOSTS_MAX)


class ClusterOfPartners(WireModel):
    """A cluster of the other end: its replica broker and its nodes."""

    broker: Fqdn
    nodes: tuple[Fqdn, ...] = Field(max_length=HOSTS_MAX)


class PrepareCloud(WireModel):
    """How every host of the cloud listens, and to whom; `partner_clusters`: theirs.

    `offline_folder`: where first copies are written here, or brought in from; it is looked whether
    it is fit, and whether the hosts trust `further_servers` too.
    """

    replica_port: Port
    authentication: Authentication
    allowed_primaries: tuple[Fqdn, ...] = Field(max_length=HOSTS_MAX)
    partner_clusters: tuple[ClusterOfPartners, ...] = Field(default=(), max_length=HOSTS_MAX)
    offline_folder: str | None = Field(default=None, min_length=1, max_length=1024)
    further_servers: tuple[Name, ...] = Field(default=(), max_length=16)


class PairCloud(WireModel):
    """The cloud's part in its pair."""

    role: Side
    partner_cloud_id: Identity


class UpdateReplication(WireModel):
    """The settings of relationships; `relationship_ids` null: of all that the cloud has."""

    interval_seconds: int = Field(ge=1, le=86_400)
    recovery_points: int = Field(ge=0, le=24)
    application_consistent_hours: int = Field(ge=0, le=12)
    compression: bool
    authentication: Authentication
    self_fence_seconds: int | None = Field(default=None, ge=1, le=86_400)
    replica_port: Port
    relationship_ids: tuple[Identity, ...] | None = Field(
        default=None, max_length=RELATIONSHIPS_MAX
    )


class UnpairCloud(WireModel):
    """Which pairing ends; another one stays."""

    partner_cloud_id: Identity


class PlacedDisk(WireModel):
    """A disk that the replica will have."""

    disk_id: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    name: Name
    kind: Name
    size_bytes: int = Field(ge=1, le=DISK_BYTES_MAX)


class PlacedAdapter(WireModel):
    """An adapter that the replica will have, not connected."""

    nic_id: Identity
    synthetic: bool = True


class WantedAdapter(WireModel):
    """How an adapter is to be connected; `network_id` null: not at all.

    `address` is the one that is wanted of a static pool; another one is taken if it is not free.
    """

    nic_id: Identity
    network_id: Identity | None
    subnet: Name | None = None
    address_type: AddressType = AddressType.DYNAMIC
    address: IPv4Address | None = None
    synthetic: bool = True


class ConnectAdapters(WireModel):
    """The adapters of a copy that is off; those that are not named stay as they are."""

    adapters: tuple[WantedAdapter, ...] = Field(max_length=NICS_MAX)


class PlaceReplica(WireModel):
    """The machine that needs a place, and what it asks of it.

    `primary_broker` is the replica broker of the cluster that its primary's host is a node of,
    `classification_id` the storage classification that its primary's is mapped to,
    `network_ids` the VM networks that its adapters are mapped to; `adapters` those that the
    replica itself gets.
    """

    cloud_id: Identity
    hyperv_id: Identity
    name: Name
    generation: int = Field(ge=1, le=2)
    disks: tuple[PlacedDisk, ...] = Field(min_length=1, max_length=DISKS_MAX)
    primary_host: Fqdn
    primary_broker: Fqdn | None = None
    item: Identity
    classification_id: Identity | None = None
    network_ids: tuple[Identity, ...] = Field(default=(), max_length=NICS_MAX)
    adapters: tuple[PlacedAdapter, ...] = Field(default=(), max_length=NICS_MAX)
    processors: int = Field(default=1, ge=1, le=64)
    memory_megabytes: int = Field(default=1024, ge=32, le=2**20)


class _Policy(WireModel):
    interval_seconds: int = Field(ge=1, le=86_400)
    recovery_points: int = Field(default=0, ge=0, le=24)
    application_consistent_hours: int = Field(default=0, ge=0, le=12)
    compression: bool = False
    authentication: Authentication = Authentication.CERTIFICATE
    self_fence_seconds: int | None = Field(default=None, ge=1, le=86_400)
    bypass_proxy: bool = False
    consistency_group: Identity | None = None
    window: Window = Window()


class EnableReplication(_Policy):
    """The replica and the policy.

    `replica_broker` is the connection point of a clustered replica: it is asked for the node.
    """

    relationship_id: Identity
    replica_machine_id: Identity
    replica_host: Fqdn
    replica_port: Port
    replica_broker: Fqdn | None = None
    item: Identity


class StartInitialReplication(WireModel):
    """`resynchronize`: only blocks that differ move (seeded); `start_at` null is now."""

    resynchronize: bool = False
    start_at: Moment | None = None


class InOfflineFolder(WireModel):
    """UNC name of a folder on a share that VMM knows, and further computers to be trusted."""

    folder: str = Field(min_length=1, max_length=1024)
    further_servers: tuple[Name, ...] = Field(default=(), max_length=16)


class Resynchronize(WireModel):
    """`start_at` null is now; at most 7 days ahead."""

    start_at: Moment | None = None


class DisableReplication(WireModel):
    """`delete_replica`: the machine and its disks go too, where this end is a replica."""

    delete_replica: bool = False


class UpdateProtection(WireModel):
    """The VM's "Datacenter Recovery" property; item null clears it."""

    item: Identity | None
    role: Side | None = None
    active: bool = False


class ShutDown(WireModel):
    """How long the guest may take."""

    seconds: float = Field(default=120, gt=0, le=3_600)


class FailOver(WireModel):
    """Planned: refused below `expected_cut`; `recovery_point` null is the newest.

    `ask_primary`: refused while the primary's host can be reached and says that the machine runs
    there. The hub does without: under its higher epoch that copy is fenced at first contact.
    `adapters` are connected just before the failover; those that are not named stay as they are.
    """

    planned: bool
    expected_cut: int | None = Field(default=None, ge=0)
    recovery_point: Identity | None = None
    ask_primary: bool = False
    adapters: tuple[WantedAdapter, ...] = Field(default=(), max_length=NICS_MAX)


class ChangeRecoveryPoint(WireModel):
    """The point to stand at instead; null is the newest."""

    recovery_point: Identity | None = None


class PrepareReverse(WireModel):
    """Whose replica the former primary becomes."""

    relationship_id: Identity
    primary_host: Fqdn
    primary_machine_id: Identity
    resynchronize: bool
    interval_seconds: int = Field(ge=1, le=86_400)


class ReverseReplicate(_Policy):
    """The former primary, and the policy; `replica_broker` as in EnableReplication."""

    relationship_id: Identity
    replica_machine_id: Identity
    replica_host: Fqdn
    replica_port: Port
    replica_broker: Fqdn | None = None
    resynchronize: bool


class CreateTestMachine(WireModel):
    """The replica to copy; `recovery_point` null is the newest."""

    replica_machine_id: Identity
    name: Name
    recovery_point: Identity | None = None


class PrepareTestMachine(WireModel):
    """The network of the test machine's adapters; null leaves them unconnected.

    `network_ids`: instead, one for each adapter, in their order; further ones stay unconnected.
    `environment`: those that were made under this id are kept for the machine from now on.
    """

    network_id: Identity | None = None
    network_ids: tuple[Identity | None, ...] | None = Field(default=None, max_length=NICS_MAX)
    environment: Identity | None = None


class DrillSubnet(WireModel):
    """A subnet of a test network, as the network that it stands for has it."""

    name: Name
    address_list: tuple[Name, ...] = Field(default=(), max_length=64)


class DrillNetwork(WireModel):
    """A network to be made: `like` is the isolation of the one that it stands for."""

    network_id: Identity
    name: Name
    like: Name
    dynamic_addresses: bool
    subnets: tuple[DrillSubnet, ...] = Field(default=(), max_length=64)


class CreateTestNetworks(WireModel):
    """On which logical network, for which test machine (which need not exist yet).

    `environment`: test machines with the same one share networks, which go with the last of them.
    A plan's run makes them for all its machines, in whichever clouds, under an id of its own.
    """

    logical_network_id: Identity
    cloud_id: Identity
    further_cloud_ids: tuple[Identity, ...] = Field(default=(), max_length=CLOUDS_MAX)
    test_machine_id: Identity
    environment: Identity | None = None
    networks: tuple[DrillNetwork, ...] = Field(min_length=1, max_length=DRILL_NETWORKS_MAX)


class RemoveTestNetworks(WireModel):
    """The networks that were made for this test machine, as far as no other shares them."""

    test_machine_id: Identity


class KeepCopy(WireModel):
    """The machine whose disks are copied, and what the copy is called."""

    machine_id: Identity
    name: Name


class ConfirmEpoch(WireModel):
    """Whether this copy is the active one; `without_hub`: by whose word, where no hub says so."""

    authoritative: bool
    item: Identity
    without_hub: WithoutHub | None = None
