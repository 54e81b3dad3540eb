from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmm_simulator.hyperv.http1 import (
    HttpError,
    chunk_size,
    content_length,
    parse_request,
    parse_response,
    request_head,
    response,
)
from vmm_simulator.hyperv.replica_routes import (
    DigestRange,
    announced_transfer,
    is_digests,
    is_transfer,
    peer_name,
    require_replica_path,
)

REQUEST = b"PUT /replica/v1/relationships/r/transfers/t HTTP/1.1\r\nHost: a\r\nX-Y:  z \r\n\r\n"


def test_a_request_is_parsed() -> None:
    head = parse_request(REQUEST)
    assert (head.method, head.path) == ("PUT", "/replica/v1/relationships/r/transfers/t")
    assert head.headers == {"host": "a", "x-y": "z"}


def test_what_is_composed_is_parsed() -> None:
    composed = request_head("GET", "/a?b=c", {"Host": "x", "Content-Length": "0"})
    assert parse_request(composed).path == "/a?b=c"
    answer = response(HTTPStatus.CONFLICT, b"{}", "application/json")
    head = parse_response(answer.removesuffix(b"{}"))
    assert (head.status, content_length(head.headers)) == (409, 2)


@pytest.mark.parametrize(
    "damaged",
    [
        b"PUT / HTTP/1.0\r\n\r\n",
        b"PUT  / HTTP/1.1\r\n\r\n",
        b"PUT http://a/ HTTP/1.1\r\n\r\n",
        b"PUT / HTTP/1.1\nHost: a\n\n",
        b"PUT / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: \xff\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: a\x00\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: a\r\n",
        b"PUT / HTTP/1.1\r\n" + b"".join(b"h%d: x\r\n" % n for n in range(40)) + b"\r\n",
        b"\r\n\r\n",
    ],
)
def test_a_damaged_request_is_refused(damaged: bytes) -> None:
    with pytest.raises(HttpError):
        parse_request(damaged)


@given(st.binary(max_size=300))
def test_garbage_is_refused_and_nothing_else_happens(data: bytes) -> None:
    with pytest.raises(HttpError):
        parse_request(data + b"\r\n\r\n")
    with pytest.raises(HttpError):
        parse_response(data + b"\r\n\r\n")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [({}, 0), ({"content-length": "7"}, 7), ({"transfer-encoding": "Chunked"}, None)],
)
def test_the_length_of_a_body(headers: dict[str, str], expected: int | None) -> None:
    assert content_length(headers) == expected


@pytest.mark.parametrize(
    "headers",
    [
        {"content-length": "-1"},
        {"content-length": "+1"},
        {"content-length": "1_0"},
        {"content-length": "9" * 20},
        {"transfer-encoding": "gzip, chunked"},
        {"transfer-encoding": "chunked", "content-length": "7"},
    ],
)
def test_an_ambiguous_length_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(HttpError):
        content_length(headers)


def test_chunk_sizes() -> None:
    assert chunk_size(b"1aF") == 0x1AF
    for damaged in (b"", b"-1", b"0x1", b"1;x=y", b" 1", b"1" * 17):
        with pytest.raises(HttpError):
            chunk_size(damaged)


def test_paths_are_recognised() -> None:
    assert is_transfer("/replica/v1/relationships/r/transfers/t")
    assert not is_transfer("/replica/v1/relationships/r/transfers/../x")
    assert is_digests("/replica/v1/relationships/r/digests?disk=0")
    require_replica_path("/replica/v1/relationships/r/verify")
    for foreign in ("/", "/replica/v1/relationships/r/a/b/c", "/vmm/v1/inventory", "/%2e%2e"):
        with pytest.raises(HttpError, match="no such path"):
            require_replica_path(foreign)


def test_a_range_of_digests_is_parsed() -> None:
    good = "/replica/v1/relationships/r/digests?disk=1&first=2&count=3&block_bytes=65536"
    assert DigestRange.parse(good) == DigestRange(1, 2, 3)
    for damaged in (
        good.replace("65536", "4096"),
        good.replace("disk=1&", ""),
        good + "&disk=2",
        good.replace("=2", "=-2"),
        good.split("?", maxsplit=1)[0],
    ):
        with pytest.raises(HttpError):
            DigestRange.parse(damaged)


def test_a_transfer_without_or_with_a_damaged_header_is_refused() -> None:
    with pytest.raises(HttpError, match="missing"):
        announced_transfer(parse_request(REQUEST))
    damaged = REQUEST.replace(b"X-Y:", b"replica-transfer:")
    with pytest.raises(HttpError, match="transfer header"):
        announced_transfer(parse_request(damaged))


def test_the_peer_is_named_by_its_certificate() -> None:
    subject = ((("commonName", "Host2.Example"),),)
    assert peer_name({"subject": subject}) == "host2.example"
    alternatives = (("IP Address", "10.0.0.1"), ("DNS", "Host1.Example"))
    assert peer_name({"subject": subject, "subjectAltName": alternatives}) == "host1.example"
    for nameless in (None, {}, {"subjectAltName": (("DNS", ""),)}):
        with pytest.raises(HttpError, match="names no host"):
            peer_name(nameless)
