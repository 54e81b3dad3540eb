"""Who may replicate to a host, where to, and who is trusted together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vmm_simulator.hyperv.authorisation import (
    DEFAULT_GROUP,
    AuthorisationEntry,
    Authorisations,
    entry_for,
    same_group,
)

EXACT = AuthorisationEntry(
    primary="host1.tokyo.example", trust_group="one", storage_location="/exact"
)
DOMAIN = AuthorisationEntry(primary="*.tokyo.example", trust_group="two", storage_location="/tokyo")
WIDE = AuthorisationEntry(primary="*.example", trust_group="three")
ALL = Authorisations(entries=(WIDE, DOMAIN, EXACT), any_server="/anybody")
NONE = Authorisations()


@pytest.mark.parametrize(
    ("fqdn", "group", "location"),
    [
        ("host1.tokyo.example", "one", "/exact"),
        ("HOST1.Tokyo.Example", "one", "/exact"),
        ("host2.tokyo.example", "two", "/tokyo"),
        ("a.b.tokyo.example", "two", "/tokyo"),
        ("tokyo.example", "three", None),
        ("host.osaka.example", "three", None),
        ("example", DEFAULT_GROUP, "/anybody"),
        ("host1.tokyo.example.attacker", DEFAULT_GROUP, "/anybody"),
        ("attackertokyo.example", "three", None),
    ],
)
def test_the_most_exact_entry_counts(fqdn: str, group: str, location: str | None) -> None:
    entry = entry_for(fqdn, ALL, {})
    assert entry is not None
    assert (entry.trust_group, entry.storage_location) == (group, location)


def test_nobody_is_let_in_without_an_entry() -> None:
    assert entry_for("host1.tokyo.example", NONE, {}) is None
    assert entry_for("host9.osaka.example", NONE, {"cloud": ("host1.tokyo.example",)}) is None


def test_a_pairing_lets_its_partners_in_as_a_group_of_its_own() -> None:
    paired = {"cloud-1": ("host1.tokyo.example", "host2.tokyo.example"), "cloud-2": ("host3",)}
    entry = entry_for("HOST1.tokyo.example", NONE, paired)
    assert entry is not None
    assert (entry.trust_group, entry.storage_location) == ("cloud-1", None)
    assert same_group("host1.tokyo.example", "host2.tokyo.example", NONE, paired)
    assert not same_group("host1.tokyo.example", "host3", NONE, paired)
    assert not same_group("host1.tokyo.example", "stranger.example", NONE, paired)


def test_a_machine_may_move_within_its_trust_group_only() -> None:
    assert same_group("host2.tokyo.example", "host3.tokyo.example", ALL, {})
    assert not same_group("host1.tokyo.example", "host2.tokyo.example", ALL, {})
    assert same_group("anybody", "else", ALL, {})
    assert not same_group("anybody", "else", NONE, {})
    assert not same_group("stranger", "stranger", NONE, {})


@pytest.mark.parametrize(
    "primary",
    ["", "*", "*.", "a.*.example", "**.example", "a b", "host.", ".host", "-a", "é.example"],
)
def test_an_entry_that_names_no_server_is_refused(primary: str) -> None:
    with pytest.raises(ValidationError):
        AuthorisationEntry(primary=primary, trust_group="one")


@given(st.text(max_size=300))
def test_no_text_is_let_in_by_entries_for_others(fqdn: str) -> None:
    entry = entry_for(fqdn, Authorisations(entries=(EXACT, DOMAIN)), {})
    assert entry is None or fqdn.lower().endswith("tokyo.example")
