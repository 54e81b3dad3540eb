"""What kinds of certificate the hub issues: by which authority, for which use, for how long."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID


class Profile(StrEnum):
    """The kind of a certificate; a holder of one kind is never taken for another."""

    HUB_SERVER = "hub_server"
    PROVIDER_MANAGEMENT = "provider_management"
    HYPERV_HOST = "hyperv_host"
    VAULT_REGISTRATION = "vault_registration"
    EVENT_SIGNER = "event_signer"
    OPERATOR = "operator"


class Authority(StrEnum):
    """The issuing authorities below the root; the value begins their file names."""

    MANAGEMENT = "management"
    REGISTRATION = "registration"
    SERVICE = "service"


@dataclass(frozen=True)
class ProfileRules:
    """What all certificates of one profile have in common."""

    authority: Authority
    lifetime: timedelta
    usages: tuple[x509.ObjectIdentifier, ...]


EVENT_SIGNING: Final = x509.ObjectIdentifier("2.25.197563041875293310426")
"""Extended key usage of event signers: an arc of its own under 2.25 (ITU-T X.667)."""

PROFILES: Final[dict[Profile, ProfileRules]] = {
    Profile.HUB_SERVER: ProfileRules(
        Authority.SERVICE, timedelta(days=90), (ExtendedKeyUsageOID.SERVER_AUTH,)
    ),
    Profile.PROVIDER_MANAGEMENT: ProfileRules(
        Authority.MANAGEMENT, timedelta(days=30), (ExtendedKeyUsageOID.CLIENT_AUTH,)
    ),
    # Hyper-V Replica demands both usages and the host's FQDN as name.
    Profile.HYPERV_HOST: ProfileRules(
        Authority.SERVICE,
        timedelta(days=365),
        (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    ),
    # VaultCertificateExpiryInHoursForHRM of the original: 120 hours.
    Profile.VAULT_REGISTRATION: ProfileRules(
        Authority.REGISTRATION, timedelta(hours=120), (ExtendedKeyUsageOID.CLIENT_AUTH,)
    ),
    Profile.EVENT_SIGNER: ProfileRules(Authority.SERVICE, timedelta(days=90), (EVENT_SIGNING,)),
    Profile.OPERATOR: ProfileRules(
        Authority.SERVICE, timedelta(days=90), (ExtendedKeyUsageOID.CLIENT_AUTH,)
    ),
}

LIFETIMES: Final[dict[Profile, timedelta]] = {
    profile: rules.lifetime for profile, rules in PROFILES.items()
}
"""How long a certificate of each profile is valid."""

ROOT_LIFETIME: Final = timedelta(days=20 * 365)
REVOKED_LIFETIME: Final = timedelta(days=30)
"""How long a list of revoked certificates is valid: whoever reads an older one lets nobody in."""
AUTHORITY_LIFETIME: Final = timedelta(days=10 * 365)

CLOCK_TOLERANCE: Final = timedelta(minutes=5)
"""How far a peer's clock may be behind ours: certificates begin that much earlier."""
