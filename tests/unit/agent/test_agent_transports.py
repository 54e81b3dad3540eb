"""Which transport MQTT takes next."""

import pytest

from provider_agent.domain.transports import MqttTransport, TransportChoice


@pytest.mark.parametrize("wanted", [MqttTransport.TLS, MqttTransport.WEBSOCKET])
def test_a_fixed_transport_stays(wanted: MqttTransport) -> None:
    choice = TransportChoice(wanted)
    assert choice.present is wanted
    assert not choice.unreachable()
    choice.lost()
    assert choice.present is wanted


def present(choice: TransportChoice) -> MqttTransport:
    """Ask anew each time: a type checker would take the first answer for the next one."""
    return choice.present


def test_auto_takes_websocket_at_once_and_then_tls_after_a_wait() -> None:
    choice = TransportChoice(MqttTransport.AUTO)
    assert present(choice) is MqttTransport.TLS
    assert choice.unreachable()
    assert present(choice) is MqttTransport.WEBSOCKET
    assert not choice.unreachable()
    assert present(choice) is MqttTransport.TLS


def test_auto_begins_with_tls_again_after_a_loss() -> None:
    choice = TransportChoice(MqttTransport.AUTO)
    choice.unreachable()
    choice.lost()
    assert present(choice) is MqttTransport.TLS
