"""Which machines a site tells its vault of: those of synchronised clouds (seed, step 3)."""

from wire_contract.vmm_interface import InventoryView


def for_vault(inventory: InventoryView) -> InventoryView:
    """Return what the hub may see: all clouds, but the machines only of those that take part.

    A cloud takes part when it is synchronised or paired; a machine also when it is protected,
    replicates or is a test machine, so that nothing under way is lost sight of. All clouds are
    told because pairing offers all clouds of the recovery server.
    """
    taking_part = {
        cloud.cloud_id
        for cloud in inventory.clouds
        if cloud.synchronized or cloud.paired_role or cloud.partner_cloud_id is not None
    }
    machines = tuple(
        machine
        for machine in inventory.machines
        if machine.cloud_id in taking_part
        or machine.protected_item is not None
        or machine.replication is not None
        or machine.test_machine_of is not None
    )
    return inventory.model_copy(update={"machines": machines})
