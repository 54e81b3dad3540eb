"""Over which transport MQTT is tried next; pure (design: channel, roles of the two transports)."""

from enum import StrEnum


class MqttTransport(StrEnum):
    """What the configuration asks for."""

    TLS = "tls"
    WEBSOCKET = "websocket"
    AUTO = "auto"


class TransportChoice:
    """Raw TLS first, WebSocket when that cannot be reached; the configuration may fix either.

    Only a connection that was never made changes the choice: a hub that refuses a CONNECT refuses
    it over the other transport too.
    """

    def __init__(self, wanted: MqttTransport) -> None:
        self._wanted = wanted
        self._present = MqttTransport.TLS if wanted is MqttTransport.AUTO else wanted

    @property
    def present(self) -> MqttTransport:
        """The transport to try now: TLS or WEBSOCKET."""
        return self._present

    def unreachable(self) -> bool:
        """Note that the present one was not reached; whether another is worth trying at once."""
        if self._wanted is not MqttTransport.AUTO:
            return False
        first = self._present is MqttTransport.TLS
        self._present = MqttTransport.WEBSOCKET if first else MqttTransport.TLS
        return first

    def lost(self) -> None:
        """Note that a connection that held was lost: raw TLS may be reachable again."""
        if self._wanted is MqttTransport.AUTO:
            self._present = MqttTransport.TLS
