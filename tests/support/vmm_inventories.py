"""A small inventory of a VMM server as values, for tests of its rules."""

from typing import Any

from vmm_simulator.vmm.estate_records import (
    AddressPoolRecord,
    BrokerRecord,
    ClassificationRecord,
    ClusterRecord,
    LogicalNetworkRecord,
    NetworkRecord,
    StoreKind,
    StoreRecord,
    SubnetRecord,
)
from vmm_simulator.vmm.inventory import Edit, Inventory
from vmm_simulator.vmm.records import (
    CloudRecord,
    DiskRecord,
    FabricRecord,
    HostGroupRecord,
    HostRecord,
    MachineRecord,
    NicRecord,
)

CLUSTER = "cluster.example"
NODES = ("node1.example", "node2.example")
ALONE = "alone.example"
PARTNER = "partner.example"
CSV_BYTES = 1000


def host(fqdn: str, **changes: Any) -> HostRecord:
    """Return a host that is prepared for the partner."""
    values: dict[str, Any] = {
        "fqdn": fqdn,
        "version": "2012R2",
        "host_group": "group",
        "disks_directory": f"/disks/{fqdn}",
        "replica_port": 8084,
        "certificate_thumbprint": "aa",
        "allowed_primaries": {"cloud": (PARTNER,)},
        **changes,
    }
    return HostRecord.model_validate(values)


def disk(path: str, size_bytes: int = 100) -> DiskRecord:
    """Return a disk."""
    name = path.rpartition("/")[2]
    return DiskRecord(disk_id=name, name=name, kind="Data", size_bytes=size_bytes, path=path)


def machine(machine_id: str = "m1", on: str = NODES[0], **changes: Any) -> MachineRecord:
    """Return a machine whose disk lies on the cluster's volume."""
    values: dict[str, Any] = {
        "machine_id": machine_id,
        "hyperv_id": machine_id,
        "name": machine_id,
        "cloud_id": "cloud",
        "host": on,
        "generation": 2,
        "disks": (disk(f"/csv/{machine_id}/0.img"),),
        "nics": (NicRecord(nic_id=f"{machine_id}-nic", network_id="production"),),
        **changes,
    }
    return MachineRecord.model_validate(values)


def pool(**changes: Any) -> AddressPoolRecord:
    """Return the pool of the production network: three addresses."""
    values: dict[str, Any] = {
        "pool_id": "pool",
        "name": "pool",
        "network_id": "production",
        "subnet": "front",
        "first": "10.1.0.10",
        "last": "10.1.0.12",
        **changes,
    }
    return AddressPoolRecord.model_validate(values)


def fabric(**changes: Any) -> FabricRecord:
    """Return a fabric with one of most things."""
    subnets = (
        SubnetRecord(name="front", address_list=("10.1.0.0/24",)),
        SubnetRecord(name="back", address_list=("10.2.0.0/24-9 0",)),
    )
    values: dict[str, Any] = {
        "vmm_id": "vmm",
        "fqdn": "vmm.example",
        "version": "3",
        "host_groups": (HostGroupRecord(group_id="group", name="group", path="All Hosts"),),
        "clusters": (
            ClusterRecord(
                name=CLUSTER, broker=BrokerRecord(name="broker.example", made_by_vmm=True)
            ),
        ),
        "logical_networks": (
            LogicalNetworkRecord(
                logical_network_id="logical", name="logical", cloud_ids=("cloud",)
            ),
        ),
        "networks": (
            NetworkRecord(
                network_id="production",
                name="production",
                network_type="NoIsolation",
                logical_network="logical",
                subnets=subnets,
            ),
        ),
        "address_pools": (pool(),),
        "classifications": (
            ClassificationRecord(classification_id="gold", name="gold"),
            ClassificationRecord(classification_id="silver", name="silver"),
        ),
        "stores": (store("csv", cluster=CLUSTER),),
        **changes,
    }
    return FabricRecord.model_validate(values)


def store(store_id: str, **changes: Any) -> StoreRecord:
    """Return a cluster shared volume of the classification gold."""
    values: dict[str, Any] = {
        "store_id": store_id,
        "name": store_id,
        "kind": StoreKind.CSV,
        "folder": f"/{store_id}",
        "capacity_bytes": CSV_BYTES,
        "classification_id": "gold",
        **changes,
    }
    return StoreRecord.model_validate(values)


def cloud(**changes: Any) -> CloudRecord:
    """Return the cloud of all hosts."""
    values: dict[str, Any] = {
        "cloud_id": "cloud",
        "name": "cloud",
        "capability_profile": "Hyper-V",
        "host_groups": ("group",),
        **changes,
    }
    return CloudRecord.model_validate(values)


def inventory(*machines: MachineRecord, **changes: Any) -> Inventory:
    """Return a cloud with a cluster of two nodes and a host of its own; no rule is broken."""
    hosts = [host(name, cluster=CLUSTER) for name in NODES] + [host(ALONE)]
    values: dict[str, Any] = {
        "fabric": fabric(),
        "clouds": {"cloud": cloud()},
        "hosts": {each.fqdn: each for each in hosts},
        "machines": {each.machine_id: each for each in machines},
        **changes,
    }
    return Inventory(**values)


def with_records(before: Inventory, *records: Any) -> Inventory:
    """Return the inventory with these records put into it."""
    return before.after(Edit(put=tuple(records)))
