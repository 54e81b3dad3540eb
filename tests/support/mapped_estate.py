"""Two servers with networks, storage and a machine that uses them, for tests of mappings."""

from service_hub.domain.records import FabricInventory
from service_hub.ports.changes import Change, Save
from tests.support.hub_world import BEGIN, MACHINE_ID, HubWorld
from tests.support.site_views import inventory, machine, replication
from wire_contract.reports import MachineObserved, ReportBatch
from wire_contract.vmm_interface import (
    ClassificationView,
    DiskView,
    MachineView,
    NetworkView,
    NicView,
    SubnetView,
)
from wire_contract.vocabulary import ReplicationMode, ReplicationState

DISK = DiskView(
    disk_id="d1",
    name="system",
    kind="OperatingSystem",
    size_bytes=1024,
    classification_id="tokyo-fast",
)
NICS = (
    NicView(
        nic_id="nic-1",
        network_id="tokyo-corp",
        subnet="back",
        address_type="Static",
        address="10.1.0.7",
    ),
    NicView(nic_id="nic-2", network_id="tokyo-dmz"),
)
SOURCE = machine(MACHINE_ID, "tokyo").model_copy(
    update={"nics": NICS, "disks": (DISK,), "processors": 4, "memory_megabytes": 8192}
)


def network(site: str, name: str, *subnets: str, offered: bool = True) -> NetworkView:
    """Return a VM network that is attached to the site's cloud, or to none."""
    return NetworkView(
        network_id=f"{site}-{name}",
        friendly_name=name,
        network_type="NoIsolation",
        logical_network_id=f"{site}-logical",
        cloud_ids=(f"{site}-cloud",) if offered else (),
        subnets=tuple(SubnetView(name=each, friendly_name=each) for each in subnets),
    )


def furnished(site: str, *machines: MachineView) -> FabricInventory:
    """Return the inventory of a site."""
    kinds = ("fast", "slow")
    view = inventory(site, machines).model_copy(
        update={
            "networks": (
                network(site, "corp", "front", "back"),
                network(site, "lab"),
                network(site, "dmz"),
                network(site, "apart", offered=False),
            ),
            "classifications": tuple(
                ClassificationView(
                    classification_id=f"{site}-{each}",
                    friendly_name=each,
                    cloud_ids=(f"{site}-cloud",),
                )
                for each in kinds
            ),
        }
    )
    return FabricInventory(id=f"{site}-provider", vault_id="vault", observed_at=BEGIN, view=view)


async def furnish(world: HubWorld) -> None:
    """Let both servers have told what they have."""
    saves = (Save(furnished("tokyo", SOURCE), None), Save(furnished("osaka"), None))
    await world.committer.commit(Change(saves=saves))


async def observed(world: HubWorld) -> None:
    """Let the source be observed as it replicates, with its adapters."""
    view = SOURCE.model_copy(
        update={"replication": replication(ReplicationState.REPLICATING, ReplicationMode.PRIMARY)}
    )
    report = MachineObserved(
        report_id=world.clock.new_id(), observed_at=world.clock.now(), machine=view
    )
    batch = ReportBatch(journal_id="j", reports=(report,))
    await world.reports.reports(world.providers["tokyo"], batch)
