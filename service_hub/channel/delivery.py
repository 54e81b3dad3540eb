"""How signed events reach providers at once; latency only, the truth is pulled over HTTPS.

The hub's own listener (`mqtt_endpoint`) is one back end; an external broker can be another.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Protocol


class Publication(Enum):
    """What became of an event that was to be delivered."""

    SENT = "sent"
    BUSY = "busy"
    """The peer has not taken what it already has: try again later."""
    TOO_LARGE = "too_large"
    """The peer takes no packet of this size: give it a hint, it pulls."""
    ABSENT = "absent"


class Delivery(Protocol):
    """Carries events and hints to providers that are connected now; none of it ever blocks."""

    def connections(self) -> Mapping[str, int]:
        """Return the number of the present connection of each provider that can be reached.

        A number is never used twice: a new one means that what was sent before may be lost.
        """
        ...

    def connected(self, provider_id: str) -> int | None:
        """Return the number of the connection that takes this provider's events, or None."""
        ...

    def publish(self, provider_id: str, payload: bytes) -> Publication:
        """Send one signed event; that it was sent proves nothing."""
        ...

    def hint(self, provider_id: str) -> bool:
        """Tell the provider to pull; false when it cannot be told now."""
        ...

    def kick(self, provider_id: str) -> None:
        """End all connections of this provider at once; revocation must not wait."""
        ...


class CombinedDelivery:
    """Through the hub's own listener where the provider is there, else through the broker."""

    def __init__(self, own: Delivery, broker: Delivery) -> None:
        self._own = own
        self._broker = broker

    def connections(self) -> Mapping[str, int]:
        """Return the present connection of each provider; a broker's have negative numbers."""
        through_broker = {key: -each for key, each in self._broker.connections().items()}
        return {**through_broker, **self._own.connections()}

    def connected(self, provider_id: str) -> int | None:
        """Return the number of the connection that takes this provider's events, or None."""
        number = self._own.connected(provider_id)
        if number is not None:
            return number
        number = self._broker.connected(provider_id)
        return None if number is None else -number

    def publish(self, provider_id: str, payload: bytes) -> Publication:
        """Send one signed event; that it was sent proves nothing."""
        return self._to(provider_id).publish(provider_id, payload)

    def hint(self, provider_id: str) -> bool:
        """Tell the provider to pull; false when it cannot be told now."""
        return self._to(provider_id).hint(provider_id)

    def kick(self, provider_id: str) -> None:
        """End what there is of this provider on both ways."""
        self._own.kick(provider_id)
        self._broker.kick(provider_id)

    def _to(self, provider_id: str) -> Delivery:
        return self._broker if self._own.connected(provider_id) is None else self._own
