"""The vault credentials file, and the identity that this server has after registration."""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from pydantic import BaseModel, ConfigDict, ValidationError

from certs import vault_credentials
from certs.identity import (
    KeyDamagedError,
    PrivateKey,
    certificate_pem,
    load_private_key,
    private_key_pem,
    thumbprint,
)
from certs.roots import ROOTS_MAX, is_root
from certs.vault_credentials import CredentialsDamagedError
from service_shell.errors import ProgramError
from service_shell.secret_files import read_secret, write_secret

FORMER_KEPT: Final = timedelta(days=1)
"""How long a key is kept beyond its certificate: the hub encrypts to valid certificates only, and
no token or event that it sends lives longer than this (design: channel, renewal)."""

CREDENTIALS_BYTES_MAX: Final = 1024 * 1024
IDENTITY_FILE_BYTES_MAX: Final = 262_144
_VAULT_ID: Final = re.compile(r"[0-9A-Za-z-]{1,64}", re.ASCII)

_FOLDER: Final = "identity"
_RENEWED_FOLDER: Final = "identity.renewed"
_FORMER_FOLDERS: Final = "identity.former-"
_STAGED_FOLDER: Final = "identity.new"
_LEAVING_FOLDER: Final = "identity.leaving"
_FACTS, _KEY, _CHAIN, _ROOT = "identity.json", "key.pem", "certificate.pem", "root.pem"


class IdentityFacts(BaseModel):
    """Who this provider is, and where its hub is.

    `roots_serial` is the number of the statement that the pinned roots come from; 0 for those of
    the registration.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    provider_id: str
    vault_id: str
    vault_name: str
    vmm_id: str
    vmm_version: str
    friendly_name: str
    provider_url: str
    mqtt_host: str
    mqtt_port: int
    heartbeat_seconds: int
    registered_at: datetime
    roots_serial: int = 0


@dataclass(frozen=True, slots=True)
class Identity:
    """A registered provider: its facts, key, certificate chain (leaf first) and pinned roots."""

    facts: IdentityFacts
    key: PrivateKey
    chain_pem: str
    root_pem: str

    @property
    def key_pem(self) -> bytes:
        """The private key as a TLS context takes it."""
        return private_key_pem(self.key)


@dataclass(frozen=True, slots=True)
class RegistrationCredentials:
    """What a credentials file is good for: the hub, the only root to trust, a certificate."""

    provider_url: str
    vault_name: str
    root_pem: str
    chain_pem: str
    key_pem: bytes
    vault_id: str = ""
    """The hub's own id of the vault; empty where the file does not name it."""

    channel_integrity_key: str = field(default="", repr=False)
    """What operators sign with; empty where the file's maker has none."""


def read_credentials(path: Path, now: datetime) -> RegistrationCredentials:
    """Return the content of a vault credentials file; each defect has its own sentence."""
    data = _read_file(path)
    try:
        credentials = vault_credentials.parse(data)
        contents = vault_credentials.open_pfx(credentials.management_pfx)
    except CredentialsDamagedError as error:
        raise ProgramError(
            f"the credentials file {path} is damaged: {error}; copy it again or generate a new key"
        ) from error
    certificate = contents.certificate
    if now >= certificate.not_valid_after_utc:
        raise ProgramError(
            f"the credentials file {path} expired at {certificate.not_valid_after_utc:%F %T} UTC;"
            " generate a new registration key in the vault and download its file"
        )
    if now < certificate.not_valid_before_utc:
        raise ProgramError(
            f"the credentials file {path} is valid only from"
            f" {certificate.not_valid_before_utc:%F %T} UTC on; set this server's clock"
        )
    if not credentials.provider_url.startswith("https://"):
        raise ProgramError(
            f"the credentials file {path} names the hub {credentials.provider_url!r}, which is no"
            " https URL; generate a new registration key in the vault"
        )
    roots = _roots(path, contents.extra)
    issuers = [each for each in contents.extra if each not in roots]
    return RegistrationCredentials(
        provider_url=credentials.provider_url.rstrip("/"),
        vault_name=credentials.vault_name,
        root_pem="".join(map(certificate_pem, roots)),
        chain_pem="".join(map(certificate_pem, (certificate, *issuers))),
        key_pem=private_key_pem(contents.key),
        vault_id=_vault_id(credentials.service_principal_client_id),
        channel_integrity_key=credentials.channel_integrity_key,
    )


def _vault_id(named: str) -> str:
    """Return what may go into a header; a hub writes its vault's GUID there."""
    return named if _VAULT_ID.fullmatch(named) else ""


def _read_file(path: Path) -> bytes:
    # Not read_secret: the file comes from a download and may still have the mode of one.
    try:
        with path.open("rb") as stream:
            data = stream.read(CREDENTIALS_BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise ProgramError(
            f"the credentials file {path} is missing; download it from the vault"
        ) from error
    except OSError as error:
        raise ProgramError(
            f"cannot read the credentials file {path}: {error.strerror}; check its permissions"
        ) from error
    if not data.strip():
        raise ProgramError(f"the credentials file {path} is empty; download it from the vault")
    if len(data) > CREDENTIALS_BYTES_MAX:
        raise ProgramError(
            f"the credentials file {path} is larger than {CREDENTIALS_BYTES_MAX} bytes;"
            " is it the right file?"
        )
    return data


def _roots(path: Path, extra: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Return the hub's root, or both while the hub replaces it."""
    roots = [each for each in extra if is_root(each)]
    if not 1 <= len(roots) <= ROOTS_MAX:
        raise ProgramError(
            f"the credentials file {path} holds {len(roots)} root certificates instead of the"
            " hub's one; generate a new registration key in the vault"
        )
    return roots


def staged_key(data_directory: Path) -> PrivateKey | None:
    """Return the key of a registration that was interrupted, so that it can be completed."""
    path = data_directory / _STAGED_FOLDER / _KEY
    if not path.exists():
        return None
    return load_private_key(read_secret(path, IDENTITY_FILE_BYTES_MAX))


def stage_key(data_directory: Path, key: PrivateKey) -> None:
    """Keep the new key (0600) before anything is asked of the hub with it."""
    write_secret(data_directory / _STAGED_FOLDER / _KEY, private_key_pem(key))


def staged_chain(data_directory: Path) -> str | None:
    """Return the chain that an interrupted registration was issued, if it came that far."""
    path = data_directory / _STAGED_FOLDER / _CHAIN
    if not path.exists():
        return None
    return read_secret(path, IDENTITY_FILE_BYTES_MAX).decode(errors="replace")


def stage_chain(data_directory: Path, chain_pem: str) -> None:
    """Keep the issued chain before the hub is told that this server is registered."""
    write_secret(data_directory / _STAGED_FOLDER / _CHAIN, chain_pem.encode())


def save_identity(data_directory: Path, identity: Identity) -> None:
    """Make the identity valid: it is there as a whole or not at all, also after a power cut."""
    staged = data_directory / _STAGED_FOLDER
    _write(staged, identity)
    staged.rename(data_directory / _FOLDER)
    _sync(data_directory)


def renewal_key(data_directory: Path, make: Callable[[], PrivateKey]) -> PrivateKey:
    """Return the key of the next certificate, kept (0600) before anything is asked with it.

    A renewal whose answer was lost is asked for again with the same key.
    """
    path = data_directory / _RENEWED_FOLDER / _KEY
    if path.exists():
        with contextlib.suppress(KeyDamagedError):  # nothing was ever granted to half a key
            return load_private_key(read_secret(path, IDENTITY_FILE_BYTES_MAX))
    key = make()
    write_secret(path, private_key_pem(key))
    return key


def save_renewed(data_directory: Path, identity: Identity) -> None:
    """Put the renewed identity in the place of the present one, which is kept beside it.

    Killed in between, `complete_renewal` ends it: once the present folder is away, the renewed one
    is complete.
    """
    complete_renewal(data_directory)
    folder, renewed = data_directory / _FOLDER, data_directory / _RENEWED_FOLDER
    leaf = x509.load_pem_x509_certificates(read_secret(folder / _CHAIN, IDENTITY_FILE_BYTES_MAX))[0]
    _write(renewed, identity)
    folder.rename(data_directory / f"{_FORMER_FOLDERS}{thumbprint(leaf)[:16]}")
    complete_renewal(data_directory)


def complete_renewal(data_directory: Path) -> None:
    """End a renewal that was interrupted while it changed the folders."""
    folder, renewed = data_directory / _FOLDER, data_directory / _RENEWED_FOLDER
    if not folder.exists() and (renewed / _FACTS).exists():
        renewed.rename(folder)
        _sync(data_directory)


def save_roots(data_directory: Path, root_pem: str, facts: IdentityFacts) -> None:
    """Pin other roots from the next start on, durably.

    The roots come first: killed in between, the statement that named them is taken once more.
    """
    folder = data_directory / _FOLDER
    write_secret(folder / _ROOT, root_pem.encode())
    write_secret(folder / _FACTS, _written(facts))


def drop_former(data_directory: Path, now: datetime) -> int:
    """Delete former keys once everything encrypted to them has expired; return how many."""
    dropped = 0
    for folder in data_directory.glob(f"{_FORMER_FOLDERS}*"):
        chain = read_secret(folder / _CHAIN, IDENTITY_FILE_BYTES_MAX)
        ended_at = x509.load_pem_x509_certificates(chain)[0].not_valid_after_utc
        if now >= ended_at + FORMER_KEPT:
            shutil.rmtree(folder)
            dropped += 1
    return dropped


def _write(folder: Path, identity: Identity) -> None:
    """Write all files of an identity; the facts come last, they say that it is complete."""
    write_secret(folder / _KEY, identity.key_pem)
    write_secret(folder / _CHAIN, identity.chain_pem.encode())
    write_secret(folder / _ROOT, identity.root_pem.encode())
    write_secret(folder / _FACTS, _written(identity.facts))


def _written(facts: IdentityFacts) -> bytes:
    return facts.model_dump_json(indent=2).encode()


def _sync(data_directory: Path) -> None:
    descriptor = os.open(data_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def forget_identity(data_directory: Path) -> None:
    """Delete what this server was registered with: from then on it has no identity."""
    for beside in data_directory.glob(f"{_FOLDER}.*"):
        shutil.rmtree(beside)
    if is_registered(data_directory):
        # At one stroke: half an identity would be taken for a damaged one.
        leaving = (data_directory / _FOLDER).rename(data_directory / _LEAVING_FOLDER)
        shutil.rmtree(leaving)


def is_registered(data_directory: Path) -> bool:
    """Return whether this server has an identity."""
    complete_renewal(data_directory)
    return (data_directory / _FOLDER).exists()


def load_identity(data_directory: Path, now: datetime) -> Identity:
    """Return the identity; ProgramError when there is none, it is damaged, or it has expired."""
    complete_renewal(data_directory)
    folder = data_directory / _FOLDER
    if not folder.exists():
        raise ProgramError(
            f"this server is not registered ({folder} is missing); run: provider-agent register"
            " --config FILE --credentials FILE --friendly-name NAME"
        )
    key_pem, chain, root, facts = (
        read_secret(folder / name, IDENTITY_FILE_BYTES_MAX)
        for name in (_KEY, _CHAIN, _ROOT, _FACTS)
    )
    try:
        identity = Identity(
            facts=IdentityFacts.model_validate_json(facts),
            key=load_private_key(key_pem),
            chain_pem=chain.decode(),
            root_pem=root.decode(),
        )
        leaf = x509.load_pem_x509_certificates(chain)[0]
        x509.load_pem_x509_certificates(root)
    except (ValidationError, ValueError, IndexError, KeyDamagedError) as error:
        raise ProgramError(
            f"the identity in {folder} is damaged ({type(error).__name__});"
            " restore it from a backup, or move it away and register again"
        ) from error
    if now >= leaf.not_valid_after_utc:
        raise ProgramError(
            f"the management certificate in {folder} expired at"
            f" {leaf.not_valid_after_utc:%F %T} UTC; move the folder away and register again"
        )
    return identity
