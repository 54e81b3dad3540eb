"""The little of HTTP/1.1 that hosts speak to each other, parsed strictly (RFC 9112); no I/O.

One request per connection, bodies with a length or in chunks. Whatever is unusual is refused:
these peers are our own programs, and anything else is an attack or a mistake.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

HEAD_BYTES_MAX: Final = 16_384
HEADER_COUNT_MAX: Final = 32
CONTENT_BYTES_MAX: Final = 1_048_576
CHUNK_LINE_BYTES_MAX: Final = 18
NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 -- RFC 9110's word for a name
_REQUEST_LINE: Final = re.compile(rf"({_TOKEN}) (/[!-~]*) HTTP/1\.1")
_STATUS_LINE: Final = re.compile(r"HTTP/1\.1 ([1-5][0-9]{2}) [ -~]*")
_HEADER_LINE: Final = re.compile(rf"({_TOKEN}):[ \t]*([ -~]*?)[ \t]*")
_LENGTH: Final = re.compile(r"[0-9]{1,15}")
_CHUNK_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,16}")


class HttpError(Exception):
    """The peer does not speak the HTTP that is expected; `status` is the answer to give."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request without its body; header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """A response without its body; header names are lower case."""

    status: int
    headers: Mapping[str, str]


def parse_request(head: bytes) -> RequestHead:
    """Return the request whose head (with its last empty line) this is, or raise HttpError."""
    first, headers = _parse(head)
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise HttpError(HTTPStatus.BAD_REQUEST, "the request line is not HTTP/1.1")
    return RequestHead(match[1], match[2], headers)


def parse_response(head: bytes) -> ResponseHead:
    """Return the response whose head (with its last empty line) this is, or raise HttpError."""
    first, headers = _parse(head)
    match = _STATUS_LINE.fullmatch(first)
    if match is None:
        raise HttpError(HTTPStatus.BAD_GATEWAY, "the status line is not HTTP/1.1")
    return ResponseHead(int(match[1]), headers)


def _parse(head: bytes) -> tuple[str, dict[str, str]]:
    try:
        text = head.decode("ascii")
    except UnicodeDecodeError:
        raise HttpError(HTTPStatus.BAD_REQUEST, "the head is not ASCII") from None
    if not text.endswith("\r\n\r\n"):
        raise HttpError(HTTPStatus.BAD_REQUEST, "the head has no end")
    first, *lines = text[:-4].split("\r\n")
    if len(lines) > HEADER_COUNT_MAX:
        raise HttpError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too many headers")
    headers: dict[str, str] = {}
    for line in lines:
        match = _HEADER_LINE.fullmatch(line)
        if match is None:
            raise HttpError(HTTPStatus.BAD_REQUEST, "a header line is malformed")
        name = match[1].lower()
        if name in headers:
            raise HttpError(HTTPStatus.BAD_REQUEST, f"the header {name} comes twice")
        headers[name] = match[2]
    return first, headers


def content_length(headers: Mapping[str, str]) -> int | None:
    """Return the body's length, None for chunks; without either header there is no body (0)."""
    coding = headers.get("transfer-encoding")
    length = headers.get("content-length")
    if coding is not None:
        if coding.lower() != "chunked" or length is not None:
            # Both together is how requests are smuggled (RFC 9112, section 6.1).
            raise HttpError(HTTPStatus.BAD_REQUEST, "the body's framing is ambiguous")
        return None
    if length is None:
        return 0
    if _LENGTH.fullmatch(length) is None:
        raise HttpError(HTTPStatus.BAD_REQUEST, "the content length is no number")
    return int(length)


def chunk_size(line: bytes) -> int:
    """Return the size that a chunk's first line (without its end) names; no extensions."""
    if _CHUNK_SIZE.fullmatch(line) is None:
        raise HttpError(HTTPStatus.BAD_REQUEST, "a chunk's size is malformed")
    return int(line, 16)


def chunk_start(length: int) -> bytes:
    """Return the line that begins a chunk."""
    return b"%x\r\n" % length


def request_head(method: str, path: str, headers: Mapping[str, str]) -> bytes:
    """Return the head of a request."""
    return _head(f"{method} {path} HTTP/1.1", headers)


def invitation(more: Mapping[str, str]) -> bytes:
    """Return what has a client that expects it send the body of its request."""
    return _head("HTTP/1.1 100 Continue", more)


def response(
    status: HTTPStatus, body: bytes, content_type: str, more: Mapping[str, str] = NO_HEADERS
) -> bytes:
    """Return a whole response, with more headers, after which the connection ends."""
    headers = {
        **more,
        "Content-Type": content_type,
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    return _head(f"HTTP/1.1 {status.value} {status.phrase}", headers) + body


def _head(first: str, headers: Mapping[str, str]) -> bytes:
    lines = (first, *(f"{name}: {value}" for name, value in headers.items()), "", "")
    return "\r\n".join(lines).encode("ascii")
