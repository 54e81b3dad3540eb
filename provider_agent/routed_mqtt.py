"""An MQTT client whose connections take the way that the proxy rules say."""

import contextlib
import socket
import ssl
from types import TracebackType
from typing import Any, Final, Self

import aiomqtt
import paho.mqtt.client as mqtt
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from provider_agent.domain.proxies import ProxyChoice
from provider_agent.domain.retries import seconds_asked
from provider_agent.tunnel import dial
from wire_contract.topics import RETRY_AFTER

SERVER_BUSY: Final = 0x89
"""Reason code of CONNACK (MQTT 5.0, 3.2.2.2)."""


class RoutedMqttClient(aiomqtt.Client):
    """An aiomqtt.Client behind our own dialler: paho would look at the environment's variables.

    paho offers no other place for a connection of one's own than two of its private methods; the
    tests go through real proxies, so that a paho without them cannot pass.
    """

    def __init__(
        self,
        hostname: str,
        port: int,
        route: ProxyChoice,
        *,
        tls_context: ssl.SSLContext,
        **options: Any,
    ) -> None:
        super().__init__(hostname, port, tls_context=tls_context, **options)
        self._opened: ssl.SSLSocket | None = None
        self.retry_after: float | None = None
        """Where the hub is too busy to take this connection: in how many seconds to come again."""

        def connection() -> socket.socket:
            return dial(route, hostname, port, self.timeout)

        def secured(plain: socket.socket) -> ssl.SSLSocket:
            opened = tls_context.wrap_socket(
                plain, server_hostname=hostname, do_handshake_on_connect=False
            )
            with contextlib.ExitStack() as stack:
                stack.callback(opened.close)
                opened.settimeout(self.timeout)
                opened.do_handshake()
                stack.pop_all()
            self._opened = opened
            return opened

        self._client._create_socket_connection = connection  # type: ignore[method-assign] # noqa: SLF001 -- see above
        self._client._ssl_wrap_socket = secured  # type: ignore[assignment,method-assign] # noqa: SLF001 -- see above

    def _on_connect(
        self,
        client: mqtt.Client,
        userdata: Any,
        flags: mqtt.ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        """Keep what CONNACK says about coming again; aiomqtt itself drops it."""
        if reason_code.value == SERVER_BUSY:
            told = dict(getattr(properties, "UserProperty", ()))
            self.retry_after = seconds_asked(told.get(RETRY_AFTER)) or 0.0
        super()._on_connect(client, userdata, flags, reason_code, properties)

    async def __aenter__(self) -> Self:
        """Connect; a connection that became no MQTT connection is closed."""
        try:
            return await super().__aenter__()
        except aiomqtt.MqttError:
            if self._opened is not None and self._client.socket() is None:
                self._opened.close()
            raise

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Disconnect; that the connection had ended before is no news, and is not printed."""
        await super().__aexit__(exc_type, exc, tb)
        if self._disconnected.done() and not self._disconnected.cancelled():
            self._disconnected.exception()
