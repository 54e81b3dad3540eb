"""Kerberos as hosts use it, without the library: names and tokens in headers; pure."""

import base64
import binascii
import re
from typing import Final

TOKEN_BYTES_MAX: Final = 12_000
SERVICE: Final = "host"
_SCHEME: Final = re.compile(r"Negotiate ([A-Za-z0-9+/]+={0,2})", re.IGNORECASE)
_PRINCIPAL: Final = re.compile(r"([^/@\\]{1,64})/([^/@\\]{1,253})@([^/@\\]{1,253})")
REALM_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$"


def principal_of(fqdn: str, realm: str) -> str:
    """Return the principal of a host."""
    return f"{SERVICE}/{fqdn.lower()}@{realm}"


def host_of(principal: str, realm: str) -> str | None:
    """Return the host that a principal stands for; None: no host of this realm."""
    match = _PRINCIPAL.fullmatch(principal)
    if match is None or match[1] != SERVICE or match[3] != realm:
        return None
    return match[2].lower()


def header_value(token: bytes) -> str:
    """Return the value of a header that carries a token (RFC 4559)."""
    return f"Negotiate {base64.b64encode(token).decode('ascii')}"


def token_of(value: str | None) -> bytes | None:
    """Return the token of a header, or None when it carries none that could be one."""
    match = _SCHEME.fullmatch(value or "")
    if match is None or len(match[1]) > TOKEN_BYTES_MAX * 4 // 3 + 4:
        return None
    try:
        return base64.b64decode(match[1], validate=True)
    except binascii.Error:
        return None
