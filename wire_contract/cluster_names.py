"""Names of a host cluster that both a fabric and its hub have to know."""

import re
from collections.abc import Sequence
from typing import Final

from wire_contract.model import WireModel
from wire_contract.vmm_interface import CloudView, ClusterView, HostView, InventoryView

_DNS_NAME: Final = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
_BY_DHCP: Final = "DHCP"


def broker_name(cluster: str) -> str:
    """Return the client access point that VMM gives a replica broker: beside the cluster's name."""
    first, dot, rest = cluster.partition(".")
    return f"{first}-broker{dot}{rest}"


class ClusterNodes(WireModel):
    """A cluster as the other end of its pairing is told of it: replica broker and nodes."""

    broker: str
    nodes: tuple[str, ...]


def clusters_of(view: InventoryView, cloud: CloudView) -> tuple[ClusterNodes, ...]:
    """Return the clusters that a cloud's hosts are nodes of, as far as they have a broker.

    A node that no inventory names is none; those outside the cloud count, since an entry in a
    broker's name is about the whole cluster (behaviour 1.4).
    """
    here = {each.cluster for each in view.hosts if each.fqdn in cloud.host_fqdns}
    found = []
    for name in sorted(each for each in here if each is not None):
        nodes = [each for each in view.hosts if each.cluster == name]
        broker = broker_of(nodes[0], view.clusters)
        if broker is not None:
            found.append(ClusterNodes(broker=broker, nodes=tuple(each.fqdn for each in nodes)))
    return tuple(found)


def broker_of(host: HostView, clusters: Sequence[ClusterView]) -> str | None:
    """Return the broker that a host's certificate has to name beside the host; None: of none.

    Nodes of a cluster stand for its Hyper-V Replica Broker too (behaviour 1.4). Where VMM is yet to
    make it, which it does by DHCP alone, it is the name that VMM will give. A name that cannot
    stand in a certificate counts as none.
    """
    cluster = next((each for each in clusters if each.name == host.cluster), None)
    if cluster is None:
        return None
    name = cluster.broker
    if name is None and cluster.addressing == _BY_DHCP:
        name = broker_name(cluster.name)
    return name if name is not None and _DNS_NAME.fullmatch(name) else None
