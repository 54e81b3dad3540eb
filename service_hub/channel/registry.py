"""Who is connected to the hub's MQTT listener: bookkeeping without input or output of its own."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from service_hub.channel.limits import EndpointLimits

ConnectionT = TypeVar("ConnectionT")


@dataclass(frozen=True, slots=True)
class Peer:
    """What a certificate says: the provider's id (its CN), and which certificate it is."""

    identity: str
    thumbprint: str


@dataclass(frozen=True, slots=True)
class Admitted(Generic[ConnectionT]):
    """A provider's connection; no number is used twice."""

    connection: ConnectionT
    number: int


class ConnectionRegistry(Generic[ConnectionT]):
    """All connections, and for each provider the one that is admitted.

    Limits count per certificate, never per provider id: who holds an old certificate must not be
    able to keep the provider itself out.
    """

    def __init__(self, limits: EndpointLimits, monotonic: Callable[[], float]) -> None:
        self._limits = limits
        self._monotonic = monotonic
        self._open: dict[ConnectionT, Peer] = {}
        self._per_certificate: Counter[str] = Counter()
        self._admitted: dict[str, Admitted[ConnectionT]] = {}
        self._held_off: dict[str, float] = {}
        self._last_number = 0
        self._is_stopped = False

    def open(self, peer: Peer, connection: ConnectionT) -> str | None:
        """Take a connection in before anything is known but its certificate; return why not."""
        if self._is_stopped:
            return "the hub stops"
        if self._is_held_off(peer.thumbprint):
            return "this certificate has sent what is not MQTT and is not served for a while"
        if len(self._open) >= self._limits.connections:
            return "there are too many connections"
        if self._per_certificate[peer.thumbprint] >= self._limits.connections_per_certificate:
            return "this certificate has too many connections"
        self._open[connection] = peer
        self._per_certificate[peer.thumbprint] += 1
        return None

    def close(self, connection: ConnectionT) -> None:
        """Forget a connection; may be repeated."""
        peer = self._open.pop(connection, None)
        if peer is None:
            return
        self._per_certificate[peer.thumbprint] -= 1
        if self._per_certificate[peer.thumbprint] <= 0:
            del self._per_certificate[peer.thumbprint]
        admitted = self._admitted.get(peer.identity)
        if admitted is not None and admitted.connection is connection:
            del self._admitted[peer.identity]

    def admit(self, connection: ConnectionT) -> ConnectionT | None:
        """Make it its provider's connection; return the one that it replaces."""
        identity = self._open[connection].identity
        replaced = self._admitted.get(identity)
        self._last_number += 1
        self._admitted[identity] = Admitted(connection, self._last_number)
        return None if replaced is None else replaced.connection

    def hold_off(self, connection: ConnectionT) -> None:
        """Serve nobody with this connection's certificate for a while."""
        now = self._monotonic()
        self._held_off = {key: until for key, until in self._held_off.items() if until > now}
        peer = self._open.get(connection)
        if peer is not None:
            self._held_off[peer.thumbprint] = now + self._limits.held_off_seconds

    def admitted(self, identity: str) -> ConnectionT | None:
        """Return the provider's connection."""
        admitted = self._admitted.get(identity)
        return None if admitted is None else admitted.connection

    def numbered(self, identity: str) -> Admitted[ConnectionT] | None:
        """Return the provider's connection with its number."""
        return self._admitted.get(identity)

    def numbers(self) -> Mapping[str, int]:
        """Return the admitted providers and the numbers of their connections."""
        return {identity: each.number for identity, each in self._admitted.items()}

    def all_of(self, identity: str) -> list[ConnectionT]:
        """Return every connection with this common name, admitted or not."""
        return [each for each, peer in self._open.items() if peer.identity == identity]

    def stop(self) -> list[ConnectionT]:
        """Take in nobody any more; return every connection."""
        self._is_stopped = True
        return list(self._open)

    def _is_held_off(self, thumbprint: str) -> bool:
        return self._held_off.get(thumbprint, 0.0) > self._monotonic()
