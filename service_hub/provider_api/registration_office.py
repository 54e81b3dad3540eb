"""Makes vault credentials files: a key pair, its certificate for one vault, and the hub's root."""

from datetime import datetime

from cryptography.hazmat.primitives import hashes

from certs.chain import TrustChain
from certs.identity import certificate_pem, new_private_key, thumbprint
from certs.profiles import Profile
from certs.roots import certificates_of
from certs.trusted_chains import TrustedChains
from certs.vault_credentials import VaultCredentials, make_pfx, render
from service_hub.domain.records import Vault
from service_hub.operator_ports import IssuedRegistration
from service_hub.ports.channel import UploadedCertificate


class RegistrationOffice:
    """The RegistrationIssuer of the operator ports; keeps nothing of what it makes."""

    def __init__(self, chain: TrustChain | TrustedChains, *, provider_url: str) -> None:
        self._chains = chain if isinstance(chain, TrustedChains) else TrustedChains(chain)
        self._provider_url = provider_url

    def issue(self, vault: Vault, now: datetime) -> IssuedRegistration:
        """Make a key pair and its certificate for one vault, and the file that carries both.

        The name in the certificate is the vault's id; the root beside it is the only anchor for
        registration (channel.md, trust). While the root is replaced both are there, and the key is
        the new chain's: the file is good before and after the change.
        """
        key = new_private_key()
        chain = self._chains.newest
        issued = chain.issue(Profile.VAULT_REGISTRATION, key.public_key(), vault.id, now)
        certificate = issued.certificate
        roots = certificates_of(self._chains.roots_pem)
        content = render(
            VaultCredentials(
                subscription_id=vault.subscription_id,
                resource_group=vault.resource_group,
                vault_name=vault.name,
                resource_id=vault.resource_number,
                location=vault.location,
                management_pfx=make_pfx(key, certificate, roots),
                aad_authority=self._provider_url,
                aad_tenant_id=vault.subscription_id,
                service_principal_client_id=vault.id,
                vault_audience=(
                    f"https://RecoveryServiceVault/{vault.location}/{vault.name}"
                    f"/{vault.resource_number}"
                ),
                provider_url=self._provider_url,
                # Operators put theirs in outside of the hub, which never knows it (ADR 0004).
                channel_integrity_key="",
            )
        )
        return IssuedRegistration(
            UploadedCertificate(
                pem=certificate_pem(certificate),
                thumbprint=thumbprint(certificate),
                sha1_thumbprint=certificate.fingerprint(hashes.SHA1()).hex().upper(),  # noqa: S303 -- shown, as the field does; never compared
                subject=certificate.subject.rfc4514_string(),
                issuer=certificate.issuer.rfc4514_string(),
                not_after=certificate.not_valid_after_utc,
            ),
            content,
        )
