"""What a request on the replication port means, and who sends it (pure)."""

import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

from vmm_simulator.hyperv.backend import TransferHeader
from vmm_simulator.hyperv.blocks import BLOCK_BYTES
from vmm_simulator.hyperv.digests import RUNS_MAX
from vmm_simulator.hyperv.http1 import HttpError, RequestHead
from vmm_simulator.hyperv.transfer_header import HEADER_NAME, decode_header
from wire_contract.paths import (
    REPLICA_DIGESTS,
    REPLICA_OPERATION,
    REPLICA_RELATIONSHIP,
    REPLICA_TRANSFER,
)

_PARAMETER: Final = re.compile(r"\\\{(\w+)\\\}")
_RUN: Final = struct.Struct("<QQ")
_NUMBER: Final = re.compile(r"[0-9]{1,12}")
_NAME_CHARACTERS_MAX: Final = 253


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(_PARAMETER.sub(r"(?P<\1>[A-Za-z0-9._-]{1,128})", re.escape(path)))


ALLOCATED: Final = REPLICA_OPERATION.replace("{operation}", "allocated")
"""Which blocks of a replica's disk are no holes: only these, and the sender's, are compared."""

_TRANSFER: Final = _pattern(REPLICA_TRANSFER)
_DIGESTS: Final = _pattern(REPLICA_DIGESTS)
_ALLOCATED: Final = _pattern(ALLOCATED)
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


def is_allocated(target: str) -> bool:
    """Return whether the request asks what is allocated."""
    return _ALLOCATED.fullmatch(urlsplit(target).path) is not None


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
    match = _TRANSFER.fullmatch(path) or _DIGESTS.fullmatch(path) or _ALLOCATED.fullmatch(path)
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
        disk, first, count = _numbers(target, "disk", "first", "count")
        return cls(disk, first, count)


def allocated_from(target: str) -> tuple[int, int]:
    """Return the disk and the first block that a request asks about; HttpError when malformed."""
    disk, first = _numbers(target, "disk", "first")
    return disk, first


def _numbers(target: str, *names: str) -> Iterator[int]:
    try:
        query = parse_qs(urlsplit(target).query, strict_parsing=True, max_num_fields=4)
    except ValueError as error:
        raise HttpError(HTTPStatus.BAD_REQUEST, f"the query is malformed: {error}") from error
    for name in ("block_bytes", *names):
        values = query.get(name, [])
        if len(values) != 1 or _NUMBER.fullmatch(values[0]) is None:
            raise HttpError(HTTPStatus.BAD_REQUEST, f"the query must name one {name}")
        number = int(values[0])
        if name != "block_bytes":
            yield number
        elif number != BLOCK_BYTES:
            raise HttpError(HTTPStatus.BAD_REQUEST, f"blocks are of {BLOCK_BYTES} bytes here")


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


def encode_runs(runs: Iterable[tuple[int, int]]) -> bytes:
    """Return (block, count) pairs as they cross the network."""
    return b"".join(_RUN.pack(*run) for run in runs)


def decode_runs(data: bytes, first: int, blocks: int) -> list[tuple[int, int]]:
    """Return what `encode_runs` was given; ValueError unless in order and within the disk."""
    if len(data) % _RUN.size or len(data) > RUNS_MAX * _RUN.size:
        raise ValueError("the list of allocated blocks has a wrong length")
    runs = list(_RUN.iter_unpack(data))
    for start, count in runs:
        if start < first or not count or start + count > blocks:
            raise ValueError(f"the run of {count} blocks at {start} is not on the disk or not due")
        first = start + count
    return runs
