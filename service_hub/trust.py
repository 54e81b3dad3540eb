"""The hub's keys on disk: made by `service-hub init`, encrypted under the key file.

Part of the composition root: the only place that knows where keys lie. `root.pem` and the other
certificates are public; every key is encrypted with the password in `key_file`.
"""

import ipaddress
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from certs.chain import DamagedTrustError, TrustChain
from certs.identity import (
    KeyDamagedError,
    load_private_key,
    new_private_key,
    private_key_pem,
)
from certs.profiles import Profile
from certs.signing import EventSigner
from certs.trusted_chains import TrustedChains
from service_hub.config import HubSettings
from service_hub.root_files import SECRET_BYTES_MAX, read_chains
from service_shell.errors import ProgramError
from service_shell.secret_files import read_secret, write_secret

TOKEN_KEY_FILE: Final = "token.key"  # noqa: S105 -- a file name
PASSWORD_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class HubTrust:
    """The chains (two while the root is replaced) and the key that signs tokens."""

    chains: TrustedChains
    token_key: ec.EllipticCurvePrivateKey

    @property
    def chain(self) -> TrustChain:
        """The chain that the hub shows now."""
        return self.chains.present


def initialise(settings: HubSettings, now: datetime) -> None:
    """Make the key file, the trust chain and the token key; refuses when any is there already."""
    root = settings.trust_directory / "root.pem"
    for path in (settings.key_file, root):
        if path.exists():
            raise ProgramError(
                f"{path} exists already: this hub is initialised (delete its data directory and "
                "key file only if every registered server may be lost)"
            )
    password = secrets.token_urlsafe(PASSWORD_BYTES).encode()
    files = TrustChain.create(now, settings.organization).to_files(password)
    files[TOKEN_KEY_FILE] = private_key_pem(new_private_key(), password)
    write_secret(settings.key_file, password)
    for name, content in files.items():
        write_secret(settings.trust_directory / name, content)


def key_password(settings: HubSettings) -> bytes:
    """Return what the keys on disk are encrypted with; ProgramError without an initialised hub."""
    directory = settings.trust_directory
    if not directory.is_dir() or not settings.key_file.exists():
        missing = settings.key_file if directory.is_dir() else directory
        raise ProgramError(
            f"{missing} is missing: run `service-hub init --config FILE` once, or restore the "
            "hub's data directory and key file from a backup"
        )
    return read_secret(settings.key_file, SECRET_BYTES_MAX).strip()


def load(settings: HubSettings, now: datetime) -> HubTrust:
    """Return the hub's keys; ProgramError says which file is missing or damaged."""
    directory, password = settings.trust_directory, key_password(settings)
    try:
        chains = read_chains(directory, password, now)
        token_key = load_private_key(
            read_secret(directory / TOKEN_KEY_FILE, SECRET_BYTES_MAX), password
        )
    except (DamagedTrustError, KeyDamagedError, ValueError) as error:
        raise ProgramError(
            f"the keys in {directory} cannot be used ({error}): restore them, and "
            f"{settings.key_file}, from the same backup"
        ) from error
    assert isinstance(token_key, ec.EllipticCurvePrivateKey), "initialise makes such a key"
    return HubTrust(chains, token_key)


def server_credentials(trust: HubTrust, settings: HubSettings, now: datetime) -> tuple[str, bytes]:
    """Return chain and key of a fresh server certificate for every public host of the hub."""
    addresses = [host for host in settings.public_hosts if _is_address(host)]
    names = [host for host in settings.public_hosts if not _is_address(host)]
    key = new_private_key()
    issued = trust.chain.issue(
        Profile.HUB_SERVER,
        key.public_key(),
        settings.public_hosts[0],
        now,
        dns_names=names,
        ip_addresses=addresses,
    )
    return issued.chain_pem, private_key_pem(key)


def event_signer(trust: HubTrust, now: datetime) -> EventSigner:
    """Return a signer with a fresh key; its certificate travels in every event (x5c)."""
    key = new_private_key()
    issued = trust.chain.issue(Profile.EVENT_SIGNER, key.public_key(), "event signer", now)
    return EventSigner(key, issued.chain_pem)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
