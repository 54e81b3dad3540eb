"""Views of a small fabric that tests change one field of."""

from typing import Any

from wire_contract.vmm_interface import (
    CloudView,
    DiskView,
    GuestAnswer,
    HostView,
    InventoryView,
    MachineView,
    NicView,
    ReplicationView,
    VmmView,
)

MACHINE_ID = "machine-1"
CLOUD_ID = "cloud-1"
HOST = "tokyo-hyperv-1.example"
NONCE = "0123456789abcdef0123456789abcdef"


def replication(**changes: Any) -> ReplicationView:
    values: dict[str, Any] = {
        "relationship_id": "relationship-1",
        "mode": "Primary",
        "state": 3,
        "health": "Normal",
        "peer_host": "osaka-hyperv-1.example",
        "peer_port": 8084,
        "peer_machine_id": "machine-2",
        "interval_seconds": 30,
        "last_cut": 7,
        **changes,
    }
    return ReplicationView.model_validate(values)


def guest(**changes: Any) -> GuestAnswer:
    values: dict[str, Any] = {
        "pid": 4711,
        "nonce": NONCE,
        "proof": "ab",
        "verified": True,
        "file_system_uuid": None,
        "last_record": 5,
        "epoch": 2,
        **changes,
    }
    return GuestAnswer.model_validate(values)


def machine(**changes: Any) -> MachineView:
    values: dict[str, Any] = {
        "machine_id": MACHINE_ID,
        "hyperv_id": "hyperv-1",
        "name": "database",
        "cloud_id": CLOUD_ID,
        "host": HOST,
        "generation": 2,
        "run_state": "Off",
        "epoch": 2,
        "fenced": False,
        "epoch_confirmed": True,
        "start_blocked_by": None,
        "protected_item": "item-1",
        "disks": (DiskView(disk_id="d", name="os", kind="OperatingSystem", size_bytes=1),),
        "nics": (NicView(nic_id="nic-1", network_id="network-1"),),
        **changes,
    }
    return MachineView.model_validate(values)


def host(**changes: Any) -> HostView:
    values: dict[str, Any] = {
        "fqdn": HOST,
        "version": "2012R2",
        "cloud_ids": (CLOUD_ID,),
        "replica_enabled": True,
        "replica_port": 8084,
        "certificate_thumbprint": "aa11",
        "allowed_primaries": ("a.example", "b.example"),
        **changes,
    }
    return HostView.model_validate(values)


def cloud(**changes: Any) -> CloudView:
    values: dict[str, Any] = {
        "cloud_id": CLOUD_ID,
        "friendly_name": "Gold",
        "capability_profile": "Hyper-V",
        "host_fqdns": (HOST,),
        "paired_role": "Primary",
        "partner_cloud_id": "cloud-2",
        **changes,
    }
    return CloudView.model_validate(values)


def inventory(*machines: MachineView, **changes: Any) -> InventoryView:
    values: dict[str, Any] = {
        "vmm": VmmView(vmm_id="vmm-1", fqdn="vmm.tokyo.example", version="3.2"),
        "clouds": (cloud(),),
        "hosts": (host(),),
        "networks": (),
        "classifications": (),
        "machines": machines,
        **changes,
    }
    return InventoryView.model_validate(values)
