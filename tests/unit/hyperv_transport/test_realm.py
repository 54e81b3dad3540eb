"""Kerberos without its library: whose principal, and what may be a token."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmm_simulator.hyperv.realm import (
    TOKEN_BYTES_MAX,
    header_value,
    host_of,
    principal_of,
    token_of,
)

REALM = "ESTATE.EXAMPLE"


def test_a_host_is_known_by_its_principal() -> None:
    assert principal_of("HOST1.tokyo.example", REALM) == f"host/host1.tokyo.example@{REALM}"
    assert host_of(f"host/host1.tokyo.example@{REALM}", REALM) == "host1.tokyo.example"
    assert host_of(f"host/HOST1.tokyo.example@{REALM}", REALM) == "host1.tokyo.example"


@pytest.mark.parametrize(
    "principal",
    [
        f"user@{REALM}",
        f"http/host1.tokyo.example@{REALM}",
        "host/host1.tokyo.example@OTHER.EXAMPLE",
        f"host/host1.tokyo.example/admin@{REALM}",
        f"host/@{REALM}",
        f"host/host1.tokyo.example@x@{REALM}",
        "host/host1.tokyo.example",
        f"host\\/host1@{REALM}",
        f"host/a\\@b@{REALM}",
        "",
    ],
)
def test_everybody_else_is_no_host_of_the_realm(principal: str) -> None:
    assert host_of(principal, REALM) is None


@given(st.binary(max_size=TOKEN_BYTES_MAX))
def test_a_token_comes_out_of_its_header_again(token: bytes) -> None:
    assert token_of(header_value(token)) == (token or None)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "Negotiate",
        "Negotiate ",
        "Negotiate =",
        "Negotiate A",
        "Negotiate AAAA AAAA",
        "NegotiateAAAA",
        "Basic AAAA",
        "Negotiate " + "A" * (2 * TOKEN_BYTES_MAX),
    ],
)
def test_what_is_no_token_is_none(value: str | None) -> None:
    assert token_of(value) is None


@given(st.text(max_size=200))
def test_no_text_raises(text: str) -> None:
    token_of(text)
    token_of(f"Negotiate {text}")
    host_of(text, REALM)
    host_of(f"host/{text}@{REALM}", REALM)
