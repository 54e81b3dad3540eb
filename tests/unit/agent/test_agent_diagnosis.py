"""From facts to cause and remedy."""

import pytest

from provider_agent.domain.diagnosis import (
    Fault,
    Way,
    certificate_fault,
    clock_fault,
    connect_fault,
    credentials_fault,
    diagnose,
    mqtt_fault,
    server_certificate_fault,
    token_fault,
)
from provider_agent.domain.proxies import ConnectAnswer, Proxy, ProxyCredentials

PROXY = Proxy("proxy.example", 3128, ProxyCredentials("tokyo", "s3cret-word"))
DIRECT = Way("hub.example:9443", "hub.example:9443", None)
PROXIED = Way("hub.example:9443", "proxy.example:3128", PROXY)


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("way", [DIRECT, PROXIED])
def test_every_fault_has_cause_and_remedy_in_one_line(fault: Fault, way: Way) -> None:
    found = diagnose(fault, "first\nsecond {hub} " + "x" * 10_000, way)
    for text in (found.cause, found.remedy):
        assert text
        assert "\n" not in text
        assert len(text) < 800
        assert "s3cret-word" not in text
    assert found.fault is fault


@pytest.mark.parametrize(
    ("status", "connect", "credentials"),
    [
        (200, None, None),
        (204, None, None),
        (407, None, Fault.PROXY_REFUSES_CREDENTIALS),
        (401, None, Fault.PROXY_REFUSES_CREDENTIALS),
        (403, Fault.PROXY_DENIES, None),
        (502, Fault.PROXY_DENIES, None),
        (302, Fault.PROXY_DENIES, None),
    ],
)
def test_what_a_proxys_answer_means(
    status: int, connect: Fault | None, credentials: Fault | None
) -> None:
    answer = ConnectAnswer(status, "")
    assert connect_fault(answer) is connect
    assert credentials_fault(answer, PROXY) is credentials
    anonymous = Proxy("proxy.example", 3128)
    wanted = Fault.PROXY_WANTS_CREDENTIALS if credentials else None
    assert credentials_fault(answer, anonymous) is wanted


@pytest.mark.parametrize(
    ("code", "direct", "proxied"),
    [
        (62, Fault.WRONG_NAME, Fault.WRONG_NAME),
        (64, Fault.WRONG_NAME, Fault.WRONG_NAME),
        (9, Fault.SERVER_CERTIFICATE_DATES, Fault.SERVER_CERTIFICATE_DATES),
        (10, Fault.SERVER_CERTIFICATE_DATES, Fault.SERVER_CERTIFICATE_DATES),
        (20, Fault.FOREIGN_SERVER, Fault.INTERCEPTED),
        (18, Fault.FOREIGN_SERVER, Fault.INTERCEPTED),
    ],
)
def test_what_an_unverified_certificate_means(code: int, direct: Fault, proxied: Fault) -> None:
    assert server_certificate_fault(code, DIRECT) is direct
    assert server_certificate_fault(code, PROXIED) is proxied


def test_what_the_hubs_refusals_mean() -> None:
    assert certificate_fault(401) is Fault.CERTIFICATE_NOT_SEEN
    assert certificate_fault(403) is Fault.CERTIFICATE_REFUSED
    assert certificate_fault(404) is Fault.HUB_FAILS
    assert token_fault(401) is Fault.TOKEN_REFUSED
    assert token_fault(403) is Fault.NOT_REGISTERED
    assert token_fault(400) is Fault.HUB_FAILS


@pytest.mark.parametrize(
    ("seconds", "wrong"), [(0, False), (299, False), (301, True), (-301, True)]
)
def test_how_far_clocks_may_be_apart(seconds: float, wrong: bool) -> None:
    assert (clock_fault(seconds) is Fault.CLOCK_DIFFERS) is wrong


def test_what_the_end_of_an_mqtt_connect_means() -> None:
    assert mqtt_fault(None) is Fault.MQTT_UNREACHABLE
    assert mqtt_fault(0x86) is Fault.MQTT_TOKEN
    assert mqtt_fault(0x87) is Fault.MQTT_REFUSED
    assert mqtt_fault(0x85) is Fault.MQTT_REFUSED
