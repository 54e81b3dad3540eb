"""Gathers the facts that a job on a pair of clouds is made from; changes nothing."""

from collections.abc import Mapping
from typing import Final, Protocol

from service_hub.domain.errors import NotFoundError
from service_hub.domain.jobs import Job
from service_hub.domain.pairs import PairFacts
from service_hub.domain.records import ContainerMapping, ReplicationPolicy
from service_hub.ports.stores import Reader
from service_hub.ports.use_cases import SeenFabric
from wire_contract.cluster_names import ClusterNodes, clusters_of
from wire_contract.vmm_interface import CloudView, InventoryView
from wire_contract.vocabulary import Side

SITE_OF: Final[Mapping[str, Side]] = {"primary": Side.PRIMARY, "recovery": Side.RECOVERY}


class FabricsById(Protocol):
    """Finds registered servers by the ids of their providers."""

    async def facts_by_id(self, provider_id: str) -> SeenFabric:
        """Return one; NotFoundError."""


class PairReader:
    """Reads mappings and what surrounds them."""

    def __init__(self, *, reader: Reader, fabrics: FabricsById) -> None:
        self._reader = reader
        self._fabrics = fabrics

    async def holder(self, mapping: ContainerMapping) -> Job | None:
        """Return the newest job on a mapping, None where it is not kept any more."""
        if mapping.job_id is None:
            return None
        found = await self._reader.get(Job, mapping.job_id)
        return None if found is None else found.record

    async def ends(self, mapping: ContainerMapping) -> dict[Side, SeenFabric]:
        """Return both servers of a mapping; NotFoundError."""
        return {
            Side.PRIMARY: await self._fabrics.facts_by_id(mapping.primary_provider_id),
            Side.RECOVERY: await self._fabrics.facts_by_id(mapping.recovery_provider_id),
        }

    async def facts(self, mapping: ContainerMapping) -> PairFacts:
        """Return what a job on a mapping is made from.

        A cloud that its server does not tell of any more is shown by its id, without hosts.
        """
        policy = await self._reader.get(ReplicationPolicy, mapping.policy_id)
        if policy is None:
            raise NotFoundError(mapping.policy_id)
        ends = await self.ends(mapping)
        ids = {
            Side.PRIMARY: mapping.primary_cloud_id,
            Side.RECOVERY: mapping.recovery_cloud_id,
        }
        clouds = {side: _cloud_or_nothing(ends[side], ids[side]) for side in Side}
        shown = affected(policy.record, ends, clouds)
        return PairFacts(mapping, policy.record, clouds, shown, clusters_at(ends, clouds))


def cloud_in(view: InventoryView, cloud_id: str) -> CloudView | None:
    """Return a cloud of an inventory, ids compared without case, or None."""
    wanted = cloud_id.lower()
    return next((each for each in view.clouds if each.cloud_id.lower() == wanted), None)


def cloud_of(facts: SeenFabric, cloud_id: str) -> CloudView:
    """Return a cloud of a fabric by its id; NotFoundError."""
    found = None if facts.inventory is None else cloud_in(facts.inventory.view, cloud_id)
    if found is None:
        raise NotFoundError(cloud_id)
    return found


def affected(
    policy: ReplicationPolicy,
    ends: Mapping[Side, SeenFabric],
    clouds: Mapping[Side, CloudView],
) -> dict[str, str]:
    """Return affectedObjectDetails of a job on a pair."""
    result = {"protectionProfileId": policy.id}
    for word, side in SITE_OF.items():
        provider = ends[side].provider
        result[f"{word}CloudId"] = clouds[side].cloud_id
        result[f"{word}CloudName"] = clouds[side].friendly_name
        result[f"{word}VmmId"] = provider.vmm_id
        result[f"{word}VmmName"] = provider.friendly_name
        result[f"{word}FabricProviderId"] = "VMM"
    return result


def clusters_at(
    ends: Mapping[Side, SeenFabric], clouds: Mapping[Side, CloudView]
) -> dict[Side, tuple[ClusterNodes, ...]]:
    """Return the clusters of both ends, as their servers tell of them now."""
    return {
        side: clusters_of(facts.inventory.view, clouds[side])
        for side, facts in ends.items()
        if facts.inventory is not None
    }


def _cloud_or_nothing(facts: SeenFabric, cloud_id: str) -> CloudView:
    try:
        return cloud_of(facts, cloud_id)
    except NotFoundError:
        return CloudView(
            cloud_id=cloud_id, friendly_name=cloud_id, capability_profile="", host_fqdns=()
        )
