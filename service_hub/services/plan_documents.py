"""Recovery plans as documents: exported by names, imported with the ids of this vault."""

from collections.abc import Sequence

from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.jobs import Job
from service_hub.domain.plan_documents import document_of, groups_of_document
from service_hub.domain.records import ProtectedItem, Provider, Vault
from service_hub.domain.servers import title_of
from service_hub.plan_ports import PlanContent, RecoveryPlanUseCases
from service_hub.ports.stores import Reader
from service_hub.ports.use_cases import RequestIdentity
from wire_contract.plan_documents import PlanDocument
from wire_contract.vocabulary import Side


class PlanDocumentService:
    """The PlanDocumentUseCases of the plan ports; saving is left to `plans`."""

    def __init__(self, *, reader: Reader, plans: RecoveryPlanUseCases) -> None:
        self._reader = reader
        self._plans = plans

    async def export(self, vault: Vault, name: str) -> PlanDocument:
        """Return a plan with the names of its servers and machines; NotFoundError."""
        plan = (await self._plans.find(vault, name)).plan
        ends = (plan.primary_provider_id, plan.recovery_provider_id)
        servers = dict(zip(Side, [await self._title(each) for each in ends], strict=True))
        return document_of(plan, servers, await self._between(vault, ends))

    async def take_in(
        self, vault: Vault, name: str, document: PlanDocument, identity: RequestIdentity
    ) -> Job:
        """Save the plan of a document under a name by a job; InvalidRequestError names the place.

        One that is there gets these groups; it keeps its two servers.
        """
        primary = await self._server(vault, document.primary, "primary")
        recovery = await self._server(vault, document.recovery, "recovery")
        known = await self._between(vault, (primary.id, recovery.id))
        content = PlanContent(
            groups=groups_of_document(document, known),
            primary_fabric=primary.fabric_name,
            recovery_fabric=recovery.fabric_name,
        )
        return await self._plans.save(vault, name, content, identity)

    async def _title(self, provider_id: str) -> str:
        found = await self._reader.get(Provider, provider_id)
        return provider_id if found is None else title_of(found.record)

    async def _server(self, vault: Vault, name: str, place: str) -> Provider:
        """Return the registered server of this name, fabric name, domain name or id."""
        wanted, matches = name.casefold(), []
        servers = [each.record for each in await self._reader.find(Provider, vault_id=vault.id)]
        registered = [each for each in servers if each.registered_at is not None]
        for each in registered:
            names = (title_of(each), each.fabric_name, each.vmm_fqdn, each.vmm_id, each.id)
            if wanted in {text.casefold() for text in names}:
                matches.append(each)
        if len(matches) == 1:
            return matches[0]
        there = ", ".join(f"'{title_of(each)}'" for each in registered) or "none"
        raise InvalidRequestError(
            f"{len(matches) or 'No'} servers of this vault are called '{name}'; there are: {there}."
            " Write the name of one of them into the document.",
            place,
        )

    async def _between(self, vault: Vault, ends: tuple[str, str]) -> Sequence[ProtectedItem]:
        primary, recovery = ends
        found = await self._reader.find(
            ProtectedItem,
            vault_id=vault.id,
            primary_provider_id=primary,
            recovery_provider_id=recovery,
        )
        return [each.record for each in found]
