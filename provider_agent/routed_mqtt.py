"""An MQTT client whose connections take the way that the proxy rules say."""

import socket
from typing import Any

import aiomqtt

from provider_agent.domain.proxies import ProxyChoice
from provider_agent.tunnel import dial


class RoutedMqttClient(aiomqtt.Client):
    """An aiomqtt.Client behind our own dialler: paho would look at the environment's variables."""

    def __init__(self, hostname: str, port: int, route: ProxyChoice, **options: Any) -> None:
        super().__init__(hostname, port, **options)

        def connection() -> socket.socket:
            return dial(route, hostname, port, self.timeout)

        # paho offers no other place for a socket of one's own; the tests go through real proxies,
        # so that a paho without this method cannot pass.
        self._client._create_socket_connection = connection  # type: ignore[method-assign] # noqa: SLF001 -- see above
