"""TCP connections to the hub, straight or through a proxy's CONNECT; blocking, for threads.

paho connects in a thread of its own, so one blocking dialler serves MQTT and the doctor alike.
"""

import contextlib
import socket
import time
from typing import Final

from provider_agent.domain.proxies import (
    ANSWER_HEAD_BYTES_MAX,
    ConnectAnswer,
    Proxy,
    ProxyChoice,
    ProxyError,
    connect_request,
    read_connect_answer,
    refusal_words,
)

_HEAD_END: Final = b"\r\n\r\n"


class TunnelRefusedError(OSError):
    """The proxy does not give a tunnel; `answer` is what it said to CONNECT."""

    def __init__(self, message: str, answer: ConnectAnswer) -> None:
        super().__init__(message)
        self.answer = answer


class NotAProxyError(OSError):
    """What listens there does not answer as an HTTP proxy does."""


def dial(route: ProxyChoice, host: str, port: int, seconds_max: float) -> socket.socket:
    """Return a connection whose next bytes are the hub's; OSError says which part failed."""
    proxy = route.proxy_for(host, port)
    if proxy is None:
        return socket.create_connection((host, port), timeout=seconds_max)
    deadline = time.monotonic() + seconds_max
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(connect_to_proxy(proxy, seconds_max))
        answer = ask_for_tunnel(connection, proxy, host, port, deadline)
        if not answer.granted:
            words = refusal_words(proxy, answer.status, f"{host}:{port}")
            raise TunnelRefusedError(words, answer)
        connection.settimeout(seconds_max)
        stack.pop_all()
        return connection


def connect_to_proxy(proxy: Proxy, seconds_max: float) -> socket.socket:
    """Return a connection to the proxy itself."""
    try:
        return socket.create_connection((proxy.address, proxy.port), timeout=seconds_max)
    except OSError as error:
        raise OSError(f"the proxy {proxy} cannot be reached: {error}") from error


def ask_for_tunnel(
    connection: socket.socket, proxy: Proxy, host: str, port: int, deadline: float
) -> ConnectAnswer:
    """Send CONNECT and return the answer; not one byte after its head is read."""
    connection.sendall(connect_request(host, port, proxy))
    head = bytearray()
    while not head.endswith(_HEAD_END):
        if len(head) >= ANSWER_HEAD_BYTES_MAX:
            raise NotAProxyError(f"the proxy {proxy} answers CONNECT without an end")
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        # Byte by byte: what follows the head belongs to TLS.
        byte = connection.recv(1)
        if not byte:
            raise NotAProxyError(f"the proxy {proxy} closed the connection instead of answering")
        head += byte
    try:
        return read_connect_answer(bytes(head))
    except ProxyError as error:
        raise NotAProxyError(f"{proxy} is no proxy: {error}") from error
