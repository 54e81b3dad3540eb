"""What must never reach a log, found by the name of its key or by its form."""

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, Final

REDACTED: Final = "[redacted]"
DEPTH_MAX: Final = 8
"""Deepest nesting that a log entry shows; below it nothing could be checked."""

_SECRET_KEY: Final = re.compile(
    r"token|pass(word|wd|phrase)|secret|authori[sz]ation|credential|cookie|pfx"
    r"|(private|signing|integrity|api)_?key|^(key_)?pem$|jwe",
    re.IGNORECASE,
)
_FACT_ABOUT_A_SECRET: Final = re.compile(
    r"_(id|at|file|path|seconds|count|bytes|kind|name|thumbprint)$", re.IGNORECASE
)
_SECRET_TEXT: Final = re.compile(
    r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,20}PRIVATE KEY-----|\Z)"
    r"|\b(?:Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){2,4}",  # JWT, JWS and JWE in compact form
    re.DOTALL | re.IGNORECASE,
)


_SHORTEST_SECRET: Final = len("eyJ12345678.")
"""Nothing shorter has one of those forms."""

_SECRET_BEGINNINGS: Final = ("eyj", "bearer", "basic", "-----begin")
"""Every one of those forms begins with one of these, in some case."""

_KEYS_REMEMBERED: Final = 4096


@lru_cache(_KEYS_REMEMBERED)
def is_secret_key(key: str) -> bool:
    """Tell whether the value under this key is a secret; `token_id` is a fact about one."""
    return bool(_SECRET_KEY.search(key)) and not _FACT_ABOUT_A_SECRET.search(key)


def may_hold_secret(text: str) -> bool:
    """Tell whether an ASCII text can have anything that `redact_text` takes out; cheap."""
    folded = text.lower()
    return any(beginning in folded for beginning in _SECRET_BEGINNINGS)


def redact_text(text: str) -> str:
    """Return the text without private keys, tokens and authorization values."""
    return text if len(text) < _SHORTEST_SECRET else _SECRET_TEXT.sub(REDACTED, text)


def redact(value: Any, depth: int = 0) -> Any:
    """Return a copy that may be logged; the argument stays as it is."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return REDACTED if depth >= DEPTH_MAX else _redact_inside(value, depth)
    return redact_text(str(value))


def _redact_inside(value: Mapping[Any, Any] | Collection[Any], depth: int) -> Any:
    if isinstance(value, Mapping):
        return {
            str(key): REDACTED if is_secret_key(str(key)) else redact(each, depth + 1)
            for key, each in value.items()
        }
    return [redact(each, depth + 1) for each in value]
