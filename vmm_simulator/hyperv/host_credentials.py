"""Key and certificate of one Hyper-V host: made on the host, kept in files of its own (0600)."""

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from certs.identity import (
    CertificateDamagedError,
    KeyDamagedError,
    certificate_request,
    load_certificate,
    load_private_key,
    new_private_key,
    private_key_pem,
    thumbprint,
)
from certs.tls import TlsMaterialError, client_context, server_context
from service_shell.errors import ProgramError
from service_shell.secret_files import read_secret, write_secret
from vmm_simulator.hyperv.host_certificates import (
    UnfitCertificateError,
    host_names,
    require_chain,
    require_host,
)
from vmm_simulator.problems import Code, RefusedError, bad_arguments

FILE_BYTES_MAX: Final = 65_536
CHAIN_MAX: Final = 8
_END: Final = "-----END CERTIFICATE-----"

_FileMarks = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class InstalledCertificate:
    """What is worth knowing of a certificate: its thumbprint, and the names it stands for."""

    thumbprint: str
    names: tuple[str, ...]


class HostCredentials:
    """What a host proves itself with on the replication port, and whom it trusts there."""

    def __init__(self, fqdn: str, folder: Path) -> None:
        self._fqdn = fqdn
        self._key = folder / "key.pem"
        self._chain = folder / "chain.pem"
        self._root = folder / "root.pem"
        self._made: tuple[_FileMarks, tuple[ssl.SSLContext, ssl.SSLContext]] | None = None

    def request(self, broker: str | None = None) -> str:
        """Return a certificate request (PKCS#10, PEM) for this host; its key stays the same.

        A node of a cluster asks for the name of the cluster's replica broker too.
        """
        if not self._key.exists():
            write_secret(self._key, private_key_pem(new_private_key()))
        try:
            key = load_private_key(read_secret(self._key, FILE_BYTES_MAX))
        except KeyDamagedError as error:
            raise RefusedError(
                Code.NOT_AVAILABLE,
                f"the key of host {self._fqdn} in {self._key} is damaged: {error}",
                "move the file away; the next request makes a new key",
            ) from error
        names = (self._fqdn,) if broker is None else (self._fqdn, broker)
        return certificate_request(key, self._fqdn, names).decode("ascii")

    def install(self, chain_pem: str, root_pem: str, now: datetime) -> InstalledCertificate:
        """Store an issued chain after checking key, name, usages, dates and root; what it is.

        Hyper-V Replica takes a certificate only when all of these are right (behaviour 1.4).
        """
        if max(len(chain_pem), len(root_pem)) > FILE_BYTES_MAX:
            raise bad_arguments(f"the certificate of {self._fqdn} is too large")
        try:
            chain = [load_certificate(each.encode()) for each in _each(chain_pem)]
            root = load_certificate(_first(root_pem).encode())
            leaf = chain[0]
            require_host(leaf, [self._fqdn], now)
            require_chain(chain, root)
        except (CertificateDamagedError, UnfitCertificateError) as error:
            raise bad_arguments(f"the certificate for {self._fqdn}: {error}") from error
        if not self._key.exists() or not self._fits(leaf):
            raise RefusedError(
                Code.INVALID_STATE,
                f"the certificate for {self._fqdn} was not issued for this host's key",
                "fetch the host's certificate request again and have that one issued",
            )
        write_secret(self._root, root_pem.encode())
        write_secret(self._chain, chain_pem.encode())
        return InstalledCertificate(thumbprint(leaf), host_names(leaf))

    def forget(self) -> None:
        """Delete key and certificate; the next request makes a new key."""
        for path in (self._chain, self._root, self._key):
            path.unlink(missing_ok=True)

    def contexts(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        """Return the TLS contexts (listening, connecting) made from the files as they are now.

        Those of before, as long as no file was replaced: each transfer asks for them.
        """
        marks = self._marks()
        if self._made is None or marks is None or self._made[0] != marks:
            self._made = None
            made = self._new_contexts()
            if marks is None:
                return made
            self._made = (marks, made)
        return self._made[1]

    def _marks(self) -> "_FileMarks | None":
        """Return what tells the files from those that take their places; None where one lacks."""
        try:
            stats = [path.stat() for path in (self._chain, self._root, self._key)]
        except OSError:
            return None
        return tuple(
            (each.st_ino, each.st_mtime_ns, each.st_ctime_ns, each.st_size, each.st_mode)
            for each in stats
        )

    def _new_contexts(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        if not self._chain.exists():
            raise RefusedError(
                Code.INVALID_STATE,
                f"host {self._fqdn} has no certificate",
                "have one issued and installed (configure_hosts) first",
            )
        try:
            chain = read_secret(self._chain, FILE_BYTES_MAX).decode("ascii")
            root = read_secret(self._root, FILE_BYTES_MAX).decode("ascii")
            key = read_secret(self._key, FILE_BYTES_MAX)
            return (
                server_context(chain, key, client_ca_pems=(root,), require_client=True),
                client_context(root, chain_pem=chain, key_pem=key),
            )
        except (ProgramError, TlsMaterialError, UnicodeDecodeError) as error:
            raise RefusedError(
                Code.NOT_AVAILABLE,
                f"the certificate files of host {self._fqdn} cannot be used: {error}",
                "have a certificate issued and installed again",
            ) from error

    def _fits(self, leaf: x509.Certificate) -> bool:
        own = load_private_key(read_secret(self._key, FILE_BYTES_MAX)).public_key()
        form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return own.public_bytes(*form) == leaf.public_key().public_bytes(*form)


def _first(chain_pem: str) -> str:
    head, end, _ = chain_pem.partition(_END)
    return head + end


def _each(chain_pem: str) -> list[str]:
    """Return the certificates of a chain, one at least, be it a damaged one."""
    parts = chain_pem.split(_END)
    return [part + _END for part in parts[:-1]][:CHAIN_MAX] or [chain_pem]
