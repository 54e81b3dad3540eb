"""Registration keys and registered servers, as operators and the edges see them (see ports)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from service_hub.domain.jobs import Job
from service_hub.domain.liveness import Stamp
from service_hub.domain.records import ProtectedItem, Provider, RegistrationKey, Vault
from service_hub.domain.waiting import Waiting
from service_hub.ports.changes import Change
from service_hub.ports.channel import UploadedCertificate
from service_hub.ports.use_cases import FabricFacts, RequestIdentity
from wire_contract.vmm_interface import MachineView
from wire_contract.vocabulary import Side


class SignatureUseCases(Protocol):
    """Whether the operations of a vault want an operator's signature."""

    async def require(self, vault_id: str, principal: str, *, required: bool) -> None:
        """Turn it on or off; NotFoundError."""


class KeyState(StrEnum):
    """Whether a registration key may enrol a server now."""

    VALID = "valid"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """A registration key as operators see it: never its private half."""

    key: RegistrationKey
    state: KeyState
    servers_enrolled: int


@dataclass(frozen=True, slots=True)
class IssuedRegistration:
    """A new key's public half, which is kept, and the file with the private one, which is not."""

    certificate: UploadedCertificate
    credentials_file: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new registration key and its vault credentials file, shown once."""

    facts: KeyFacts
    file_name: str
    credentials_file: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """A registered server, and the certificates that it may use now."""

    fabric: FabricFacts
    thumbprints: tuple[str, ...]


class RegistrationIssuer(Protocol):
    """Makes vault credentials files; the registration authority is behind it."""

    def issue(self, vault: Vault, now: datetime) -> IssuedRegistration:
        """Make a key pair and its certificate for one vault, valid 120 hours."""


class RegistrationKeyUseCases(Protocol):
    """The registration keys of a vault."""

    async def create(self, vault: Vault, name: str | None) -> CreatedKey:
        """Make a new key; registered servers are not disturbed. InvalidRequestError: the name."""

    async def list(self, vault: Vault) -> list[KeyFacts]:
        """Return all of a vault, oldest first."""

    async def revoke(self, vault: Vault, thumbprint: str) -> KeyFacts:
        """Let a key enrol nobody any more; repeating it changes nothing. NotFoundError."""


class ServerUseCases(Protocol):
    """Registered servers: looked at, asked again, let go."""

    async def list(self, vault: Vault) -> list[ServerFacts]:
        """Return all of a vault, oldest first."""

    async def remove(self, vault: Vault, fabric_name: str, identity: RequestIdentity) -> Job:
        """Have a connected server clean up and be forgotten; a refusal is a job that failed."""

    async def purge(self, vault: Vault, fabric_name: str) -> None:
        """Forget a disconnected server at once; ConflictError says what is in the way."""

    async def refresh(self, vault: Vault, fabric_name: str, identity: RequestIdentity) -> Job:
        """Ask a server for what it manages now; the job ends when that has come."""


@dataclass(frozen=True, slots=True)
class ShownCopy:
    """One end's copy as its site has shown it since the question arose; None: not at all."""

    server: str
    machine: MachineView | None
    seen_at: datetime | None
    stamp: Stamp | None = None


@dataclass(frozen=True, slots=True)
class AuthorityQuestion:
    """A machine of which a restored hub cannot tell which copy may run.

    `warnings`: what to think of before the copy at that end is chosen.
    """

    item: ProtectedItem
    copies: Mapping[Side, ShownCopy]
    warnings: Mapping[Side, tuple[str, ...]]


class AuthorityUseCases(Protocol):
    """Machines whose authority is in question after a restore."""

    async def list(self, vault_id: str) -> list[AuthorityQuestion]:
        """Return all questions of a vault."""

    async def decide(
        self, vault_id: str, item_id: str, side: Side, principal: str
    ) -> AuthorityQuestion:
        """Make one end authoritative under a new epoch; ConflictError says why not."""


class RegistrationJobs(Protocol):
    """Shows a registration as the jobs that the original shows."""

    async def registered(self, provider: Provider, change: Change) -> None:
        """Store the change that registers a server, together with its jobs."""


class WaitingUseCases(Protocol):
    """Everything that is not final."""

    async def list(self, vault: Vault) -> Sequence[Waiting]:
        """Return all that waits in a vault, what has waited longest first."""
