"""Networks, storage, clusters and shares of a VMM server, as plain frozen records.

Behaviour section 6 is their source; the rules that hold between them are in `rules`.
"""

from enum import StrEnum
from typing import Any

from pydantic import Field, model_validator

from vmm_simulator.vmm.record import Record


class Isolation(StrEnum):
    """How VM networks on one logical network are kept apart (scvmm: VM network isolation)."""

    NO_ISOLATION = "NoIsolation"
    VLAN = "VLANNetwork"
    NETWORK_VIRTUALIZATION = "WindowsNetworkVirtualization"


class AddressType(StrEnum):
    """Where an adapter's address comes from."""

    STATIC = "Static"
    DYNAMIC = "Dynamic"


class SubnetVlanRecord(Record):
    """A subnet of a network site, with the VLAN that carries it (0: none)."""

    subnet: str
    vlan: int = 0


class NetworkSiteRecord(Record):
    """A logical network definition: what the network is in the reach of some host groups."""

    site_id: str
    name: str
    host_groups: tuple[str, ...] = ()
    subnets: tuple[SubnetVlanRecord, ...] = ()


class LogicalNetworkRecord(Record):
    """A logical network, its definitions, and the clouds that it is attached to.

    The flags are those of New-SCLogicalNetwork: network virtualization, GRE, private VLANs, and
    `isolated_sites` (LogicalNetworkDefinitionIsolation: its sites do not reach each other).
    """

    logical_network_id: str
    name: str
    cloud_ids: tuple[str, ...] = ()
    sites: tuple[NetworkSiteRecord, ...] = ()
    network_virtualization: bool = False
    uses_gre: bool = False
    private_vlans: bool = False
    isolated_sites: bool = False


class SubnetRecord(Record):
    """A subnet of a VM network; `10.1.9.0/24-9 0` is one with VLAN 9 (recorded, section 10)."""

    name: str
    address_list: tuple[str, ...] = ()


class NetworkRecord(Record):
    """A VM network; `network_type` is its isolation, `test_of` the test it was made for.

    `test_users`: the test machines that share it; it goes with the last of them.
    """

    network_id: str
    name: str
    network_type: str
    logical_network: str
    subnets: tuple[SubnetRecord, ...] = ()
    test_of: str | None = None
    test_users: tuple[str, ...] = ()


class AddressPoolRecord(Record):
    """A static address pool of a VM network (of one of its subnets, where one is named).

    `reserved` addresses are never granted by themselves: gateways, balancers, what an
    administrator keeps back.
    """

    pool_id: str
    name: str
    network_id: str
    first: str
    last: str
    subnet: str | None = None
    reserved: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    dns_servers: tuple[str, ...] = ()


class GrantRecord(Record):
    """An address of a pool that belongs to one adapter until it is released."""

    pool_id: str
    address: str
    nic_id: str

    @property
    def grant_id(self) -> str:
        """What the journal finds it by: an address is granted once."""
        return f"{self.pool_id}/{self.address}"


class ClassificationRecord(Record):
    """A storage classification."""

    classification_id: str
    name: str
    description: str = ""


class StoreKind(StrEnum):
    """What a store is: a cluster shared volume, a file share, a folder of one host."""

    CSV = "CSV"
    SMB = "SMB"
    LOCAL = "Local"


class StoreRecord(Record):
    """Where hosts keep disks: a folder with a capacity.

    A CSV belongs to a cluster and is seen by its nodes; SMB shares and local folders are seen by
    `hosts`. `foreign_bytes` is taken by what VMM does not manage.
    """

    store_id: str
    name: str
    kind: StoreKind
    folder: str
    capacity_bytes: int
    classification_id: str | None = None
    cluster: str | None = None
    hosts: tuple[str, ...] = ()
    foreign_bytes: int = 0


class Addressing(StrEnum):
    """How a cluster gets the addresses of its client access points."""

    DHCP = "DHCP"
    STATIC = "Static"


class BrokerRecord(Record):
    """The Hyper-V Replica Broker role of a cluster; `made_by_vmm`: nobody made it by hand."""

    name: str
    made_by_vmm: bool


class ClusterRecord(Record):
    """A failover cluster; its nodes are the hosts that name it."""

    name: str
    addressing: Addressing = Addressing.DHCP
    broker: BrokerRecord | None = None


class LibraryShareRecord(Record):
    """A share of the VMM library; `folder` is where its files really are.

    Journals of before the folder was kept hold the share's name alone.
    """

    unc: str
    folder: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"unc": value} if isinstance(value, str) else value


class FileShareRecord(Record):
    """A folder for offline replication and who may use it (seed, step 4: preparing for offline).

    `server` is the computer that the share lies on. `full_control` and `share_full_control` are
    the accounts with full NTFS and share permissions, `server_groups` the members of the groups of
    that computer, `read_write` the RunAs accounts with read and write permissions.
    """

    unc: str
    folder: str
    server: str
    full_control: tuple[str, ...] = ()
    share_full_control: tuple[str, ...] = ()
    server_groups: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    read_write: tuple[str, ...] = ()


class CapacityRecord(Record):
    """What a cloud may use; null: as much as there is ("use maximum", Set-SCCloudCapacity).

    Quota points: one per machine here, as VMM's default template has it.
    """

    processors: int | None = None
    memory_megabytes: int | None = None
    storage_gigabytes: int | None = None
    quota_points: int | None = None
    machines: int | None = None
