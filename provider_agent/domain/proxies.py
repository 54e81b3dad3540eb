"""Which proxy a connection takes, and what CONNECT asks and answers (design: channel, proxy)."""

import base64
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

DEFAULT_PROXY_PORT: Final = 3128
PORT_MAX: Final = 65_535
ANSWER_HEAD_BYTES_MAX: Final = 16_384
ADDRESS_CHARACTERS_MAX: Final = 253
CREDENTIAL_CHARACTERS_MAX: Final = 256
REFUSED_CREDENTIALS: Final = frozenset({401, 407})
"""squid answers 407, tinyproxy 401; both mean "the proxy refused your credentials"."""

_NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: ([^\r\n]*))?\r?\n")
_REASON_CHARACTERS_MAX: Final = 120


class ProxyError(ValueError):
    """A proxy, or a list of exceptions from it, that cannot be meant; the message says why."""


@dataclass(frozen=True, slots=True)
class ProxyCredentials:
    """User and password; the password never shows in a representation."""

    username: str
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        if not self.username or ":" in self.username:
            raise ProxyError("the proxy's user name must not be empty or hold a colon (RFC 7617)")
        for word, text in (("user name", self.username), ("password", self.password)):
            if len(text) > CREDENTIAL_CHARACTERS_MAX or any(ord(each) < ord(" ") for each in text):
                raise ProxyError(
                    f"the proxy's {word} must be one line of at most"
                    f" {CREDENTIAL_CHARACTERS_MAX} characters"
                )

    def header(self) -> str:
        """Return the value of Proxy-Authorization: Basic (RFC 7617), UTF-8."""
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that is asked with CONNECT."""

    address: str
    port: int
    credentials: ProxyCredentials | None = None

    def __str__(self) -> str:
        return f"{_bracketed(self.address)}:{self.port}"

    def headers(self) -> dict[str, str]:
        """Return what CONNECT carries to prove who asks."""
        if self.credentials is None:
            return {}
        return {"Proxy-Authorization": self.credentials.header()}


@dataclass(frozen=True, slots=True)
class BypassEntry:
    """Addresses that are reached directly: one of host, suffix or network; `port` narrows it."""

    host: str | None = None
    suffix: str | None = None
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None
    port: int | None = None

    def covers(self, host: str, port: int) -> bool:
        """Return whether this entry takes the address past the proxy."""
        if self.port is not None and self.port != port:
            return False
        if self.host is not None:
            return host == self.host
        if self.suffix is not None:
            return host.endswith(self.suffix)
        if self.network is None:
            return True
        # Names are not looked up: the answer of a name server must not decide on the way.
        address = _address(host)
        return address is not None and address in self.network


@dataclass(frozen=True, slots=True)
class ProxyRules:
    """One proxy, or none, and what is reached without it; for HTTPS and MQTT alike."""

    proxy: Proxy | None = None
    bypass: tuple[BypassEntry, ...] = ()

    def proxy_for(self, host: str, port: int) -> Proxy | None:
        """Return the proxy on the way to this address, None for a direct connection."""
        name = _normal(host)
        if self.proxy is None or any(entry.covers(name, port) for entry in self.bypass):
            return None
        return self.proxy


class ProxyChoice(Protocol):
    """Whoever says which proxy a connection takes."""

    def proxy_for(self, host: str, port: int) -> Proxy | None:
        """Return the proxy on the way to this address, None for a direct connection."""


DIRECT: Final = ProxyRules()


def parse_bypass(entries: Sequence[str]) -> tuple[BypassEntry, ...]:
    """Return the entries `host`, `.suffix`, CIDR, `host:port`, `*`; ProxyError names a wrong one.

    `host` is that host alone; `.suffix` is every name below it.
    """
    return tuple(_parse_entry(entry.strip()) for entry in entries if entry.strip())


def parse_proxy_url(url: str) -> Proxy:
    """Return the proxy that HTTPS_PROXY names: http://[user:password@]address[:port]."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
    except ValueError as error:
        raise ProxyError(f"the proxy's URL cannot be read: {error}") from error
    if parts.scheme != "http":
        raise ProxyError(f"a proxy is spoken to over http://, not {parts.scheme}://")
    try:
        port = parts.port
    except ValueError as error:
        raise ProxyError("the port of the proxy's URL is no number up to 65535") from error
    if not parts.hostname:
        raise ProxyError("the proxy's URL names no address")
    credentials = None
    if parts.username is not None:
        credentials = ProxyCredentials(unquote(parts.username), unquote(parts.password or ""))
    return Proxy(check_address(parts.hostname), port or DEFAULT_PROXY_PORT, credentials)


def check_address(address: str) -> str:
    """Return a host name or IP address as it is compared; ProxyError when it is neither."""
    name = _normal(address)
    if _address(name) is None and (
        len(name) > ADDRESS_CHARACTERS_MAX or _NAME.fullmatch(name) is None
    ):
        raise ProxyError(f"{address[:60]!r} is no host name or IP address")
    return name


def connect_request(host: str, port: int, proxy: Proxy) -> bytes:
    """Return the bytes that ask the proxy for a tunnel (RFC 9110, 9.3.6)."""
    target = f"{_bracketed(check_address(host))}:{port}"
    headers = {"Host": target, **proxy.headers()}
    lines = [f"CONNECT {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


@dataclass(frozen=True, slots=True)
class ConnectAnswer:
    """What the proxy said to CONNECT; only 2xx is a tunnel."""

    status: int
    reason: str

    @property
    def granted(self) -> bool:
        """Whether the bytes that follow are the hub's."""
        return self.status // 100 == 2  # noqa: PLR2004 -- the class of success (RFC 9110, 15.3)

    @property
    def credentials_refused(self) -> bool:
        """Whether the proxy does not know, or does not believe, who asks."""
        return self.status in REFUSED_CREDENTIALS


def read_connect_answer(head: bytes) -> ConnectAnswer:
    """Return the answer in a complete head; ProxyError for bytes that are no HTTP answer."""
    found = _STATUS_LINE.match(head)
    if found is None:
        raise ProxyError("it does not answer as an HTTP proxy does")
    reason = (found[2] or b"").decode("ascii", errors="replace")
    readable = "".join(each if each.isprintable() else "?" for each in reason)
    return ConnectAnswer(int(found[1]), readable[:_REASON_CHARACTERS_MAX])


def refusal_words(proxy: Proxy, status: int, target: str) -> str:
    """Return cause and remedy of a CONNECT that the proxy refused, in one sentence."""
    if status in REFUSED_CREDENTIALS:
        if proxy.credentials is None:
            return (
                f"the proxy {proxy} wants a user and a password ({status});"
                " give proxy username and password file"
            )
        return (
            f"the proxy {proxy} refused your credentials ({status});"
            f" check the password of {proxy.credentials.username}"
        )
    return (
        f"the proxy {proxy} does not connect to {target} ({status});"
        " have it allow CONNECT to this address and port"
    )


def _parse_entry(entry: str) -> BypassEntry:
    if entry == "*":
        return BypassEntry()
    if "/" in entry:
        try:
            return BypassEntry(network=ipaddress.ip_network(entry, strict=False))
        except ValueError as error:
            raise ProxyError(f"the bypass entry {entry[:60]!r} is no network: {error}") from error
    host, port = _split_port(entry)
    try:
        if host.startswith("."):
            return BypassEntry(suffix=f".{check_address(host[1:])}", port=port)
        return BypassEntry(host=check_address(host), port=port)
    except ProxyError as error:
        raise ProxyError(
            f"the bypass entry {entry[:60]!r} is none of host, .suffix, network/bits, host:port, *"
        ) from error


def _split_port(entry: str) -> tuple[str, int | None]:
    if _address(entry) is not None:  # an IPv6 address is full of colons
        return entry, None
    host, colon, port = entry.rpartition(":")
    if not colon or entry.endswith("]"):
        return entry, None
    if not _PORT.fullmatch(port) or not 0 < int(port) <= PORT_MAX:
        raise ProxyError(f"the bypass entry {entry[:60]!r} has no port from 1 to {PORT_MAX}")
    return host, int(port)


def _normal(host: str) -> str:
    name = host.strip().removeprefix("[").removesuffix("]").lower().removesuffix(".")
    address = _address(name)
    return name if address is None else str(address)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
