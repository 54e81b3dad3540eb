from datetime import datetime, timedelta

import pytest
from cryptography import x509

from certs.chain import DamagedTrustError, TrustChain
from certs.identity import common_name, load_certificate, new_private_key, thumbprint
from certs.profiles import LIFETIMES, PROFILES, Authority, Profile

PASSWORD = b"key file of this hub"


def _authority_pem(trust: TrustChain, authority: Authority) -> str:
    return {
        Authority.MANAGEMENT: trust.management_ca_pem,
        Authority.REGISTRATION: trust.registration_ca_pem,
        Authority.SERVICE: trust.service_ca_pem,
    }[authority]


@pytest.mark.parametrize("profile", Profile)
def test_every_profile_has_its_authority_usage_and_lifetime(
    trust: TrustChain, now: datetime, profile: Profile
) -> None:
    key = new_private_key()
    issued = trust.issue(profile, key.public_key(), "TOKYO", now)
    authority = load_certificate(_authority_pem(trust, PROFILES[profile].authority).encode())
    issued.certificate.verify_directly_issued_by(authority)
    usage = issued.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert tuple(usage) == PROFILES[profile].usages
    assert issued.certificate.not_valid_after_utc == now + LIFETIMES[profile]
    assert issued.certificate.not_valid_before_utc <= now
    assert issued.certificate.public_key() == key.public_key()
    assert common_name(issued.certificate) == "TOKYO"


def test_the_chain_text_is_leaf_then_authority_without_the_root(
    trust: TrustChain, now: datetime
) -> None:
    issued = trust.issue(Profile.HUB_SERVER, new_private_key().public_key(), "hub", now)
    chain = x509.load_pem_x509_certificates(issued.chain_pem.encode())
    assert chain == [issued.certificate, load_certificate(trust.service_ca_pem.encode())]


def test_the_registration_certificate_lasts_five_days() -> None:
    assert LIFETIMES[Profile.VAULT_REGISTRATION] == timedelta(days=5)


def test_names_and_addresses_stand_in_the_certificate(trust: TrustChain, now: datetime) -> None:
    issued = trust.issue(
        Profile.HUB_SERVER,
        new_private_key().public_key(),
        "hub",
        now,
        dns_names=["hub.example"],
        ip_addresses=["127.0.0.1", "::1"],
    )
    names = issued.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["hub.example"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == [
        "127.0.0.1",
        "::1",
    ]


def test_no_certificate_outlives_its_authority(trust: TrustChain, now: datetime) -> None:
    late = now + timedelta(days=10 * 365 - 1)
    issued = trust.issue(Profile.HYPERV_HOST, new_private_key().public_key(), "h", late)
    authority = load_certificate(trust.service_ca_pem.encode())
    assert issued.certificate.not_valid_after_utc == authority.not_valid_after_utc


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_a_name_that_cannot_stand_in_a_certificate_is_refused(
    trust: TrustChain, now: datetime, name: str
) -> None:
    with pytest.raises(ValueError, match="length"):
        trust.issue(Profile.OPERATOR, new_private_key().public_key(), name, now)


def test_a_chain_survives_its_files(trust: TrustChain, now: datetime) -> None:
    again = TrustChain.from_files(trust.to_files(PASSWORD), PASSWORD)
    assert again.root_pem == trust.root_pem
    issued = again.issue(Profile.OPERATOR, new_private_key().public_key(), "ann", now)
    issued.certificate.verify_directly_issued_by(load_certificate(trust.service_ca_pem.encode()))


def test_the_roots_key_may_be_kept_elsewhere(trust: TrustChain, now: datetime) -> None:
    files = trust.to_files(PASSWORD)
    del files["root-key.pem"]
    again = TrustChain.from_files(files, PASSWORD)
    assert "root-key.pem" not in again.to_files(PASSWORD)
    assert again.issue(Profile.OPERATOR, new_private_key().public_key(), "ann", now)


@pytest.mark.parametrize(
    "name",
    [
        "root.pem",
        "management.pem",
        "management-key.pem",
        "registration.pem",
        "registration-key.pem",
        "service.pem",
        "service-key.pem",
    ],
)
@pytest.mark.parametrize("damage", ["missing", "garbage", "foreign"])
def test_a_damaged_file_is_named(trust: TrustChain, now: datetime, name: str, damage: str) -> None:
    files = trust.to_files(PASSWORD)
    if damage == "missing":
        del files[name]
    elif damage == "garbage":
        files[name] = b"-----BEGIN garbage"
    else:
        files[name] = TrustChain.create(now, "Contoso").to_files(PASSWORD)[name]
    # With a foreign root, the first certificate that it did not issue is the one to name.
    expected = "management.pem" if (name, damage) == ("root.pem", "foreign") else name
    files.pop("root-key.pem")
    with pytest.raises(DamagedTrustError, match=f"^{expected} "):
        TrustChain.from_files(files, PASSWORD)


def test_a_wrong_password_names_the_first_key(trust: TrustChain) -> None:
    with pytest.raises(DamagedTrustError, match=r"root-key\.pem"):
        TrustChain.from_files(trust.to_files(PASSWORD), b"another")


def test_keys_are_never_written_in_the_clear(trust: TrustChain) -> None:
    for name, data in trust.to_files(PASSWORD).items():
        assert (b"ENCRYPTED PRIVATE KEY" in data) == name.endswith("-key.pem")


def test_two_chains_share_nothing(now: datetime) -> None:
    first, second = TrustChain.create(now, "A"), TrustChain.create(now, "A")
    assert thumbprint(load_certificate(first.root_pem.encode())) != thumbprint(
        load_certificate(second.root_pem.encode())
    )
