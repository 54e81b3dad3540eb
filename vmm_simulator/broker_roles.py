"""Which node answers at the address of each cluster's replica broker (behaviour 1.10).

The broker is a role of its cluster: a name and an address of its own, which one node has at a time.
It goes to another node when that one goes down, and is nowhere while no node listens for
replication. Without an address in the hosts file any node answers in the broker's place.
"""

import asyncio
from collections.abc import Collection, Mapping

import structlog

from vmm_simulator.hyperv.host import Host
from vmm_simulator.problems import RefusedError
from vmm_simulator.store import InventoryStore
from vmm_simulator.vmm.estate_records import ClusterRecord
from vmm_simulator.vmm.records import HostRecord

log = structlog.get_logger(__name__)


class BrokerRoles:
    """Keeps each broker on one node that is up; `hosts` is what the fabric looks into."""

    def __init__(self, store: InventoryStore, hosts: Mapping[str, Host]) -> None:
        self._store = store
        self._hosts = hosts
        self._nodes: dict[str, str] = {}
        self._settling = asyncio.Lock()

    def node_of(self, cluster: str) -> str | None:
        """Return the node (FQDN) that answers at the broker's address now; None: nobody."""
        return self._nodes.get(cluster)

    async def settle(self, *, down: Collection[str] = ()) -> None:
        """Have every broker where the inventory wants it, and on no node that is down."""
        async with self._settling:
            clusters = {each.name: each for each in self._store.fabric.clusters}
            for name in list(self._nodes):
                if not self._may_stay(clusters.get(name), self._nodes[name], down):
                    await self._release(name)
            for cluster in clusters.values():
                await self._take(cluster, down)

    def _may_stay(self, cluster: ClusterRecord | None, node: str, down: Collection[str]) -> bool:
        if cluster is None or cluster.broker is None:
            return False
        return node in {each.fqdn for each in self._able(cluster, down)}

    def _able(self, cluster: ClusterRecord, down: Collection[str]) -> list[HostRecord]:
        """Return the nodes that listen for replication and stay up, ordered by FQDN."""
        return [
            node
            for node in self._store.inventory.nodes_of(cluster.name)
            if node.ports and node.fqdn in self._hosts and node.fqdn not in down
        ]

    async def _release(self, cluster: str) -> None:
        node = self._nodes.pop(cluster)
        if node in self._hosts:
            await self._hosts[node].leave_broker()
        log.info("broker_released", cluster=cluster, node=node)

    async def _take(self, cluster: ClusterRecord, down: Collection[str]) -> None:
        broker = cluster.broker
        able = [] if broker is None else self._able(cluster, down)
        if broker is None or not able or not self._hosts[able[0].fqdn].knows(broker.name):
            return
        present = self._nodes.get(cluster.name, able[0].fqdn)
        node = next(each for each in able if each.fqdn == present)
        try:
            await self._hosts[node.fqdn].take_broker(broker.name, node.ports)
        except RefusedError as refusal:
            # The nodes answer in its place; the next change of the estate tries again.
            log.warning("broker_not_taken", cluster=cluster.name, cause=refusal.message)
            await self._hosts[node.fqdn].leave_broker()
            self._nodes.pop(cluster.name, None)
            return
        if self._nodes.get(cluster.name) != node.fqdn:
            self._nodes[cluster.name] = node.fqdn
            log.info("broker_taken", cluster=cluster.name, broker=broker.name, node=node.fqdn)
