"""Host clusters and their replica broker (behaviour 1.10); pure."""

from vmm_simulator.vmm.estate_records import Addressing, BrokerRecord, ClusterRecord
from vmm_simulator.vmm.records import FabricRecord, HostRecord
from wire_contract.cluster_names import broker_name


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


def broker_to_name(fabric: FabricRecord, host: HostRecord) -> str | None:
    """Return the broker that a node's certificate names beside the node; None: of none."""
    cluster = fabric.cluster(host.cluster)
    broker = None if cluster is None else with_broker_of_vmm(cluster).broker
    return None if broker is None else broker.name


def broker_missing(fabric: FabricRecord, host: HostRecord) -> str | None:
    """Return in words that a host's cluster cannot replicate for want of a broker, or None.

    A cluster that only an old journal's host names is taken for one with DHCP, prepared before.
    """
    cluster = fabric.cluster(host.cluster)
    if cluster is None:
        return None
    if cluster.broker is not None:
        return _unnamed(host, cluster.broker)
    if cluster.addressing is Addressing.STATIC:
        return (
            f"cluster {cluster.name} has no Hyper-V Replica Broker; it has static addresses, so"
            " create the broker by hand"
        )
    return f"cluster {cluster.name} has no Hyper-V Replica Broker yet; pair the clouds"


def _unnamed(node: HostRecord, broker: BrokerRecord) -> str | None:
    """Return that a node's certificate does not name the broker: it needs both (behaviour 1.4)."""
    names = node.certificate_names
    if names is None or broker.name.lower() in names:
        return None
    return (
        f"its certificate does not name the Hyper-V Replica Broker {broker.name}, which was made"
        " later; pair the clouds again, so that the hosts get new certificates"
    )


def share_cluster(one: HostRecord, other: HostRecord) -> bool:
    """Return whether two hosts are nodes of one cluster."""
    return one.cluster is not None and one.cluster == other.cluster
