"""Which proxy is taken, what bypasses it, and what it may answer."""

import base64
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.domain.proxies import (
    ConnectAnswer,
    Proxy,
    ProxyCredentials,
    ProxyError,
    ProxyRules,
    connect_request,
    parse_bypass,
    parse_proxy_url,
    read_connect_answer,
)
from provider_agent.proxy import (
    REGISTERED_FILE,
    ProxySettings,
    chosen_rules,
    custom_proxy,
    load_rules,
    rules_of,
    save_registered,
)
from service_shell.errors import ProgramError
from service_shell.secret_files import write_secret

PROXY = Proxy("proxy.example", 3128)


@pytest.mark.parametrize(
    ("entry", "direct", "proxied"),
    [
        ("hub.example", ["hub.example", "HUB.example."], ["a.hub.example", "hub.example.org"]),
        (".example", ["hub.example", "a.hub.example"], ["example", "badexample"]),
        ("10.0.0.0/8", ["10.1.2.3"], ["11.0.0.1", "ten.example"]),
        ("10.1.2.3/8", ["10.9.9.9"], ["11.0.0.1"]),
        ("fd00::/8", ["fd00::1", "[fd12::1]"], ["fe80::1", "10.0.0.1"]),
        ("::1", ["::1", "0:0::1"], ["::2"]),
        ("127.0.0.1", ["127.0.0.1"], ["127.0.0.2"]),
        ("hub.example:8443", [], ["hub.example"]),
        ("hub.example:9443", ["hub.example"], ["other.example"]),
        (".example:9443", ["hub.example"], ["hub.test"]),
        ("[::1]:9443", ["::1"], ["::2"]),
        ("*", ["anything", "10.0.0.1"], []),
    ],
)
def test_what_a_bypass_entry_covers(entry: str, direct: list[str], proxied: list[str]) -> None:
    rules = ProxyRules(PROXY, parse_bypass([entry]))
    assert [host for host in direct if rules.proxy_for(host, 9443) is not None] == []
    assert [host for host in proxied if rules.proxy_for(host, 9443) is None] == []


@pytest.mark.parametrize(
    "entry", ["10.0.0.0/33", "hub example", "hub:", "hub:0", "hub:65536", "a//b", "-x-", "x" * 254]
)
def test_a_bypass_entry_that_cannot_be_meant_is_named(entry: str) -> None:
    with pytest.raises(ProxyError, match="bypass entry"):
        parse_bypass([entry])


@given(st.text(max_size=60), st.text(max_size=60), st.integers(1, 65_535))
def test_any_bypass_entry_is_an_error_or_a_rule(entry: str, host: str, port: int) -> None:
    try:
        rules = ProxyRules(PROXY, parse_bypass([entry]))
    except ProxyError:
        return
    assert rules.proxy_for(host, port) in {None, PROXY}


@given(st.binary(max_size=400))
def test_any_answer_to_connect_is_an_error_or_a_status(head: bytes) -> None:
    for answer in (head, b"HTTP/1.1 " + head):
        try:
            found = read_connect_answer(answer)
        except ProxyError:
            continue
        assert 100 <= found.status < 600
        assert found.reason.isprintable()


@pytest.mark.parametrize("status", [401, 407])
def test_both_words_for_refused_credentials(status: int) -> None:
    answer = read_connect_answer(f"HTTP/1.1 {status} No\r\n\r\n".encode())
    assert answer == ConnectAnswer(status, "No")
    assert answer.credentials_refused
    assert not answer.granted


def test_the_password_is_sent_encoded_and_never_shown() -> None:
    proxy = Proxy("proxy.example", 3128, ProxyCredentials("tokyo", "pä:ss\u00a0wörd"))
    request = connect_request("hub.example", 9443, proxy).decode("ascii")
    assert request.startswith("CONNECT hub.example:9443 HTTP/1.1\r\nHost: hub.example:9443\r\n")
    assert request.endswith("\r\n\r\n")
    encoded = request.partition("Basic ")[2].strip()
    assert base64.b64decode(encoded).decode() == "tokyo:pä:ss\u00a0wörd"
    assert "wörd" not in repr(proxy)
    assert "wörd" not in str(proxy)


def test_ipv6_targets_are_bracketed() -> None:
    assert connect_request("::1", 443, PROXY).startswith(b"CONNECT [::1]:443 HTTP/1.1\r\n")
    assert str(Proxy("::1", 3128)) == "[::1]:3128"


@pytest.mark.parametrize("host", ["hub.example\r\nX: y", "a b", ""])
def test_a_target_cannot_smuggle_a_header(host: str) -> None:
    with pytest.raises(ProxyError):
        connect_request(host, 443, PROXY)


@pytest.mark.parametrize(
    ("username", "password"),
    [("", "x"), ("a:b", "x"), ("a\r\nb", "x"), ("a", "x\ny"), ("a" * 257, "x")],
)
def test_credentials_that_cannot_be_sent_are_refused(username: str, password: str) -> None:
    with pytest.raises(ProxyError):
        ProxyCredentials(username, password)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://proxy.example:8080", Proxy("proxy.example", 8080)),
        ("proxy.example:8080/", Proxy("proxy.example", 8080)),
        ("http://u%3Bx:p%40ss@[::1]", Proxy("::1", 3128, ProxyCredentials("u;x", "p@ss"))),
    ],
)
def test_what_the_environment_may_name(url: str, expected: Proxy) -> None:
    assert parse_proxy_url(url) == expected


@pytest.mark.parametrize(
    "url", ["https://proxy.example", "socks5://x:1", "http://", "http://x:70000", "http://a b:1"]
)
def test_what_the_environment_may_not_name_is_one_sentence(url: str) -> None:
    with pytest.raises(ProgramError, match="HTTPS_PROXY or NO_PROXY"):
        rules_of(ProxySettings(mode="system"), {"HTTPS_PROXY": url})


def test_the_environment_counts_in_mode_system_alone() -> None:
    environment = {"https_proxy": "http://p:1", "no_proxy": "localhost, .example"}
    assert rules_of(ProxySettings(mode="none"), environment).proxy is None
    rules = rules_of(ProxySettings(mode="system"), environment)
    assert rules.proxy_for("a.example", 443) is None
    assert rules.proxy_for("hub.test", 443) == Proxy("p", 1)
    assert rules_of(ProxySettings(mode="system"), {}).proxy is None


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"mode": "custom", "address": "p"}, "needs address and port"),
        ({"mode": "none", "bypass": ["x"]}, "bypass belongs to mode custom"),
        ({"mode": "custom", "address": "p", "port": 1, "username": "u"}, "belong together"),
        ({"mode": "custom", "address": "a b", "port": 1}, "no host name"),
        ({"mode": "custom", "address": "p", "port": 1, "bypass": ["1/2/3"]}, "is no network"),
        ({"mode": "custom", "address": "p", "port": 65_536}, "65535"),
    ],
)
def test_a_section_that_contradicts_itself_is_refused(
    section: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ProxySettings.model_validate(section)


def test_the_proxy_of_the_registration_is_kept_and_the_configuration_wins(tmp_path: Path) -> None:
    password = tmp_path / "password"
    write_secret(password, b"secret\r\n")
    given_rules = custom_proxy("Proxy.Example", 3128, "tokyo", password)
    assert given_rules is not None
    save_registered(tmp_path, given_rules)
    assert (tmp_path / REGISTERED_FILE).stat().st_mode & 0o777 == 0o600
    kept = load_rules(None, tmp_path, {})
    assert kept.proxy == Proxy("proxy.example", 3128, ProxyCredentials("tokyo", "secret"))
    assert load_rules(ProxySettings(mode="none"), tmp_path, {}).proxy is None
    assert load_rules(None, tmp_path / "nothing", {}).proxy is None


def test_options_and_a_section_at_once_are_refused(tmp_path: Path) -> None:
    given_rules = ProxyRules(PROXY)
    assert chosen_rules(given_rules, None, tmp_path, {}) == given_rules
    assert chosen_rules(None, ProxySettings(mode="none"), tmp_path, {}).proxy is None
    with pytest.raises(ProgramError, match="leave one of them out"):
        chosen_rules(given_rules, ProxySettings(mode="none"), tmp_path, {})


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff", b'{"address": "a b", "port": 1}', b"[" * 9999]
)
def test_a_damaged_file_of_the_registration_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    write_secret(tmp_path / REGISTERED_FILE, content)
    with pytest.raises(ProgramError, match=rf"{REGISTERED_FILE} is damaged"):
        load_rules(None, tmp_path, {})


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"two\nlines", b"x" * 2000])
def test_a_password_file_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "password"
    write_secret(file, content)
    with pytest.raises(ProgramError) as caught:
        custom_proxy("proxy.example", 3128, "tokyo", file)
    assert "two" not in str(caught.value)


def test_a_password_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("secret")
    file.chmod(0o644)
    with pytest.raises(ProgramError, match="chmod 600"):
        custom_proxy("proxy.example", 3128, "tokyo", file)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("p", None, None, None), "address and port"),
        (("a b", 1, None, None), "--proxy-address"),
        (("p", 70_000, None, None), "--proxy-port"),
        (("p", 1, "u", None), "belong together"),
    ],
)
def test_wrong_options_are_named(options: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        custom_proxy(*options)


def test_without_options_there_is_no_custom_proxy() -> None:
    assert custom_proxy(None, None, None, None) is None
