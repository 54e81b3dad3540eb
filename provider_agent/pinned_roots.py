"""The hub's roots that this server trusts; they change while it runs (design: channel, trust)."""

from dataclasses import replace
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from certs.roots import RootsRefusedError, certificates_of, thumbprints_of, verify_roots
from certs.signing import EventVerifier
from provider_agent import credentials
from provider_agent.credentials import Identity
from provider_agent.wake import Wake
from service_shell.clock import Clock
from service_shell.errors import ProgramError

log = structlog.get_logger(__name__)


class PinnedRoots:
    """What is pinned, in memory and on disk; only a pinned root can change it."""

    def __init__(
        self, identity: Identity, verifier: EventVerifier, clock: Clock, data_directory: Path
    ) -> None:
        self.pem = identity.root_pem
        self._facts = identity.facts
        self._verifier = verifier
        self._clock = clock
        self._data_directory = data_directory
        self.renewal_due = Wake()
        """Set when connections, or the certificate too, must change because roots have."""
        self.renewal_wanted = False
        """Whether the hub knows that the newest root is pinned, and the certificate is older."""

    @property
    def serial(self) -> int:
        """The number of the newest statement that was taken."""
        return self._facts.roots_serial

    @property
    def thumbprints(self) -> tuple[str, ...]:
        """What the hub is told."""
        return thumbprints_of(self.pem)

    def pinned(self, identity: Identity) -> Identity:
        """Return the identity with the roots of now."""
        facts = identity.facts.model_copy(update={"roots_serial": self.serial})
        return replace(identity, root_pem=self.pem, facts=facts)

    def take(self, statement: str) -> bool:
        """Pin what a statement says, durably; false when it says nothing new or is refused."""
        try:
            roots = verify_roots(statement, self.pem, self._clock.now())
        except RootsRefusedError as error:
            log.error("roots_refused", cause=str(error))  # noqa: TRY400 -- it says all
            return False
        if roots.serial <= self.serial:
            return False
        facts = self._facts.model_copy(update={"roots_serial": roots.serial})
        try:
            credentials.save_roots(self._data_directory, roots.pem, facts)
        except ProgramError as error:
            # Not pinned: the next session brings the same statement again.
            log.error("roots_not_saved", cause=str(error))  # noqa: TRY400 -- it says all
            return False
        self.pem, self._facts = roots.pem, facts
        self._verifier.trust(roots.pem)
        self.renewal_due.set()
        log.info("roots_pinned", serial=roots.serial, roots=list(roots.thumbprints))
        return True

    def confirmed(self, told: tuple[str, ...]) -> None:
        """Note that the hub was told of these roots: it issues below the newest of them now."""
        if told == self.thumbprints and len(told) > 1:
            self.renewal_wanted = True
            self.renewal_due.set()

    def is_newest(self, chain_pem: str) -> bool:
        """Return whether a chain (leaf, then authority) hangs below the newest root."""
        root = certificates_of(self.pem)[-1]
        try:
            x509.load_pem_x509_certificates(chain_pem.encode())[-1].verify_directly_issued_by(root)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True
