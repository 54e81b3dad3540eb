"""The use cases of the ports over a hub in memory, and the surface's view of them.

Over 400 lines because every port of the surface is played here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import JsonValue

from service_hub.arm.api import ArmApi
from service_hub.domain.alert_mails import AlertSettings, checked_settings
from service_hub.domain.errors import ConflictError, InvalidRequestError, NotFoundError
from service_hub.domain.jobs import Job
from service_hub.domain.pairs import (
    DELETE_POLICY,
    PAIR,
    UNPAIR,
    PairFacts,
    plan_pair_job,
    plan_stored_change,
)
from service_hub.domain.planning import (
    ItemPlan,
    begin_on_item,
    plan_item_job,
    plan_policy_job,
)
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import (
    ContainerMapping,
    ExtendedInfo,
    ProtectedItem,
    RegistrationKey,
    ReplicationPolicy,
    Vault,
)
from service_hub.domain.servers import plan_server_job, refusal_of_vault_deletion
from service_hub.operator_ports import ServerFacts
from service_hub.ports.use_cases import FabricFacts, ItemFacts, RequestIdentity, UploadedKey
from tests.unit.arm.arm_estate import (
    CLOUDS,
    FABRICS,
    NOW,
    PROVIDER_URL,
    REPLICA,
    KnownTokens,
    machine,
)
from tests.unit.arm.arm_events import MemoryEvents
from tests.unit.arm.arm_hub import MemoryHub
from tests.unit.arm.arm_jobs import MemoryJobs
from tests.unit.arm.arm_mappings import MemoryNetworks, MemoryStorage
from tests.unit.arm.arm_plans import MemoryPlans
from wire_contract.vmm_interface import CloudView
from wire_contract.vocabulary import Side


@dataclass
class MemoryVaults:
    """VaultUseCases."""

    hub: MemoryHub

    async def create(
        self,
        subscription_id: str,
        resource_group: str,
        name: str,
        *,
        location: str,
        tags: dict[str, str],
    ) -> Vault:
        """Create or update a vault."""
        vault = Vault(
            id="0f6f2f6c-7a5b-4b7d-8a56-6f1f5c1f0a11",
            vault_id="0f6f2f6c-7a5b-4b7d-8a56-6f1f5c1f0a11",
            subscription_id=subscription_id,
            resource_group=resource_group,
            name=name,
            location=location,
            resource_number=8726350008099341699,
            created_at=NOW,
            tags=tags,
        )
        self.hub.vaults[name.lower()] = vault
        return vault

    async def find(self, subscription_id: str, resource_group: str, name: str) -> Vault:
        """Return a vault."""
        vault = self.hub.vaults.get(name.lower())
        wanted = (subscription_id.lower(), resource_group.lower())
        if vault is None or wanted != (
            vault.subscription_id.lower(),
            vault.resource_group.lower(),
        ):
            raise NotFoundError(name)
        return vault

    async def list(self, subscription_id: str, resource_group: str | None) -> list[Vault]:
        """Return vaults."""
        return [
            vault
            for vault in self.hub.vaults.values()
            if vault.subscription_id.lower() == subscription_id.lower()
            and (resource_group or vault.resource_group).lower() == vault.resource_group.lower()
        ]

    async def keep_info(
        self, vault: Vault, info: ExtendedInfo, *, only_this: bool = False
    ) -> Vault:
        """Keep extended information."""
        del only_this
        changed = vault.model_copy(update={"extended_info": info})
        self.hub.vaults[vault.name.lower()] = changed
        return changed

    async def retag(self, vault: Vault, tags: dict[str, str], *, only_this: bool = False) -> Vault:
        """Replace the tags of a vault."""
        del only_this
        changed = vault.model_copy(update={"tags": tags})
        self.hub.vaults[vault.name.lower()] = changed
        return changed

    async def delete(self, vault: Vault) -> None:
        """Delete a vault that has no servers; the prepared one has two."""
        if vault.id == "v":
            raise ConflictError(str(refusal_of_vault_deletion(vault, ["vmm1", "vmm2"])))
        del self.hub.vaults[vault.name.lower()]

    async def list_all(self) -> "list[Vault]":  # type: ignore[valid-type]
        """Return every vault."""
        return [*self.hub.vaults.values()]

    async def upload_certificate(self, vault: Vault, name: str, certificate: bytes) -> UploadedKey:
        """Take a certificate."""
        try:
            parsed = x509.load_der_x509_certificate(certificate)
        except ValueError:
            raise InvalidRequestError("no certificate", "properties.certificate") from None
        key = RegistrationKey(
            id="thumbprint",
            vault_id=vault.id,
            name=name,
            certificate_pem=parsed.public_bytes(Encoding.PEM).decode(),
            subject=parsed.subject.rfc4514_string(),
            issuer=parsed.issuer.rfc4514_string(),
            sha1_thumbprint="019FE9BAD18A5A09A5CA53B593AF66331F3054AF",
            resource_number=vault.resource_number,
            created_at=NOW,
            valid_from=NOW,
            expires_at=NOW + timedelta(hours=120),
        )
        return UploadedKey(key, PROVIDER_URL)


@dataclass
class MemoryFabrics:
    """FabricUseCases."""

    hub: MemoryHub

    async def list(self, vault: Vault) -> list[FabricFacts]:
        """Return both."""
        del vault
        return [self.hub.fabric(side) for side in Side]

    async def find(self, vault: Vault, fabric_name: str) -> FabricFacts:
        """Return one."""
        del vault
        for side in Side:
            if FABRICS[side] == fabric_name and fabric_name not in self.hub.gone:
                return self.hub.fabric(side)
        raise NotFoundError(fabric_name)


@dataclass
class MemoryServers:
    """ServerUseCases; a removed server is gone when its job is asked for."""

    hub: MemoryHub

    async def list(self, vault: Vault) -> list[ServerFacts]:
        """Return both."""
        facts = await MemoryFabrics(self.hub).list(vault)
        return [ServerFacts(each, ("thumbprint",)) for each in facts]

    async def remove(self, vault: Vault, fabric_name: str, identity: RequestIdentity) -> Job:
        """Forget a server."""
        job = await self._job("unregister_server", vault, fabric_name, identity)
        self.hub.gone.add(fabric_name)
        return job

    async def purge(self, vault: Vault, fabric_name: str) -> None:
        """Forget a server unless it is connected."""
        facts = await MemoryFabrics(self.hub).find(vault, fabric_name)
        if facts.connected:
            raise ConflictError("The server is connected: remove it.")
        self.hub.gone.add(fabric_name)

    async def refresh(self, vault: Vault, fabric_name: str, identity: RequestIdentity) -> Job:
        """Ask for an inventory."""
        return await self._job("refresh_server", vault, fabric_name, identity)

    async def _job(
        self, key: str, vault: Vault, fabric_name: str, identity: RequestIdentity
    ) -> Job:
        facts = await MemoryFabrics(self.hub).find(vault, fabric_name)
        return self.hub.start(plan_server_job(key, facts.provider, self.hub.identity(identity)))


@dataclass
class MemoryPolicies:
    """PolicyUseCases."""

    hub: MemoryHub

    async def create(
        self, vault: Vault, name: str, settings: Mapping[str, Any], identity: RequestIdentity
    ) -> Job:
        """Create a policy by a job."""
        policy = ReplicationPolicy(id=f"policy-{name}", vault_id=vault.id, name=name, **settings)
        self.hub.policies[name.lower()] = policy
        return self.hub.start(plan_policy_job(policy, self.hub.identity(identity)))

    async def change(
        self, vault: Vault, name: str, settings: Mapping[str, Any], identity: RequestIdentity
    ) -> Job:
        """Change a policy."""
        policy = (await self.find(vault, name)).model_copy(update=dict(settings))
        self.hub.policies[name.lower()] = policy
        return self.hub.start(plan_stored_change(policy, self.hub.identity(identity)))

    async def delete(self, vault: Vault, name: str, identity: RequestIdentity) -> Job:
        """Delete a policy; it is gone when its job is asked for."""
        policy = await self.find(vault, name)
        del self.hub.policies[name.lower()]
        return self.hub.start(plan_policy_job(policy, self.hub.identity(identity), DELETE_POLICY))

    async def find(self, vault: Vault, name: str) -> ReplicationPolicy:
        """Return one."""
        del vault
        if name.lower() not in self.hub.policies:
            raise NotFoundError(name)
        return self.hub.policies[name.lower()]

    async def list(self, vault: Vault) -> list[ReplicationPolicy]:
        """Return all."""
        del vault
        return [*self.hub.policies.values()]


@dataclass
class MemoryPairing:
    """PairingUseCases."""

    hub: MemoryHub

    async def pair(
        self,
        vault: Vault,
        *,
        name: str,
        primary: tuple[str, str],
        recovery: tuple[str, str],
        policy_name: str,
        identity: RequestIdentity,
    ) -> Job:
        """Pair two clouds."""
        policy = await MemoryPolicies(self.hub).find(vault, policy_name)
        for fabric_name, _ in (primary, recovery):
            await MemoryFabrics(self.hub).find(vault, fabric_name)
        ids = self.hub.identity(identity)
        mapping = ContainerMapping(
            id=f"mapping-{name}",
            vault_id=vault.id,
            name=name,
            policy_id=policy.id,
            primary_provider_id="provider-primary",
            primary_cloud_id=primary[1],
            recovery_provider_id="provider-recovery",
            recovery_cloud_id=recovery[1],
            mapping_state="PairingInProgress",
            job_id=ids.job_id,
        )
        self.hub.mappings = [mapping]
        return self.hub.start(plan_pair_job(PAIR, self._facts(mapping, policy), ids))

    async def remove(
        self, vault: Vault, cloud: tuple[str, str], name: str, identity: RequestIdentity
    ) -> Job:
        """Forget a mapping; it is gone when its job is asked for."""
        mapping = await self._find(vault, cloud, name)
        policy = next(each for each in self.hub.policies.values() if each.id == mapping.policy_id)
        facts = self._facts(mapping, policy)
        job = self.hub.start(plan_pair_job(UNPAIR, facts, self.hub.identity(identity)))
        self.hub.mappings.remove(mapping)
        return job

    async def purge(self, vault: Vault, cloud: tuple[str, str], name: str) -> None:
        """Forget a mapping at once."""
        self.hub.mappings.remove(await self._find(vault, cloud, name))

    async def _find(self, vault: Vault, cloud: tuple[str, str], name: str) -> ContainerMapping:
        await MemoryFabrics(self.hub).find(vault, cloud[0])
        for mapping in self.hub.mappings:
            if mapping.name.lower() == name.lower():
                return mapping
        raise NotFoundError(name)

    def _facts(self, mapping: ContainerMapping, policy: ReplicationPolicy) -> PairFacts:
        clouds = {
            side: CloudView(
                cloud_id=CLOUDS[side],
                friendly_name=side.lower(),
                capability_profile="Hyper-V",
                host_fqdns=(f"host1.{side.lower()}.example",),
            )
            for side in Side
        }
        return PairFacts(mapping, policy, clouds, {})

    async def list(self, vault: Vault) -> list[ContainerMapping]:
        """Return all."""
        del vault
        return list(self.hub.mappings)


@dataclass
class MemoryProtection:
    """ProtectionUseCases."""

    hub: MemoryHub

    async def enable(
        self,
        vault: Vault,
        *,
        container: tuple[str, str],
        item_name: str,
        machine_id: str,
        policy_name: str,
        identity: RequestIdentity,
    ) -> Job:
        """Protect a machine; it is protected when its job has ended."""
        policy = await MemoryPolicies(self.hub).find(vault, policy_name)
        item = ProtectedItem(
            id=item_name,
            vault_id=vault.id,
            friendly_name="VM1",
            mapping_id=self.hub.mappings[0].id,
            policy_id=policy.id,
            primary_provider_id="provider-primary",
            primary_cloud_id=container[1],
            primary_machine_id=machine_id,
            primary_host="host1.primary.example",
            recovery_provider_id="provider-recovery",
            recovery_cloud_id=CLOUDS[Side.RECOVERY],
            recovery_machine_id=REPLICA,
            relationship_id="2cd1a1fa-69b2-4a40-836e-d4b76fe1c28e",
            state=ProtectionState.UNPROTECTED,
        )
        self.hub.items[item_name] = item
        return self._run(item, Operation.ENABLE, {}, identity)

    async def request(
        self,
        vault: Vault,
        item_name: str,
        operation: str,
        arguments: Mapping[str, JsonValue],
        identity: RequestIdentity,
    ) -> Job:
        """Begin an operation."""
        del vault
        self.hub.arguments.append(dict(arguments))
        item = self.hub.items[item_name]
        known = {"test_machine_id": "9b415dd8-c776-5a00-b398-92935005696d", **arguments}
        return self._run(item, Operation(operation), known, identity)

    def _run(
        self,
        item: ProtectedItem,
        operation: Operation,
        arguments: Mapping[str, JsonValue],
        identity: RequestIdentity,
    ) -> Job:
        facts = self.hub.facts(item)
        plan = ItemPlan(
            item=item,
            policy=facts.policy,
            primary=facts.primary.provider,
            recovery=facts.recovery.provider,
            clouds={cloud: side.lower() for side, cloud in CLOUDS.items()},
            machine=machine(Side.PRIMARY),
        )
        job = plan_item_job(plan, operation, arguments, self.hub.identity(identity))
        self.hub.items[item.id] = begin_on_item(item, job, NOW)
        return self.hub.start(job)

    async def find(self, vault: Vault, item_name: str) -> ItemFacts:
        """Return one."""
        del vault
        if item_name not in self.hub.items:
            raise NotFoundError(item_name)
        return self.hub.facts(self.hub.items[item_name])

    async def list(self, vault: Vault) -> list[ItemFacts]:
        """Return all."""
        del vault
        return [self.hub.facts(item) for item in self.hub.items.values()]


@dataclass
class MemoryAlerts:
    """AlertUseCases, with a mail server and one owner."""

    hub: MemoryHub
    OWNERS: ClassVar[tuple[str, ...]] = ("owner@example.org",)

    async def find(self, vault: Vault) -> AlertSettings:
        """Return the setting."""
        now = self.hub.clock.now()
        none = AlertSettings(id=vault.id, vault_id=vault.id, since=now, read_to=now)
        return self.hub.alerts.get(vault.id, none)

    async def change(
        self, vault: Vault, *, send_to_owners: str, addresses: Sequence[str], locale: str
    ) -> AlertSettings:
        """Replace the setting."""
        before = await self.find(vault)
        update = {
            "send_to_owners": send_to_owners,
            "addresses": tuple(addresses),
            "locale": locale or before.locale,
        }
        wanted = before.model_copy(update=update)
        self.hub.alerts[vault.id] = checked_settings(wanted, self.OWNERS, has_server=True)
        return wanted


def arm_api(hub: MemoryHub, public_url: str, retry_after_seconds: int = 0) -> ArmApi:
    """Return the surface's view of a hub."""
    return ArmApi(
        vaults=MemoryVaults(hub),
        fabrics=MemoryFabrics(hub),
        policies=MemoryPolicies(hub),
        pairing=MemoryPairing(hub),
        protection=MemoryProtection(hub),
        networks=MemoryNetworks(hub),
        storage=MemoryStorage(hub),
        jobs=MemoryJobs(hub),
        events=MemoryEvents(hub),
        alerts=MemoryAlerts(hub),
        servers=MemoryServers(hub),
        plans=MemoryPlans(hub),
        tokens=KnownTokens(),
        clock=hub.clock,
        public_url=public_url,
        retry_after_seconds=retry_after_seconds,
    )
