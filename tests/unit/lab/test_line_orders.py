import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.line_orders import (
    Carried,
    LineDoes,
    LineError,
    LineOrder,
    changed,
    read_cuts,
    read_order,
    read_way,
)

SITES = frozenset({"tokyo", "osaka"})
BOTH = frozenset(Carried)


def order(site: str, does: LineDoes, *carries: Carried) -> LineOrder:
    return LineOrder(site=site, does=does, carries=frozenset(carries) or BOTH)


def test_what_is_cut_adds_up_and_heals_part_by_part() -> None:
    cuts = changed({}, order("tokyo", LineDoes.CUT), SITES)
    assert cuts == {"tokyo": BOTH}
    cuts = changed(cuts, order("all", LineDoes.CUT, Carried.MQTT), SITES)
    assert cuts == {"tokyo": BOTH, "osaka": {Carried.MQTT}}
    cuts = changed(cuts, order("all", LineDoes.HEAL, Carried.MQTT), SITES)
    assert cuts == {"tokyo": {Carried.HTTPS}}
    assert changed(cuts, order("tokyo", LineDoes.HEAL), SITES) == {}


def test_a_site_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(LineError, match="no site kyoto; there is osaka, tokyo"):
        changed({}, order("kyoto", LineDoes.CUT), SITES)


def test_a_way_is_asked_for_with_connect_alone() -> None:
    way = read_way(b"CONNECT 127.0.0.1:8443 HTTP/1.1\r\nHost: 127.0.0.1:8443\r\n\r\n")
    assert (way.host, way.port) == ("127.0.0.1", 8443)
    for head in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"CONNECT hub HTTP/1.1\r\n\r\n",
        b"CONNECT hub:123456 HTTP/1.1\r\n\r\n",
        b"CONNECT hub:1 HTTP/1.1\r\nHost: \x00\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
    ):
        with pytest.raises(LineError, match="only CONNECT"):
            read_way(head)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b'{"site": "tokyo", "does": "burn"}',
        b'{"site": "tokyo", "does": "cut", "carries": ["smoke"]}',
        b'{"site": "tokyo", "does": "cut", "more": 1}',
        b'{"site": "", "does": "cut"}',
    ],
)
def test_an_order_that_is_none_is_refused(line: bytes) -> None:
    with pytest.raises(LineError):
        read_order(line)


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_whatever_bytes_come_are_read_or_refused(content: bytes) -> None:
    for read in (read_order, read_cuts, read_way):
        with contextlib.suppress(LineError):
            read(content)
