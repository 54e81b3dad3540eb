"""MQTT topic names; no other file spells one (design: channel, topics)."""

from typing import Final

HINT_TOPIC: Final = "hub/all"
"""To every provider: wake up and pull. Carries no data."""

RETRY_AFTER: Final = "retry-after"
"""User property of a refusing CONNACK: in how many whole seconds to come again."""

EVENT_BYTES_MAX: Final = 65_536
"""Largest event that is sent over MQTT; a larger one is announced by its number and pulled."""


def event_topic(provider_id: str) -> str:
    """Return the topic of one provider's signed events (QoS 1, never retained)."""
    return f"hub/ev/{provider_id}"


def presence_topic(provider_id: str) -> str:
    """Return the topic on which one provider says that it is there, and which is also its will."""
    return f"prov/{provider_id}/presence"
