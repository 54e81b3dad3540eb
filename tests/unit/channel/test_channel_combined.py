"""Delivery over the hub's own listener and a broker together; files for the broker."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import ValidationError

from service_hub.channel.delivery import CombinedDelivery, Publication
from service_hub.channel.mosquitto_files import ACCESS, mosquitto_configuration
from service_hub.config import BrokerSettings


@dataclass
class Way:
    """A Delivery that remembers what it was given."""

    numbers: dict[str, int]
    given: list[str] = field(default_factory=list)

    def connections(self) -> Mapping[str, int]:
        """Return the numbers."""
        return self.numbers

    def connected(self, provider_id: str) -> int | None:
        """Return a number."""
        return self.numbers.get(provider_id)

    def publish(self, provider_id: str, payload: bytes) -> Publication:
        """Keep the payload."""
        if provider_id not in self.numbers:
            return Publication.ABSENT
        self.given.append(payload.decode())
        return Publication.SENT

    def hint(self, provider_id: str) -> bool:
        """Keep the hint."""
        self.given.append("hint")
        return provider_id in self.numbers

    def kick(self, provider_id: str) -> None:
        """Forget the provider."""
        self.numbers.pop(provider_id, None)


def test_the_own_listener_comes_first_and_the_broker_serves_the_others() -> None:
    own, broker = Way({"a": 1}), Way({"a": 1, "b": 1})
    both = CombinedDelivery(own, broker)
    assert both.connections() == {"a": 1, "b": -1}
    assert (both.connected("a"), both.connected("b"), both.connected("c")) == (1, -1, None)
    assert both.publish("a", b"to a") is Publication.SENT
    assert both.publish("b", b"to b") is Publication.SENT
    assert both.publish("c", b"to c") is Publication.ABSENT
    assert both.hint("a")
    assert (own.given, broker.given) == (["to a", "hint"], ["to b"])


def test_who_changes_ways_has_another_number() -> None:
    own, broker = Way({"a": 1}), Way({"a": 1})
    both = CombinedDelivery(own, broker)
    before = both.connected("a")
    own.numbers.clear()
    assert both.connected("a") not in {before, None}


def test_a_kick_acts_on_both_ways() -> None:
    both = CombinedDelivery(Way({"a": 1}), Way({"a": 2}))
    both.kick("a")
    assert both.connected("a") is None


def test_what_belongs_to_the_listener_stands_below_it() -> None:
    lines = mosquitto_configuration(Path("/etc/x"), "0.0.0.0", 8883).splitlines()
    listener = lines.index("listener 8883 0.0.0.0")
    for option in ("use_identity_as_username", "use_username_as_clientid", "require_certificate"):
        assert lines.index(f"{option} true") > listener
    assert "allow_anonymous false" in lines
    assert "pattern write prov/%u/#" in ACCESS


def test_a_broker_without_host_is_refused() -> None:
    with pytest.raises(ValidationError, match="needs its host"):
        BrokerSettings.model_validate({"kind": "mqtt"})
    assert BrokerSettings.model_validate({"kind": "mqtt", "host": "::1"}).names == ((), ("::1",))
    assert BrokerSettings.model_validate({"kind": "mqtt", "host": "b"}).names == (("b",), ())
