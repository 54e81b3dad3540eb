"""Trust of the lab itself: certificates of the VMM servers, and the bundle that clients use."""

from datetime import datetime
from pathlib import Path
from typing import Final

from certs.chain import TrustChain
from certs.identity import new_private_key, private_key_pem
from certs.profiles import Profile
from lab.layout import Layout
from service_shell.atomic_files import write_atomically
from service_shell.secret_files import write_secret

ORGANIZATION: Final = "Site Recovery Lab"


class LabTrust:
    """A chain that lives as long as one estate; its authority keys are never written."""

    def __init__(self, now: datetime) -> None:
        self._chain = TrustChain.create(now, ORGANIZATION)
        self._now = now

    @property
    def root_pem(self) -> str:
        """What verifies the VMM servers' interface and management port."""
        return self._chain.root_pem

    def issue_server(self, fqdn: str, address: str, certificate: Path, key: Path) -> None:
        """Write a server's certificate chain and its key (0600)."""
        private = new_private_key()
        issued = self._chain.issue(
            Profile.HUB_SERVER,
            private.public_key(),
            fqdn,
            self._now,
            dns_names=[fqdn, "localhost"],
            ip_addresses=[address],
        )
        write_secret(key, private_key_pem(private))
        write_atomically(certificate, issued.chain_pem.encode())


def write_bundle(layout: Layout, hub_root_pem: str, lab_root_pem: str) -> None:
    """Write the bundle that verifies every URL of the operator file."""
    layout.trust.mkdir(parents=True, exist_ok=True)
    bundle = f"{hub_root_pem.strip()}\n{lab_root_pem.strip()}\n"
    write_atomically(layout.ca_bundle, bundle.encode())
