"""Gathers the facts that a job on an item is made from: for the job itself, and for previews."""

from service_hub.domain.errors import InvalidRequestError, NotFoundError
from service_hub.domain.planning import ItemPlan
from service_hub.domain.protection import ProtectionState
from service_hub.domain.records import (
    ContainerMapping,
    FormerItem,
    ProtectedItem,
    ReplicationPolicy,
    Vault,
)
from service_hub.domain.taking_over import relationship_to_take_over, taking_over
from service_hub.ports.changes import Versioned
from service_hub.ports.stores import Reader
from service_hub.ports.use_cases import ServerFacts
from service_hub.services.fabrics import FabricService
from service_hub.services.mapping_facts import MappingReader
from wire_contract.cluster_names import broker_of
from wire_contract.operator_signature import FIRST_EPOCH
from wire_contract.vmm_interface import MachineView


class ItemPlans:
    """Reads items and what surrounds them; changes nothing."""

    def __init__(self, *, reader: Reader, fabrics: FabricService) -> None:
        self._reader = reader
        self._fabrics = fabrics
        self._mapped = MappingReader(reader=reader)

    async def item(self, vault: Vault, item_name: str) -> Versioned[ProtectedItem]:
        """Return an item of the vault; NotFoundError."""
        found = await self._reader.get(ProtectedItem, item_name.lower())
        if found is None or found.record.vault_id != vault.id:
            raise NotFoundError(item_name)
        return found

    async def mapping(
        self, vault: Vault, cloud_id: str, policy_name: str | None
    ) -> ContainerMapping:
        """Return the pairing of a cloud under a policy, or under any; InvalidRequestError."""
        policy_id = None
        if policy_name is not None:
            found = await self._reader.find(ReplicationPolicy, vault_id=vault.id, name=policy_name)
            if not found:
                raise NotFoundError(policy_name)
            policy_id = found[0].record.id
        for each in await self._reader.find(ContainerMapping, primary_cloud_id=cloud_id):
            mapping = each.record
            fits = policy_id is None or mapping.policy_id == policy_id
            if fits and mapping.mapping_state == "Paired" and mapping.vault_id == vault.id:
                return mapping
        under = "" if policy_name is None else f" under the policy '{policy_name}'"
        raise InvalidRequestError(
            f"the cloud is not paired{under}: create a protection container mapping first and wait"
            " for its job",
            "policyId",
        )

    async def new(
        self,
        vault: Vault,
        machine: MachineView,
        mapping: ContainerMapping,
        facts: ServerFacts,
        ids: tuple[str, str],
    ) -> ProtectedItem:
        """Return the item of a machine that is not protected; one that replicates is taken over.

        `ids`: of its replica and relationship, where they are new.
        """
        former = await self._reader.get(FormerItem, machine.machine_id)
        known = None if former is None else former.record
        item = new_item(vault, machine, mapping, facts, ids, former=known)
        recovery = await self._fabrics.server(mapping.recovery_provider_id)
        view = None if recovery.inventory is None else recovery.inventory.view
        present = relationship_to_take_over(machine, view, mapping.recovery_cloud_id)
        if known is not None and not _seen_since(known, facts, recovery):
            present = None
        return item if present is None else taking_over(item, present)

    async def plan(self, item: ProtectedItem, machine: MachineView | None) -> ItemPlan:
        """Return the facts for a job on an item; `machine` is what enabling protects.

        Its machines are on the hosts that their servers tell of now: they move live.
        """
        policy = await self._reader.get(ReplicationPolicy, item.policy_id)
        primary = await self._fabrics.server(item.primary_provider_id)
        recovery = await self._fabrics.server(item.recovery_provider_id)
        if policy is None:
            raise NotFoundError(item.policy_id)
        item = _where_it_is(item, primary, recovery)
        clouds = {
            cloud.cloud_id: cloud.friendly_name
            for facts in (primary, recovery)
            if facts.inventory is not None
            for cloud in facts.inventory.view.clouds
        }
        versions = {
            host.fqdn: host.version
            for facts in (primary, recovery)
            if facts.inventory is not None
            for host in facts.inventory.view.hosts
        }
        return ItemPlan(
            item,
            policy.record,
            primary.provider,
            recovery.provider,
            clouds,
            machine,
            versions,
            await self._mapped.of_item(item, primary, recovery, machine),
            _broker(primary, item.primary_host),
        )


def _where_it_is(item: ProtectedItem, primary: ServerFacts, recovery: ServerFacts) -> ProtectedItem:
    """Return the item with the hosts of its machines, as far as their servers tell of them."""
    return item.model_copy(
        update={
            "primary_host": _host(primary, item.primary_machine_id) or item.primary_host,
            "recovery_host": _host(recovery, item.recovery_machine_id) or item.recovery_host,
        }
    )


def _host(facts: ServerFacts, machine_id: str) -> str | None:
    if facts.inventory is None:
        return None
    machines = facts.inventory.view.machines
    return next((each.host for each in machines if each.machine_id == machine_id), None)


def _broker(facts: ServerFacts, fqdn: str) -> str | None:
    """Return the replica broker of the cluster that a host is a node of; None: of none."""
    if facts.inventory is None:
        return None
    view = facts.inventory.view
    host = next((each for each in view.hosts if each.fqdn == fqdn), None)
    return None if host is None else broker_of(host, view.clusters)


def _seen_since(former: FormerItem, *ends: ServerFacts) -> bool:
    """Whether both ends have shown what there is after the protection of before had ended.

    What they showed until then is the relationship that was ended.
    """
    ended_at = former.ended_at
    if ended_at is None:
        return True
    return all(end.inventory is not None and end.inventory.observed_at > ended_at for end in ends)


def new_item(
    vault: Vault,
    machine: MachineView,
    mapping: ContainerMapping,
    facts: ServerFacts,
    ids: tuple[str, str],
    *,
    former: FormerItem | None = None,
) -> ProtectedItem:
    """Return the item of a machine that is not protected; `ids`: of replica and relationship.

    `former`: it was before; no command of then counts any more.
    """
    return ProtectedItem(
        id=machine.machine_id,
        vault_id=vault.id,
        friendly_name=machine.name,
        mapping_id=mapping.id,
        policy_id=mapping.policy_id,
        primary_provider_id=facts.provider.id,
        primary_cloud_id=mapping.primary_cloud_id,
        primary_machine_id=machine.machine_id,
        primary_host=machine.host,
        recovery_provider_id=mapping.recovery_provider_id,
        recovery_cloud_id=mapping.recovery_cloud_id,
        recovery_machine_id=ids[0],
        relationship_id=ids[1],
        state=ProtectionState.UNPROTECTED,
        epoch=max(FIRST_EPOCH, machine.epoch) if former is None else former.epoch + 1,
    )
