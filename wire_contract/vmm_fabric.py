"""All that a VMM server's console shows beside the inventory: networks, storage, jobs, changes.

On the VMM interface (wire_contract.paths, VMM_FABRIC, VMM_JOBS, VMM_CHANGES). None of it leaves the
site: a provider sends the inventory alone (docs/privacy.md).
"""

from datetime import datetime

from pydantic import Field

from wire_contract.model import WireModel
from wire_contract.vmm_interface import (
    ClassificationView,
    ClusterView,
    HostGroupView,
    NetworkView,
)


class CapacityView(WireModel):
    """What a cloud may use (null: as much as there is) and what its machines take."""

    cloud_id: str
    processors: int | None
    memory_megabytes: int | None
    storage_gigabytes: int | None
    quota_points: int | None
    machines: int | None
    used_processors: int
    used_memory_megabytes: int
    used_storage_bytes: int
    used_machines: int


class HostRoomView(WireModel):
    """What a host has room for, null where nobody counts, and which networks it reaches (or all).

    `delegations` are the services that it may use in the name of others, `run_as_account` the
    account that it was added to VMM with.
    """

    fqdn: str
    processors: int | None
    memory_megabytes: int | None
    logical_network_ids: tuple[str, ...] | None
    delegations: tuple[str, ...]
    run_as_account: str | None


class NetworkSiteView(WireModel):
    """A logical network definition; `subnets` as `10.1.0.0/24-9`: the VLAN behind the hyphen."""

    site_id: str
    friendly_name: str
    host_group_ids: tuple[str, ...]
    subnets: tuple[str, ...]


class LogicalNetworkView(WireModel):
    """A logical network and its definitions."""

    logical_network_id: str
    friendly_name: str
    cloud_ids: tuple[str, ...]
    network_virtualization: bool
    uses_gre: bool
    private_vlans: bool
    isolated_sites: bool
    sites: tuple[NetworkSiteView, ...]


class GrantView(WireModel):
    """An address that belongs to an adapter."""

    address: str
    nic_id: str


class AddressPoolView(WireModel):
    """A static address pool, its addresses that are granted, and how many are free."""

    pool_id: str
    friendly_name: str
    network_id: str
    subnet: str | None
    first: str
    last: str
    reserved: tuple[str, ...]
    gateways: tuple[str, ...]
    dns_servers: tuple[str, ...]
    grants: tuple[GrantView, ...]
    free_count: int = Field(ge=0)


class StoreView(WireModel):
    """Where hosts keep disks, who sees it, and what is free."""

    store_id: str
    friendly_name: str
    kind: str
    classification_id: str | None
    folder: str
    cluster: str | None
    host_fqdns: tuple[str, ...]
    capacity_bytes: int = Field(ge=0)
    free_bytes: int = Field(ge=0)


class LibraryShareView(WireModel):
    """A share of the VMM library; `folder` null: its files are not here."""

    unc: str
    folder: str | None


class FileShareView(WireModel):
    """A folder for offline replication; `ready`: nothing speaks against it, else `missing` says."""

    unc: str
    folder: str
    server: str
    ready: bool
    missing: tuple[str, ...]


class HardwareView(WireModel):
    """What a machine is made of, beyond what replication needs; `status` is VMM's own."""

    machine_id: str
    status: str
    owner: str
    processors: int
    memory_megabytes: int
    highly_available: bool
    disks: tuple["DiskHardwareView", ...]
    nics: tuple["NicHardwareView", ...]


class DiskHardwareView(WireModel):
    """A disk's format and the store that it lies in, null for a host's own folder."""

    disk_id: str
    disk_format: str
    disk_type: str
    store_id: str | None


class NicHardwareView(WireModel):
    """An adapter's addresses; a failover can set an address on synthetic ones alone."""

    nic_id: str
    mac: str | None
    subnet: str | None
    address: str | None
    synthetic: bool


class FabricView(WireModel):
    """The whole object model; `change_number` counts the announced changes."""

    change_number: int = Field(ge=0)
    host_groups: tuple[HostGroupView, ...]
    clusters: tuple[ClusterView, ...]
    hosts: tuple[HostRoomView, ...]
    capacities: tuple[CapacityView, ...]
    logical_networks: tuple[LogicalNetworkView, ...]
    networks: tuple[NetworkView, ...]
    address_pools: tuple[AddressPoolView, ...]
    classifications: tuple[ClassificationView, ...]
    stores: tuple[StoreView, ...]
    library_shares: tuple[LibraryShareView, ...]
    file_shares: tuple[FileShareView, ...]
    machines: tuple[HardwareView, ...]


class JobView(WireModel):
    """A line of VMM's job history: what the provider, or an administrator, had done."""

    job_id: str
    name: str
    target: str
    owner: str
    status: str
    progress_percent: int = Field(ge=0, le=100)
    began_at: datetime
    ended_at: datetime | None
    error: str | None


class JobsView(WireModel):
    """The newest jobs, newest first."""

    jobs: tuple[JobView, ...]


class ChangesView(WireModel):
    """How many changes of the inventory were announced; a higher number says: look again."""

    change_number: int = Field(ge=0)
