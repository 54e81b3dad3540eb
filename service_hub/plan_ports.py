"""Recovery plans, as the edges see them (see ports)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import JsonValue

from service_hub.domain.jobs import Job, JobState
from service_hub.domain.plans import PlanRequest
from service_hub.domain.protection import Operation
from service_hub.domain.records import ProtectedItem, Provider, Vault
from service_hub.domain.recovery_plans import RecoveryGroup, RecoveryPlan
from service_hub.ports.use_cases import RequestIdentity
from wire_contract.plan_documents import PlanDocument


@dataclass(frozen=True, slots=True)
class PlanContent:
    """A plan as it is to be saved; fabrics by their names, None: as the plan has them."""

    groups: tuple[RecoveryGroup, ...]
    primary_fabric: str | None = None
    recovery_fabric: str | None = None


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """A plan with all that its rendering needs; `items` are those of its machines, by id.

    `allowed`: what all of them allow now. `run_state`: of the job that runs, else of the last one;
    None where the plan never ran.
    """

    plan: RecoveryPlan
    primary: Provider | None
    recovery: Provider | None
    items: Mapping[str, ProtectedItem]
    allowed: tuple[Operation, ...]
    run_state: JobState | None = None


class RecoveryPlanUseCases(Protocol):
    """Recovery plans and their runs."""

    async def find(self, vault: Vault, name: str) -> PlanFacts:
        """Return one, names compared without case; NotFoundError."""

    async def list(self, vault: Vault) -> Sequence[PlanFacts]:
        """Return all of a vault."""

    async def save(
        self, vault: Vault, name: str, content: PlanContent, identity: RequestIdentity
    ) -> Job:
        """Create a plan or replace its groups by a job; InvalidRequestError names the place."""

    async def delete(self, vault: Vault, name: str, identity: RequestIdentity) -> Job:
        """Delete a plan by a job; its machines stay as they are. NotFoundError."""

    async def run(
        self,
        vault: Vault,
        name: str,
        operation: Operation,
        arguments: Mapping[str, JsonValue],
        identity: RequestIdentity,
    ) -> Job:
        """Begin an operation on all machines of a plan; a refusal is a job that failed.

        `arguments` as of an item's operation (ports: ProtectionUseCases).
        """

    async def run_together(
        self, vault: Vault, request: PlanRequest, identity: RequestIdentity
    ) -> Job:
        """Begin an operation on machines that no plan was saved of; a refusal is a failed job."""

    async def request_of(
        self, vault: Vault, name: str, operation: Operation, arguments: Mapping[str, JsonValue]
    ) -> PlanRequest:
        """Return what a run would be asked to do now, for previews."""


class PlanDocumentUseCases(Protocol):
    """Recovery plans as documents."""

    async def export(self, vault: Vault, name: str) -> PlanDocument:
        """Return a plan with the names of its servers and machines; NotFoundError."""

    async def take_in(
        self, vault: Vault, name: str, document: PlanDocument, identity: RequestIdentity
    ) -> Job:
        """Save the plan of a document under a name by a job; InvalidRequestError names the place.

        One that is there gets these groups; it keeps its two servers.
        """
