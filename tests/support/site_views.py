"""What the providers of a hub without network tell: machines, their replication, inventories."""

from wire_contract.vmm_interface import (
    CloudView,
    DiskView,
    HostGroupView,
    HostView,
    InventoryView,
    MachineView,
    ReplicationView,
    VmmView,
)
from wire_contract.vocabulary import Health, ReplicationMode, ReplicationState, RunState

MACHINE_ID = "11111111-1111-4111-8111-111111111111"


def replication(state: ReplicationState, mode: ReplicationMode) -> ReplicationView:
    """Return a relationship in that state."""
    return ReplicationView(
        relationship_id="r",
        mode=mode,
        state=state,
        health=Health.NORMAL,
        peer_host="peer",
        peer_port=8084,
        peer_machine_id="m",
        interval_seconds=30,
    )


def machine(machine_id: str, site: str, view: ReplicationView | None = None) -> MachineView:
    """Return a running machine of a site's cloud."""
    return MachineView(
        machine_id=machine_id,
        hyperv_id=MACHINE_ID,
        name="web01",
        cloud_id=f"{site}-cloud",
        host=f"{site}-host1.example",
        generation=2,
        run_state=RunState.RUNNING,
        epoch=1,
        fenced=False,
        epoch_confirmed=True,
        start_blocked_by=None,
        protected_item=None,
        disks=(DiskView(disk_id="d1", name="system", kind="OperatingSystem", size_bytes=1024),),
        replication=view,
    )


def inventory(site: str, machines: tuple[MachineView, ...] = ()) -> InventoryView:
    """Return a site's inventory."""
    return InventoryView(
        vmm=VmmView(vmm_id=f"{site}-vmm", fqdn=f"{site}.example", version="3.2.7510.0"),
        clouds=(
            CloudView(
                cloud_id=f"{site}-cloud",
                friendly_name=f"{site} cloud",
                capability_profile="Hyper-V",
                host_fqdns=(f"{site}-host1.example",),
                host_group_ids=(f"{site}-group",),
            ),
        ),
        hosts=(
            HostView(
                fqdn=f"{site}-host1.example",
                version="2012R2",
                cloud_ids=(f"{site}-cloud",),
                host_group_id=f"{site}-group",
            ),
        ),
        host_groups=(
            HostGroupView(
                host_group_id=f"{site}-group",
                friendly_name="Hosts",
                path=r"All Hosts\Hosts",
                host_count=1,
                machine_count=len(machines),
            ),
        ),
        networks=(),
        classifications=(),
        machines=machines,
    )


def with_host_added(site: str) -> InventoryView:
    """Return a site's inventory once a second host has come into its cloud."""
    view = inventory(site)
    added = f"{site}-host2.example"
    (cloud,), (host,), (group,) = view.clouds, view.hosts, view.host_groups
    return view.model_copy(
        update={
            "clouds": (cloud.model_copy(update={"host_fqdns": (*cloud.host_fqdns, added)}),),
            "hosts": (host, host.model_copy(update={"fqdn": added})),
            "host_groups": (group.model_copy(update={"host_count": 2}),),
        }
    )
