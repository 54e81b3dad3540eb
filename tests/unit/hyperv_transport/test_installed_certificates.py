"""A host takes only a certificate that Hyper-V Replica would take."""

import contextlib
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certs.chain import TrustChain
from certs.identity import check_request
from certs.profiles import Profile
from vmm_simulator.hyperv.host_credentials import HostCredentials
from vmm_simulator.problems import RefusedError

NOW = datetime.now(UTC)
HOST = "host1.tokyo.example"


@cache
def trust(name: str) -> TrustChain:
    """Return a trust chain, the same one for the same name."""
    return TrustChain.create(NOW - timedelta(minutes=5), name)


def issued(
    credentials: HostCredentials,
    *,
    names: tuple[str, ...] = (HOST,),
    profile: Profile = Profile.HYPERV_HOST,
    authority: str = "estate",
) -> str:
    """Return the chain of a certificate for the host's key."""
    key = check_request(credentials.request().encode()).public_key()
    chain = trust(authority).issue(
        profile,
        key,  # type: ignore[arg-type]
        names[0],
        NOW,
        dns_names=names,
    )
    return chain.chain_pem


def test_a_good_certificate_is_installed_and_used(tmp_path: Path) -> None:
    credentials = HostCredentials(HOST, tmp_path)
    installed = credentials.install(issued(credentials), trust("estate").root_pem, NOW)
    assert len(installed.thumbprint) == 64
    assert installed.names == (HOST,)
    listening, connecting = credentials.contexts()
    assert listening.get_ca_certs()
    assert connecting.check_hostname


def test_contexts_are_made_anew_only_when_a_file_was_replaced(tmp_path: Path) -> None:
    credentials = HostCredentials(HOST, tmp_path)
    credentials.install(issued(credentials), trust("estate").root_pem, NOW)
    first = credentials.contexts()
    assert credentials.contexts() is first
    credentials.install(issued(credentials, authority="other"), trust("other").root_pem, NOW)
    again = credentials.contexts()
    assert again[1].get_ca_certs() != first[1].get_ca_certs()
    credentials.forget()
    with pytest.raises(RefusedError, match="no certificate"):
        credentials.contexts()


def test_a_node_asks_for_its_brokers_name_and_notes_that_it_has_it(tmp_path: Path) -> None:
    credentials = HostCredentials(HOST, tmp_path)
    asked = check_request(credentials.request("Broker.example").encode())
    names = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [HOST, "Broker.example"]
    chain = issued(credentials, names=(HOST, "Broker.example"))
    installed = credentials.install(chain, trust("estate").root_pem, NOW)
    assert installed.names == (HOST, "broker.example")


def test_each_unfit_certificate_is_refused_with_its_reason(tmp_path: Path) -> None:
    credentials = HostCredentials(HOST, tmp_path)
    root, late = trust("estate").root_pem, NOW + timedelta(days=400)
    for chain, moment, why in (
        (issued(credentials, names=("host2.tokyo.example",)), NOW, "names another host"),
        (issued(credentials), late, "is valid from"),
        (issued(credentials, profile=Profile.HUB_SERVER), NOW, "not for client authentication"),
        (issued(credentials, authority="foreign"), NOW, "not issued by the authority"),
        ("no certificate", NOW, f"the certificate for {HOST}"),
        ("", NOW, f"the certificate for {HOST}"),
    ):
        with pytest.raises(RefusedError, match=why):
            credentials.install(chain, root, moment)
    stranger = HostCredentials(HOST, tmp_path / "stranger")
    with pytest.raises(RefusedError, match="not issued for this host's key"):
        credentials.install(issued(stranger), root, NOW)
    assert not (tmp_path / "chain.pem").exists()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text(max_size=300), place=st.integers(0, 3000), cut=st.booleans())
def test_no_text_is_installed_or_raises_anything_else(
    tmp_path: Path, text: str, place: int, cut: bool
) -> None:
    credentials = HostCredentials(HOST, tmp_path / "host")
    if not (tmp_path / "good.pem").exists():
        (tmp_path / "good.pem").write_text(issued(credentials))
    good = (tmp_path / "good.pem").read_text()
    damaged = good[:place] + text + ("" if cut else good[place:])
    for chain in (text, damaged):
        if chain != good:
            with contextlib.suppress(RefusedError):
                credentials.install(chain, trust("estate").root_pem, NOW)
