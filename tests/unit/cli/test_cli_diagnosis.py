"""What the doctor makes of what it sees, and what tokens and answers of strangers give."""

import base64
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from site_recovery_cli.client_tokens import ends_at, token_in
from site_recovery_cli.diagnosis import (
    Verdict,
    of_certificate,
    of_clock,
    of_hub,
    of_jobs,
    of_servers,
    of_token,
    of_version,
)
from site_recovery_cli.failures import CommandError

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("step", "days", "verdict"),
    [
        ("certificate", 15, Verdict.OK),
        ("certificate", 13, Verdict.WARNING),
        ("certificate", -1, Verdict.FAILED),
        ("root", 61, Verdict.OK),
        ("root", 59, Verdict.WARNING),
    ],
)
def test_certificates_are_told_before_they_end(step: str, days: int, verdict: Verdict) -> None:
    found = of_certificate(step, NOW + timedelta(days=days), NOW, "renew it")
    assert found.verdict is verdict
    assert bool(found.remedy) is (verdict is not Verdict.OK)


def test_clocks_are_told_with_their_direction() -> None:
    assert of_clock(NOW, NOW + timedelta(minutes=4)).verdict is Verdict.OK
    assert "behind" in of_clock(NOW, NOW + timedelta(minutes=6)).detail
    assert "ahead of" in of_clock(NOW, NOW - timedelta(minutes=6)).detail
    assert of_clock(NOW, None).verdict is Verdict.WARNING


def test_a_token_that_ends_soon_is_told_unless_it_is_renewed() -> None:
    soon = NOW + timedelta(minutes=30)
    assert of_token(soon, NOW, renews=False, login="login").verdict is Verdict.WARNING
    assert of_token(soon, NOW, renews=True, login="login").verdict is Verdict.OK
    assert of_token(None, NOW, renews=False, login="login").verdict is Verdict.OK


def test_silent_servers_long_jobs_and_jobs_that_stand_still_are_named() -> None:
    servers: list[dict[str, Any]] = [
        {"friendly_name": "Tokyo", "connected": True},
        {"friendly_name": "Osaka", "connected": False, "last_contact_at": None},
    ]
    (found,) = of_servers("prod", servers)
    assert (found.verdict, "Osaka" in found.detail) == (Verdict.FAILED, True)
    assert of_servers("prod", servers[:1])[0].verdict is Verdict.OK
    jobs: list[dict[str, Any]] = [
        {"kind": "job", "id": "1", "name": "a", "since": (NOW - timedelta(hours=2)).isoformat()},
        {"kind": "job", "id": "2", "name": "b", "since": NOW.isoformat()},
        {"kind": "job", "id": "3", "name": "c", "since": None},
        {"kind": "item", "id": "4", "name": "d", "since": "2020-01-01T00:00:00+00:00"},
    ]
    (found,) = of_jobs("prod", jobs, NOW)
    assert (found.verdict, found.remedy) == (Verdict.WARNING, "see: site-recovery job show 1")
    assert of_jobs("prod", jobs[1:], NOW)[0].verdict is Verdict.OK
    assert of_hub({"jobs_standing_still": 1}).verdict is Verdict.FAILED
    assert of_hub({"hub_name": "a"}).verdict is Verdict.OK
    assert of_version("1", "1").verdict is Verdict.OK
    assert of_version(None, "1").verdict is Verdict.WARNING


def token(claims: object) -> str:
    return f"a.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.b"


def test_a_token_says_when_it_ends() -> None:
    assert ends_at(token({"exp": 1_767_225_600})) == datetime(2026, 1, 1, tzinfo=UTC)
    others: list[object] = [{"exp": 10**30}, {"exp": "x"}, {"exp": float("inf")}, {}, [], None]
    for other in others:
        assert ends_at(token(other)) is None


@settings(max_examples=60, deadline=None)
@given(
    st.text(max_size=60) | st.text(max_size=40).map(lambda t: f".{t}.") | st.floats().map(token),
    st.binary(max_size=100)
    | st.dictionaries(st.sampled_from(["access_token", "error_description"]), st.text()).map(
        lambda answer: json.dumps(answer).encode()
    )
    | st.sampled_from([b"[" * 100_000, b'{"access_token": 1}', b"null"]),
    st.sampled_from([200, 400, 401, 403, 404, 500, 503]),
)
def test_whatever_comes_is_a_token_or_an_error_in_words(
    sent: str, answer: bytes, status: int
) -> None:
    ends = ends_at(sent)
    assert ends is None or ends.tzinfo is UTC
    with suppress(CommandError):
        assert token_in("log in", status, answer).isprintable()
