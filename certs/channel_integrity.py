"""The ChannelIntegrityKey: shared by a vault's operators and servers, never known to the hub.

Source: arm-api, section 4 (HMAC-SHA256, keyed with the UTF-8 bytes of the key's text).
"""

import base64
import hashlib
import hmac
import secrets
from typing import Final

KEY_BYTES: Final = 32
KEY_CHARACTERS_MIN: Final = 32
KEY_CHARACTERS_MAX: Final = 1024
_FINGERPRINT_CHARACTERS: Final = 16


class KeyUnfitError(ValueError):
    """The text cannot be a ChannelIntegrityKey; the message says why, never what it was."""


def new_key() -> str:
    """Return a fresh random key: 32 bytes in base64."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def checked_key(text: str) -> str:
    """Return the key without white space around it; KeyUnfitError."""
    key = text.strip()
    if not KEY_CHARACTERS_MIN <= len(key) <= KEY_CHARACTERS_MAX:
        raise KeyUnfitError(
            f"a channel integrity key has {KEY_CHARACTERS_MIN} to {KEY_CHARACTERS_MAX} characters"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise KeyUnfitError("a channel integrity key is printable ASCII on one line")
    return key


def seal(key: str, text: bytes) -> bytes:
    """Return the HMAC-SHA256 of a text."""
    return hmac.new(key.encode(), text, hashlib.sha256).digest()


def holds(key: str, text: bytes, mac: bytes) -> bool:
    """Return whether a text was sealed with this key, in constant time."""
    return hmac.compare_digest(seal(key, text), mac)


def fingerprint(key: str) -> str:
    """Return what tells two keys apart and gives neither away."""
    return hashlib.sha256(b"fingerprint:" + key.encode()).hexdigest()[:_FINGERPRINT_CHARACTERS]
