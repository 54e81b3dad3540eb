"""Where in its cluster a replica is, as the broker and every node say; pure (behaviour 1.10)."""

from vmm_simulator.hyperv.host_control import OfferAnswer, ReplicaLocation
from vmm_simulator.problems import unknown
from vmm_simulator.vmm.clusters import share_cluster
from vmm_simulator.vmm.inventory import Inventory
from vmm_simulator.vmm.records import MachineRecord


def location_of(inventory: Inventory, machine: MachineRecord) -> ReplicaLocation:
    """Return node and port of a replica; refused where its node does not listen for its pairing."""
    # A node of several pairings has a port for each.
    port = inventory.hosts[machine.host].port_of(machine.cloud_id)
    if port is None:
        raise unknown("replication port of host", machine.host)
    return ReplicaLocation(host=machine.host, port=port)


def offer_elsewhere(inventory: Inventory, fqdn: str, machine: MachineRecord) -> OfferAnswer:
    """Answer an offer for a machine on another node of this host's cluster: offer it there."""
    if not share_cluster(inventory.hosts[fqdn], inventory.hosts[machine.host]):
        raise unknown("machine", machine.machine_id)
    return OfferAnswer(
        machine_id=machine.machine_id,
        state=int(machine.state),
        last_cut=0,
        node=location_of(inventory, machine),
        made=False,
    )
