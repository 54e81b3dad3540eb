"""Host clusters and their replica broker (behaviour 1.10); pure."""

from vmm_simulator.vmm.estate_records import Addressing, BrokerRecord, ClusterRecord
from vmm_simulator.vmm.records import FabricRecord, HostRecord


def with_broker_of_vmm(cluster: ClusterRecord) -> ClusterRecord:
    """Return the cluster as VMM prepares it for replication.

    VMM makes the Hyper-V Replica Broker by itself only where the cluster gets addresses by DHCP; a
    cluster with static addresses needs it made by hand (seed, prerequisites). One that is there
    stays.
    """
    if cluster.broker is not None or cluster.addressing is Addressing.STATIC:
        return cluster
    broker = BrokerRecord(name=broker_name(cluster.name), made_by_vmm=True)
    return cluster.model_copy(update={"broker": broker})


def broker_name(cluster: str) -> str:
    """Return the client access point that VMM gives a broker: beside the cluster's own name."""
    first, dot, rest = cluster.partition(".")
    return f"{first}-broker{dot}{rest}"


def broker_missing(fabric: FabricRecord, host: HostRecord) -> str | None:
    """Return in words that a host's cluster cannot replicate for want of a broker, or None.

    A cluster that only an old journal's host names is taken for one with DHCP, prepared before.
    """
    cluster = fabric.cluster(host.cluster)
    if cluster is None or cluster.broker is not None:
        return None
    if cluster.addressing is Addressing.STATIC:
        return (
            f"cluster {cluster.name} has no Hyper-V Replica Broker; it has static addresses, so"
            " create the broker by hand"
        )
    return f"cluster {cluster.name} has no Hyper-V Replica Broker yet; pair the clouds"


def share_cluster(one: HostRecord, other: HostRecord) -> bool:
    """Return whether two hosts are nodes of one cluster."""
    return one.cluster is not None and one.cluster == other.cluster
