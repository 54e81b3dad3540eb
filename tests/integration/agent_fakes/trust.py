"""A chain of trust and TLS contexts for servers that play the hub and the VMM server."""

import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric import ec

from certs.chain import IssuedCertificate, TrustChain
from certs.identity import new_private_key, private_key_pem
from certs.profiles import Profile
from certs.signing import EventSigner
from certs.tls import provider_listener_context, server_context

LOOPBACK = "127.0.0.1"


@dataclass
class Trust:
    """One organization's certificates."""

    chain: TrustChain = field(
        default_factory=lambda: TrustChain.create(datetime.now(UTC), "Contoso")
    )

    def issue(self, profile: Profile, name: str) -> tuple[ec.EllipticCurvePrivateKey, str]:
        """Return a new key and its chain; server certificates are for the loopback address."""
        key = new_private_key()
        return key, self.issue_for(profile, key.public_key(), name).chain_pem

    def issue_for(
        self, profile: Profile, public_key: ec.EllipticCurvePublicKey, name: str
    ) -> IssuedCertificate:
        """Return a certificate for a key that stays with its owner."""
        addresses = (LOOPBACK,) if profile is Profile.HUB_SERVER else ()
        return self.chain.issue(
            profile, public_key, name, datetime.now(UTC), ip_addresses=addresses
        )

    def server(self) -> ssl.SSLContext:
        """A context of a server that asks for no client certificate."""
        key, chain_pem = self.issue(Profile.HUB_SERVER, "vmm.tokyo.example")
        return server_context(chain_pem, private_key_pem(key))

    def provider_listener(self) -> ssl.SSLContext:
        """A context of the hub's provider port."""
        key, chain_pem = self.issue(Profile.HUB_SERVER, "hub.example")
        return provider_listener_context(
            chain_pem,
            private_key_pem(key),
            self.chain.management_ca_pem,
            self.chain.registration_ca_pem,
        )

    def mqtt_listener(self) -> ssl.SSLContext:
        """A context of the hub's MQTT port: a management certificate is required."""
        key, chain_pem = self.issue(Profile.HUB_SERVER, "hub.example")
        return server_context(
            chain_pem,
            private_key_pem(key),
            client_ca_pems=(self.chain.management_ca_pem,),
            require_client=True,
        )

    def event_signer(self) -> EventSigner:
        """A signer that providers of this organization believe."""
        key, chain_pem = self.issue(Profile.EVENT_SIGNER, "event signer")
        return EventSigner(key, chain_pem)
