"""A way through an HTTP proxy (CONNECT, RFC 9110 section 9.3.6): what is said, and what is heard.

The proxy is the host's own setting; a policy with BypassProxyServer goes past it (behaviour 1.4).
"""

import asyncio
import ipaddress
import re
import socket
from typing import Final

from vmm_simulator.hyperv.proxy_address import ProxyAddress

ANSWER_BYTES_MAX: Final = 16_384
_READ_BYTES: Final = 4_096
_END: Final = b"\r\n\r\n"
_OK: Final = range(200, 300)
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?(?:\r\n|\Z)")
"""Proxies of every age: their headers are of no interest, and some say HTTP/1.0."""


class ProxyRefusedError(ConnectionError):
    """The proxy does not lead to the peer."""


def connect_request(fqdn: str, port: int) -> bytes:
    """Return what asks a proxy for a way to a host."""
    authority = f"{fqdn}:{port}"
    return f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode("ascii")


def require_way(answer: bytes, fqdn: str) -> None:
    """Raise ProxyRefusedError unless the proxy's whole answer says that the way is open."""
    head, end, rest = answer.partition(_END)
    found = _STATUS_LINE.match(head)
    if not end or found is None:
        raise ProxyRefusedError("the proxy's answer is not understood")
    if int(found[1]) not in _OK:
        raise ProxyRefusedError(
            f"the proxy refuses a way to {fqdn} with {int(found[1])}: allow it there, or replicate "
            "with BypassProxyServer"
        )
    if rest:
        # TLS begins with our own word: whatever else is here did not come from the peer.
        raise ProxyRefusedError("the proxy says more than that the way is open")


async def open_connection(address: str, port: int) -> socket.socket:
    """Return a socket that is connected to an IP address; bound it yourself."""
    version = ipaddress.ip_address(address).version
    family = socket.AF_INET6 if version == 6 else socket.AF_INET  # noqa: PLR2004 -- IPv6
    way = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        way.setblocking(False)  # noqa: FBT003 -- the socket module's signature
        way.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(way, (address, port))
    except BaseException:
        way.close()
        raise
    return way


async def open_way(proxy: ProxyAddress, fqdn: str, port: int) -> socket.socket:
    """Return a socket that leads through the proxy to the peer; bound it yourself."""
    try:
        way = await open_connection(proxy.address, proxy.port)
    except OSError as error:
        raise ProxyRefusedError(
            f"the host's proxy {proxy.address}:{proxy.port} is not reached ({error}): correct the "
            "host's setting, or replicate with BypassProxyServer"
        ) from error
    try:
        await asyncio.get_running_loop().sock_sendall(way, connect_request(fqdn, port))
        require_way(await _answer(way), fqdn)
    except BaseException:
        way.close()
        raise
    return way


async def _answer(way: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    answer = b""
    while _END not in answer:
        if len(answer) > ANSWER_BYTES_MAX:
            raise ProxyRefusedError("the proxy's answer is too long")
        piece = await loop.sock_recv(way, _READ_BYTES)
        if not piece:
            raise ProxyRefusedError("the proxy closed the connection")
        answer += piece
    return answer
