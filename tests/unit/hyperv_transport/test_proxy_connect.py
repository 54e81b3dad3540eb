"""What a host says to a proxy, and what it takes as an answer."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmm_simulator.hyperv.proxy_connect import ProxyRefusedError, connect_request, require_way

OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"


def test_the_peer_is_asked_for_by_name_and_port() -> None:
    assert connect_request("host1.osaka.example", 8084) == (
        b"CONNECT host1.osaka.example:8084 HTTP/1.1\r\nHost: host1.osaka.example:8084\r\n\r\n"
    )


def test_any_success_opens_the_way() -> None:
    require_way(OPEN, "h")
    require_way(b"HTTP/1.0 200 Connection established\r\nA: 1\r\nA: 2\r\n\r\n", "h")
    require_way(b"HTTP/1.1 204 x\r\nVia: proxy\r\n\r\n", "h")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "with 403: allow it there, or replicate"),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "with 407"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>", "with 502"),
        (OPEN + b"x", "says more"),
        (b"HTTP/1.1 200 OK\r\n", "not understood"),
        (b"220 smtp.example\r\n\r\n", "not understood"),
        (b"", "not understood"),
    ],
)
def test_everything_else_is_no_way(answer: bytes, why: str) -> None:
    with pytest.raises(ProxyRefusedError, match=why):
        require_way(answer, "h")


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_raise_anything_else(answer: bytes, ended: bool) -> None:
    with contextlib.suppress(ProxyRefusedError):
        require_way(answer + (b"\r\n\r\n" if ended else b""), "h")
