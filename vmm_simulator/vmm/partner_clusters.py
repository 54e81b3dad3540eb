"""The clusters of a pairing's partners, as the pairing told of them; pure.

A Kerberos ticket names the node alone, where a certificate names its replica broker too. Whether a
node may use an entry in its broker's name is for the host that it calls to know (behaviour 1.4):
from its own pairings, never from the caller.
"""

from collections.abc import Iterable

from pydantic import Field

from vmm_simulator.vmm.record import Record

NODES_MAX = 256


class PartnerCluster(Record):
    """A cluster of the other end: its replica broker, and the nodes that stand for it."""

    broker: str
    nodes: tuple[str, ...] = Field(max_length=NODES_MAX)


def brokers_of(clusters: Iterable[PartnerCluster], fqdn: str) -> tuple[str, ...]:
    """Return the brokers that a server stands for as a node, each once, ordered."""
    server = fqdn.lower()
    found = {each.broker for each in clusters if server in {node.lower() for node in each.nodes}}
    return tuple(sorted(found))
