"""What a request on the replication port means, and who sends it (pure)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

from vmm_simulator.hyperv.backend import TransferHeader
from vmm_simulator.hyperv.blocks import BLOCK_BYTES
from vmm_simulator.hyperv.http1 import HttpError, RequestHead
from vmm_simulator.hyperv.transfer_header import HEADER_NAME, decode_header
from wire_contract.paths import (
    REPLICA_DIGESTS,
    REPLICA_OPERATION,
    REPLICA_RELATIONSHIP,
    REPLICA_TRANSFER,
)

_PARAMETER: Final = re.compile(r"\\\{(\w+)\\\}")
_NUMBER: Final = re.compile(r"[0-9]{1,12}")
_NAME_CHARACTERS_MAX: Final = 253


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(_PARAMETER.sub(r"(?P<\1>[A-Za-z0-9._-]{1,128})", re.escape(path)))


_TRANSFER: Final = _pattern(REPLICA_TRANSFER)
_DIGESTS: Final = _pattern(REPLICA_DIGESTS)
_ALL: Final = (
    _TRANSFER,
    _DIGESTS,
    _pattern(REPLICA_OPERATION),
    _pattern(REPLICA_RELATIONSHIP),
)


def require_replica_path(target: str) -> None:
    """Raise HttpError unless the request is for one of the host-to-host paths."""
    path = urlsplit(target).path
    if not any(pattern.fullmatch(path) for pattern in _ALL):
        raise HttpError(HTTPStatus.NOT_FOUND, "there is no such path on this port")


def is_transfer(target: str) -> bool:
    """Return whether the request carries a change set."""
    return _TRANSFER.fullmatch(urlsplit(target).path) is not None


def is_digests(target: str) -> bool:
    """Return whether the request asks for digests."""
    return _DIGESTS.fullmatch(urlsplit(target).path) is not None


def announced_transfer(head: RequestHead) -> TransferHeader:
    """Return the transfer header of a request, which must agree with its path; or HttpError."""
    text = head.headers.get(HEADER_NAME)
    if text is None:
        raise HttpError(HTTPStatus.BAD_REQUEST, f"the header {HEADER_NAME} is missing")
    try:
        header = decode_header(text)
    except ValueError as error:
        raise HttpError(HTTPStatus.BAD_REQUEST, str(error)) from error
    path = urlsplit(head.path).path
    match = _TRANSFER.fullmatch(path) or _DIGESTS.fullmatch(path)
    named = match.groupdict() if match else {}
    if any(getattr(header, name) != value for name, value in named.items()):
        raise HttpError(HTTPStatus.BAD_REQUEST, "the transfer header does not agree with the path")
    return header


@dataclass(frozen=True, slots=True)
class DigestRange:
    """Blocks of one disk."""

    disk: int
    first: int
    count: int

    @classmethod
    def parse(cls, target: str) -> Self:
        """Return the range that a request asks for; HttpError when it is malformed."""
        try:
            query = parse_qs(urlsplit(target).query, strict_parsing=True, max_num_fields=4)
        except ValueError as error:
            raise HttpError(HTTPStatus.BAD_REQUEST, f"the query is malformed: {error}") from error
        numbers: dict[str, int] = {}
        for name in ("disk", "first", "count", "block_bytes"):
            values = query.get(name, [])
            if len(values) != 1 or _NUMBER.fullmatch(values[0]) is None:
                raise HttpError(HTTPStatus.BAD_REQUEST, f"the query must name one {name}")
            numbers[name] = int(values[0])
        if numbers["block_bytes"] != BLOCK_BYTES:
            raise HttpError(HTTPStatus.BAD_REQUEST, f"digests are of blocks of {BLOCK_BYTES} bytes")
        return cls(numbers["disk"], numbers["first"], numbers["count"])


def peer_name(certificate: Mapping[str, Any] | None) -> str:
    """Return the FQDN that a verified certificate names: its first DNS name, else its CN."""
    certificate = certificate or {}
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    if not names:
        names = [
            value
            for attributes in certificate.get("subject", ())
            for name, value in attributes
            if name == "commonName"
        ]
    if not names or not 0 < len(names[0]) <= _NAME_CHARACTERS_MAX:
        raise HttpError(HTTPStatus.FORBIDDEN, "the peer's certificate names no host")
    return str(names[0]).lower()
