"""Which brokers other hosts stand for: what they proved, and what this host's pairings tell."""

from typing import Final

from vmm_simulator.vmm.brokering import Peer
from vmm_simulator.vmm.records import HostRecord

PEERS_MAX: Final = 1_024
"""Hosts of which is remembered what their certificates name; the oldest are forgotten first."""


class KnownPeers:
    """What the certificates of hosts that have called name, each as it was shown last."""

    def __init__(self) -> None:
        self._brokers: dict[str, tuple[str, ...]] = {}

    def introduce(self, fqdn: str, brokers: tuple[str, ...]) -> None:
        """Take note what else a host's certificate names; it is told before each request of it."""
        self._brokers.pop(fqdn.lower(), None)
        while len(self._brokers) >= PEERS_MAX:
            self._brokers.pop(next(iter(self._brokers)))
        self._brokers[fqdn.lower()] = brokers

    def peer(self, fqdn: str, asked: HostRecord) -> Peer:
        """Return a host that has proved its name, with the brokers that it stands for.

        A ticket proves no more than the name: then what the pairings of the host that is asked
        tell of its partners' clusters counts.
        """
        shown = self._brokers.get(fqdn.lower(), ())
        told = tuple(each for each in asked.brokers_of(fqdn) if each.lower() not in shown)
        return Peer(fqdn, shown + told)
