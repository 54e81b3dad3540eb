"""Makes vault credentials files: a key pair, its certificate for one vault, and the hub's root."""

import base64
import secrets
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives import hashes

from certs.chain import TrustChain
from certs.identity import certificate_pem, load_certificate, new_private_key, thumbprint
from certs.profiles import Profile
from certs.vault_credentials import VaultCredentials, make_pfx, render
from service_hub.domain.records import Vault
from service_hub.operator_ports import IssuedRegistration
from service_hub.ports import UploadedCertificate

CHANNEL_KEY_BYTES: Final = 32


class RegistrationOffice:
    """The RegistrationIssuer of the operator ports; keeps nothing of what it makes."""

    def __init__(self, chain: TrustChain, *, provider_url: str) -> None:
        self._chain = chain
        self._provider_url = provider_url

    def issue(self, vault: Vault, now: datetime) -> IssuedRegistration:
        """Make a key pair and its certificate for one vault, and the file that carries both.

        The name in the certificate is the vault's id; the root beside it is the only anchor for
        registration (channel.md, trust).
        """
        key = new_private_key()
        issued = self._chain.issue(Profile.VAULT_REGISTRATION, key.public_key(), vault.id, now)
        certificate = issued.certificate
        root = load_certificate(self._chain.root_pem.encode())
        content = render(
            VaultCredentials(
                subscription_id=vault.subscription_id,
                resource_group=vault.resource_group,
                vault_name=vault.name,
                resource_id=vault.resource_number,
                location=vault.location,
                management_pfx=make_pfx(key, certificate, [root]),
                aad_authority=self._provider_url,
                aad_tenant_id=vault.subscription_id,
                service_principal_client_id=vault.id,
                vault_audience=(
                    f"https://RecoveryServiceVault/{vault.location}/{vault.name}"
                    f"/{vault.resource_number}"
                ),
                provider_url=self._provider_url,
                channel_integrity_key=base64.b64encode(
                    secrets.token_bytes(CHANNEL_KEY_BYTES)
                ).decode(),
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
