"""Network mappings: mapped, changed and removed by jobs; replicas that are there follow at once."""

from service_hub.domain.errors import InvalidRequestError, NotFoundError
from service_hub.domain.jobs import Job
from service_hub.domain.mapping_jobs import (
    MAP_NETWORK,
    UNMAP_NETWORK,
    Ends,
    follows_at_once,
    network_job,
)
from service_hub.domain.mapping_records import NetworkMapping, mapping_id
from service_hub.domain.network_mapping import (
    NetworkOffer,
    adapters_on,
    offers,
    pairs_of,
)
from service_hub.domain.planning import JobIdentity
from service_hub.domain.records import ProtectedItem, Vault
from service_hub.ports.running import JobRunner
from service_hub.ports.stores import Reader
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import FabricFacts, FabricUseCases, RequestIdentity
from service_hub.services.mapping_facts import (
    MappingReader,
    found_network,
    is_named,
    named_between,
    network_in,
    networks_of,
    server_of,
)
from service_hub.services.policies import activity
from service_hub.services.requests import RequestLedger
from wire_contract.vocabulary import Side


class NetworkMappingService:
    """The NetworkMappingUseCases of the mapping ports."""

    def __init__(
        self,
        *,
        reader: Reader,
        runner: JobRunner,
        clock: Clock,
        fabrics: FabricUseCases,
        requests: RequestLedger,
    ) -> None:
        self._reader = reader
        self._runner = runner
        self._clock = clock
        self._fabrics = fabrics
        self._requests = requests
        self._mapped = MappingReader(reader=reader)

    async def list(self, vault: Vault) -> list[NetworkMapping]:
        """Return all of a vault."""
        return await self._mapped.networks(vault)

    async def map(
        self,
        vault: Vault,
        *,
        name: str,
        primary: tuple[str, str],
        recovery: tuple[str, str] | None,
        identity: RequestIdentity,
        must_exist: bool = False,
    ) -> Job:
        """Map a network, or change its map, by a job; who may not, its first task says."""

        async def decide() -> Job:
            fabric = await self._fabrics.find(vault, primary[0])
            source = found_network(fabric, primary[1])
            known = [
                each
                for each in await self.list(vault)
                if is_named(each, fabric, source.network_id, name)
            ]
            if must_exist and not known:
                raise NotFoundError(name)
            if recovery is None:
                if not known:
                    raise InvalidRequestError(
                        "a new map needs the network to map to", "properties.recoveryNetworkId"
                    )
                target = await server_of(self._fabrics, vault, known[0].recovery_provider_id)
                target_id = known[0].recovery_network_id
            else:
                target = await self._fabrics.find(vault, recovery[0])
                target_id = found_network(target, recovery[1]).network_id
            if any(each.recovery_provider_id != target.provider.id for each in known):
                raise InvalidRequestError(
                    f"the mapping '{name}' is to another server: remove it first, or use another"
                    " name",
                    "properties.recoveryNetworkId",
                )
            mapping = NetworkMapping(
                id=mapping_id(vault.id, fabric.provider.id, source.network_id, target.provider.id),
                vault_id=vault.id,
                name=name,
                primary_provider_id=fabric.provider.id,
                primary_network_id=source.network_id,
                recovery_provider_id=target.provider.id,
                recovery_network_id=target_id,
            )
            return await self._begin(MAP_NETWORK, mapping, fabric, target, identity)

        return await self._requests.once(identity, decide)

    async def unmap(
        self, vault: Vault, *, name: str, primary: tuple[str, str], identity: RequestIdentity
    ) -> Job:
        """Remove a map by a job that then disconnects what it had connected."""

        async def decide() -> Job:
            mapping, fabric, target = await named_between(
                self._fabrics, vault, await self.list(vault), primary, name
            )
            return await self._begin(UNMAP_NETWORK, mapping, fabric, target, identity)

        return await self._requests.once(identity, decide)

    async def offers(
        self, vault: Vault, *, primary: tuple[str, str], recovery_fabric: str
    ) -> tuple[NetworkOffer, ...]:
        """Return what a network may be mapped to at a server, and for which of its clouds."""
        fabric = await self._fabrics.find(vault, primary[0])
        target = await self._fabrics.find(vault, recovery_fabric)
        pairs = await self._mapped.pairs(vault.id, fabric.provider.id, target.provider.id)
        return offers(found_network(fabric, primary[1]), pairs, networks_of(target))

    async def _begin(
        self,
        key: str,
        mapping: NetworkMapping,
        primary: FabricFacts,
        recovery: FabricFacts,
        identity: RequestIdentity,
    ) -> Job:
        source = network_in(primary, mapping.primary_network_id)
        target = network_in(recovery, mapping.recovery_network_id)
        ends = Ends(
            primary.provider,
            recovery.provider,
            (mapping.primary_network_id, "" if source is None else source.friendly_name),
            (mapping.recovery_network_id, "" if target is None else target.friendly_name),
        )
        job = network_job(
            key,
            mapping,
            ends,
            await self._adapters_of(mapping),
            JobIdentity(self._clock.new_id(), activity(identity), self._clock.now()),
        )
        await self._runner.start(job, self._requests.remember(identity, job))
        return job

    async def _adapters_of(self, mapping: NetworkMapping) -> dict[str, tuple[str, ...]]:
        """Return the replicas that follow at once, with their adapters on the mapped network."""
        found = await self._reader.find(
            ProtectedItem, primary_provider_id=mapping.primary_provider_id
        )
        followers: dict[str, tuple[str, ...]] = {}
        for item in (each.record for each in found):
            if item.recovery_provider_id != mapping.recovery_provider_id:
                continue
            if not follows_at_once(item):
                continue
            machine = await self._mapped.machine(item, Side.PRIMARY)
            adapters = adapters_on(mapping.primary_network_id, machine)
            if adapters:
                replica = await self._mapped.machine(item, Side.RECOVERY)
                pairs = pairs_of(item.recovery_machine_id, machine, replica)
                followers[item.id] = tuple(pairs[each] for each in adapters)
        return followers
