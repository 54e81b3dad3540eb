import contextlib
import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.domain.dr_switches import SwitchError, read_switches

FULL = (
    "/r /Friendlyname Tokyo /Credentials /asr/vault.cred /EncryptionEnabled /asr/c.pfx"
    " /proxyAddress proxy.example /proxyport 3128 /proxyUsername user /proxyPassword secret"
)
PROXY = "/r /Friendlyname T /Credentials f /proxyAddress p /proxyport 1"


def test_the_documented_switches_are_understood() -> None:
    found = read_switches(FULL.split())
    assert dataclasses.asdict(found) == {
        "friendly_name": "Tokyo",
        "credentials": "/asr/vault.cred",
        "encryption_file": "/asr/c.pfx",
        "proxy_address": "proxy.example",
        "proxy_port": 3128,
        "proxy_username": "user",
        "proxy_password": "secret",
        "proxy_password_file": None,
        "start_vmm_service": False,
        "config": None,
    }


@pytest.mark.parametrize("spell", [str.upper, str.lower, str.title])
def test_case_of_switches_does_not_matter(spell: Callable[[str], str]) -> None:
    words = [
        spell(word) if word[1:].isalpha() and word[0] == "/" else word for word in FULL.split()
    ]
    assert read_switches(words) == read_switches(FULL.split())


def test_the_later_spellings_mean_the_same() -> None:
    line = "/VMMFriendlyName Tokyo /credentials f /DataEncryptionEnabled c.pfx /startvmmservice /R"
    later = read_switches(line.split(" "))
    assert (later.friendly_name, later.encryption_file) == ("Tokyo", "c.pfx")
    assert later.start_vmm_service


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/Friendlyname T /Credentials f", "/r is missing"),
        ("/r /Friendlyname T", "/Credentials is missing"),
        ("/r /Credentials f", "/Friendlyname is missing"),
        ("/r /Friendlyname /Credentials f", "/Friendlyname needs a value"),
        ("/r /Friendlyname T /Credentials", "/Credentials needs a value"),
        ("/r /Friendlyname T /vmmfriendlyname U /Credentials f", "given twice"),
        ("/r /Friendlyname T /Credentials f /proxyport 1", "belong together"),
        ("/r /Friendlyname T /Credentials f /proxyAddress p", "belong together"),
        ("/r /Friendlyname T /Credentials f /proxyAddress p /proxyport 0", "from 1 to 65535"),
        ("/r /Friendlyname T /Credentials f /proxyAddress p /proxyport 65536", "from 1 to"),
        ("/r /Friendlyname T /Credentials f /proxyAddress p /proxyport ٣", "from 1 to"),
        (
            "/r /Friendlyname T /Credentials f /proxyAddress p /proxyport 1 /proxyUsername u",
            "a password belong together",
        ),
        ("/r /Friendlyname T /Credentials f /proxyUsername u /proxyPassword w", "name the proxy"),
        (
            f"{PROXY} /proxyUsername u /proxyPassword w --proxy-password-file f",
            "not both",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_named(line: str, message: str) -> None:
    with pytest.raises(SwitchError, match=message):
        read_switches(line.split())


def test_a_word_that_is_no_switch_is_not_repeated() -> None:
    with pytest.raises(SwitchError, match="word 4 is no switch") as caught:
        read_switches(["/r", "/Credentials", "f", "s3cret", "/Friendlyname", "T"])
    assert "s3cret" not in str(caught.value)


@given(st.lists(st.one_of(st.sampled_from(FULL.split()), st.text(max_size=20)), max_size=20))
def test_any_words_are_understood_or_refused(words: list[str]) -> None:
    with contextlib.suppress(SwitchError):
        found = read_switches(words)
        assert found.credentials
        assert found.friendly_name
