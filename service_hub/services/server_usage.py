"""What still needs a registered server, and what a purge of it would leave; changes nothing."""

from typing import Final, TypeVar

from service_hub.domain.mapping_records import NetworkMapping, StorageMapping
from service_hub.domain.records import ContainerMapping, ProtectedItem, Provider
from service_hub.domain.servers import left_by, title_of, usage_of
from service_hub.ports.stores import Reader
from service_hub.ports.use_cases import FabricFacts

UNDER_WAY: Final = frozenset({"PairingInProgress", "UnpairingInProgress"})
M = TypeVar("M", NetworkMapping, StorageMapping)


class ServerUsage:
    """Reads what refers to a server: for its removal, its purge, and previews of both."""

    def __init__(self, *, reader: Reader) -> None:
        self._reader = reader

    async def usage(self, provider: Provider) -> str | None:
        """Return in words what still needs a server, or None."""
        items, pairs = await self._items(provider), await self.mappings(provider)
        return usage_of(items, pairs, await self.mapped(NetworkMapping, provider))

    async def left_with_partners(self, provider: Provider) -> list[tuple[str, str, str]]:
        """Return what a purge leaves with others: partner, its cloud, the cloud that is gone."""
        return left_by(provider, await self.mappings(provider))

    async def refusal_of_purge(self, facts: FabricFacts) -> str | None:
        """Return why a server may not be forgotten at once, or None.

        Who is connected is removed instead; machines that are protected, and a pairing under way,
        hold back even a purge.
        """
        provider = facts.provider
        if facts.connected:
            return (
                f"The server {title_of(provider)} is connected: remove it, so that its provider"
                " cleans up; or stop its provider and purge it once it counts as disconnected."
            )
        mappings = await self.mappings(provider)
        under_way = any(each.mapping_state in UNDER_WAY for each in mappings)
        if under_way or await self._items(provider):
            return await self.refusal_in_use(provider)
        return None

    async def refusal_in_use(self, provider: Provider) -> str | None:
        """Return why a server that is still needed is not deleted, or None."""
        usage = await self.usage(provider)
        if usage is None:
            return None
        return (
            f"The server {title_of(provider)} can't be deleted, it is still in use: {usage}."
            " End the protection of its machines first, by force where the server is gone, and"
            " remove its pairings."
        )

    async def mappings(self, provider: Provider) -> list[ContainerMapping]:
        """Return the pairings of a server."""
        found = await self._reader.find(ContainerMapping, vault_id=provider.vault_id)
        return [
            each.record
            for each in found
            if provider.id in {each.record.primary_provider_id, each.record.recovery_provider_id}
        ]

    async def mapped(self, kind: type[M], provider: Provider) -> list[M]:
        """Return the network or storage mappings that name a server, at either end."""
        return [
            each.record
            for each in await self._reader.find(kind, vault_id=provider.vault_id)
            if provider.id in {each.record.primary_provider_id, each.record.recovery_provider_id}
        ]

    async def _items(self, provider: Provider) -> list[ProtectedItem]:
        items = {
            found.record.id: found.record
            for column in ("primary_provider_id", "recovery_provider_id")
            for found in await self._reader.find(ProtectedItem, **{column: provider.id})
        }
        return [*items.values()]
