"""Registered servers, what they manage, and whether they are there."""

from datetime import timedelta

from service_hub.domain.errors import NotFoundError
from service_hub.domain.records import (
    FabricInventory,
    ProtectedItem,
    Provider,
    ProviderContact,
    Vault,
)
from service_hub.ports.stores import WideReader
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import FabricFacts, FabricPresence, SeenFabric, ServerFacts


class FabricService:
    """The FabricUseCases and the Liveness of the hub's ports."""

    def __init__(self, *, reader: WideReader, clock: Clock, lease: timedelta) -> None:
        self._reader = reader
        self._clock = clock
        self._lease = lease

    async def list(self, vault: Vault) -> list[FabricFacts]:
        """Return all registered servers of a vault."""
        providers = await self._reader.find(Provider, vault_id=vault.id)
        return [
            await self.facts(found.record)
            for found in providers
            if found.record.registered_at is not None
        ]

    async def find(self, vault: Vault, fabric_name: str) -> FabricFacts:
        """Return one by its 64-hex name."""
        found = await self._reader.find(Provider, vault_id=vault.id, fabric_name=fabric_name)
        if not found or found[0].record.registered_at is None:
            raise NotFoundError(fabric_name)
        return await self.facts(found[0].record)

    async def facts(self, provider: Provider) -> FabricFacts:
        """Return what is known of one provider's fabric."""
        seen = await self._seen(provider)
        return FabricFacts(
            provider=provider,
            inventory=seen.inventory,
            last_contact_at=seen.last_contact_at,
            connected=seen.connected,
            protected_item_count=await self._reader.count(
                ProtectedItem, primary_provider_id=provider.id
            ),
        )

    async def facts_by_id(self, provider_id: str) -> SeenFabric:
        """Return what is known of a provider's fabric; NotFoundError.

        For each item: what else is protected on it is not counted.
        """
        found = await self._reader.get(Provider, provider_id)
        if found is None:
            raise NotFoundError(provider_id)
        return await self._seen(found.record)

    async def _seen(self, provider: Provider) -> SeenFabric:
        inventory = await self._reader.get(FabricInventory, provider.id)
        contact = await self._reader.get(ProviderContact, provider.id)
        return SeenFabric(
            provider=provider,
            inventory=None if inventory is None else inventory.record,
            last_contact_at=None if contact is None else contact.record.last_contact_at,
            connected=await self.connected(provider.id),
        )

    async def server(self, provider_id: str) -> ServerFacts:
        """Return a server and what it manages; NotFoundError.

        For each job of a plan: whether it is there, and what is protected on it, is not asked.
        """
        found = await self._reader.get(Provider, provider_id)
        if found is None:
            raise NotFoundError(provider_id)
        inventory = await self._reader.get(FabricInventory, provider_id)
        return ServerFacts(found.record, None if inventory is None else inventory.record)

    async def presence(self, provider_id: str) -> FabricPresence:
        """Return who a provider is and whether it is there; NotFoundError.

        Checks ask this for every machine of a plan: what a server manages is not read for it.
        """
        found = await self._reader.get(Provider, provider_id)
        if found is None:
            raise NotFoundError(provider_id)
        contact = await self._reader.get(ProviderContact, provider_id)
        heard = None if contact is None else contact.record.last_contact_at
        return FabricPresence(found.record, heard, await self.connected(provider_id))

    async def connected(self, provider_id: str) -> bool:
        """Return whether any authenticated contact was within the lease (channel.md, presence).

        Whose certificates were revoked is away at once, whatever its lease says.
        """
        contact = await self._reader.get(ProviderContact, provider_id)
        if contact is None or contact.record.cut_off_at is not None:
            return False
        return self._clock.now() - contact.record.last_contact_at <= self._lease
