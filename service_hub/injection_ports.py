"""What the injection of events needs, and what it offers (see ports)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pydantic import JsonValue

from service_hub.domain.errors import DomainError
from service_hub.domain.injections import Injection, InjectionKind
from service_hub.domain.records import Vault
from service_hub.looker_ports import Preview
from service_hub.ports.use_cases import RequestIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectionRequest:
    """What somebody wants injected; neither `at` nor `cron`: now."""

    event: InjectionKind
    target: str
    arguments: Mapping[str, JsonValue]
    at: datetime | None = None
    cron: str | None = None


@dataclass(frozen=True, slots=True)
class Injector:
    """Who asks: the holder of a token, what identifies the request, and its signature if any."""

    principal: str
    role: str
    request_id: str | None = None
    operator_signature: str | None = None
    account: str | None = None
    """The service account, if it is one: it must still be there when a schedule is due."""


class SurfaceRefusalError(DomainError):
    """A request that the hub made itself was refused; `status` and `code` as the surface says."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class OperationRequests(Protocol):
    """Requests of operators, made by the hub itself: the same route, body, table and events."""

    async def check(self, vault: Vault, event: InjectionKind, target: str) -> None:
        """Return when there is what the request is about; NotFoundError, InvalidRequestError."""

    async def check_body(
        self,
        vault: Vault,
        event: InjectionKind,
        target: str,
        arguments: Mapping[str, JsonValue],
    ) -> None:
        """Return when the surface would take these properties; else a SurfaceRefusalError.

        Whether the state allows it is not looked at: that is for when it is due.
        """

    async def begin(
        self,
        vault: Vault,
        event: InjectionKind,
        target: str,
        arguments: Mapping[str, JsonValue],
        identity: RequestIdentity,
    ) -> str:
        """Make the request; the id of its job.

        A container or fabric stands for its items that allow this now. What the surface refuses is
        a SurfaceRefusalError.
        """

    async def foresee(
        self,
        vault: Vault,
        event: InjectionKind,
        target: str,
        arguments: Mapping[str, JsonValue],
    ) -> Preview:
        """Return what the request would do, without changing anything."""

    def fabric_of(self, vault: Vault, target: str) -> str:
        """Return the name of the fabric that an id names or lies in; InvalidRequestError."""


class Laboratory(Protocol):
    """The management ports of simulated sites; a hub outside a laboratory knows none."""

    def knows(self, vmm_fqdn: str) -> bool:
        """Return whether the site of this VMM server is a laboratory's."""

    async def inject(
        self, vmm_fqdn: str, event: InjectionKind, arguments: Mapping[str, JsonValue]
    ) -> None:
        """Have it happen; doing it again changes nothing. LaboratoryError says why it did not."""


class LaboratoryError(Exception):
    """A site did not do what was injected; the message names cause and remedy."""


class InjectionUseCases(Protocol):
    """Injected events."""

    async def inject(self, vault: Vault, request: InjectionRequest, who: Injector) -> Injection:
        """Store it, and begin it when it is due now; any refusal is a DomainError."""

    async def check(self, vault: Vault, request: InjectionRequest) -> None:
        """Return when it can be injected; otherwise a DomainError says why not."""

    async def foresee(self, vault: Vault, request: InjectionRequest) -> Preview:
        """Return what it would do; nothing is stored."""

    async def list(self, vault: Vault) -> list[Injection]:
        """Return all of a vault, the newest first."""

    async def find(self, vault: Vault, injection_id: str) -> Injection:
        """Return one; NotFoundError."""

    async def cancel(self, vault: Vault, injection_id: str, principal: str) -> Injection:
        """Have nothing more come of it; ConflictError where nothing would."""
