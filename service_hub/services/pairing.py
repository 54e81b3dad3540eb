"""Cloud pairing: a container mapping under a policy, made by a job on both sites."""

from collections.abc import Mapping

from service_hub.domain.checks import refusal_of_pairing
from service_hub.domain.errors import ConflictError, InvalidRequestError, NotFoundError
from service_hub.domain.jobs import Job
from service_hub.domain.planning import JobIdentity, plan_pairing_job, refused
from service_hub.domain.records import ContainerMapping, ReplicationPolicy, Vault
from service_hub.ports import (
    Change,
    Clock,
    FabricFacts,
    FabricUseCases,
    JobRunner,
    PolicyUseCases,
    Reader,
    RequestIdentity,
    Save,
)
from service_hub.services.policies import activity
from service_hub.services.requests import RequestLedger
from service_hub.services.server_jobs import leaving_by
from wire_contract.vmm_interface import CloudView
from wire_contract.vocabulary import Side

SITE_OF: Mapping[str, Side] = {"primary": Side.PRIMARY, "recovery": Side.RECOVERY}


class PairingService:
    """The PairingUseCases of the hub's ports."""

    def __init__(
        self,
        *,
        reader: Reader,
        runner: JobRunner,
        clock: Clock,
        fabrics: FabricUseCases,
        policies: PolicyUseCases,
        requests: RequestLedger,
    ) -> None:
        self._reader = reader
        self._runner = runner
        self._clock = clock
        self._fabrics = fabrics
        self._policies = policies
        self._requests = requests

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
        """Pair two clouds, each given as (fabric name, cloud id); repeating it is accepted."""

        async def decide() -> Job:
            return await self._pair(
                vault,
                name=name,
                primary=primary,
                recovery=recovery,
                policy_name=policy_name,
                identity=identity,
            )

        return await self._requests.once(identity, decide)

    async def _pair(
        self,
        vault: Vault,
        *,
        name: str,
        primary: tuple[str, str],
        recovery: tuple[str, str],
        policy_name: str,
        identity: RequestIdentity,
    ) -> Job:
        policy = await self._policies.find(vault, policy_name)
        ends = {
            Side.PRIMARY: (await self._fabrics.find(vault, primary[0]), primary[1].lower()),
            Side.RECOVERY: (await self._fabrics.find(vault, recovery[0]), recovery[1].lower()),
        }
        clouds = {side: cloud_of(facts, cloud_id) for side, (facts, cloud_id) in ends.items()}
        if clouds[Side.PRIMARY].cloud_id == clouds[Side.RECOVERY].cloud_id:
            raise InvalidRequestError(
                "a cloud cannot be paired with itself", "targetProtectionContainerId"
            )
        for facts, _ in ends.values():
            if await leaving_by(self._reader, facts.provider) is not None:
                name = facts.provider.friendly_name
                raise ConflictError(f"the server {name} is being deleted: choose another cloud")
        now = self._clock.now()
        job_identity = JobIdentity(self._clock.new_id(), activity(identity), now)
        present = await self.list(vault)
        mapping_id = f"{vault.id}/{clouds[Side.PRIMARY].cloud_id}/{name}".lower()
        mapping = ContainerMapping(
            id=mapping_id,
            vault_id=vault.id,
            name=name,
            policy_id=policy.id,
            primary_provider_id=ends[Side.PRIMARY][0].provider.id,
            primary_cloud_id=clouds[Side.PRIMARY].cloud_id,
            recovery_provider_id=ends[Side.RECOVERY][0].provider.id,
            recovery_cloud_id=clouds[Side.RECOVERY].cloud_id,
            mapping_state="PairingInProgress",
            job_id=job_identity.job_id,
        )
        job = plan_pairing_job(
            mapping,
            policy,
            {side: cloud.host_fqdns for side, cloud in clouds.items()},
            _affected(policy, ends, clouds),
            job_identity,
        )
        remembered = self._requests.remember(identity, job)
        names = {cloud.cloud_id: cloud.friendly_name for cloud in clouds.values()}
        error = refusal_of_pairing(mapping, present, names, now)
        if error is not None:
            stopped = refused(job, error, now)
            await self._runner.record(stopped, remembered)
            return stopped
        await self._runner.start(job, Change(saves=(Save(mapping, None),)) + remembered)
        return job

    async def list(self, vault: Vault) -> list[ContainerMapping]:
        """Return all of a vault."""
        found = await self._reader.find(ContainerMapping, vault_id=vault.id)
        return [each.record for each in found]


def cloud_of(facts: FabricFacts, cloud_id: str) -> CloudView:
    """Return a cloud of a fabric by its id; NotFoundError."""
    clouds = () if facts.inventory is None else facts.inventory.view.clouds
    for cloud in clouds:
        if cloud.cloud_id.lower() == cloud_id.lower():
            return cloud
    raise NotFoundError(cloud_id)


def _affected(
    policy: ReplicationPolicy,
    ends: Mapping[Side, tuple[FabricFacts, str]],
    clouds: Mapping[Side, CloudView],
) -> dict[str, str]:
    result = {"protectionProfileId": policy.id}
    for word, side in SITE_OF.items():
        provider = ends[side][0].provider
        result[f"{word}CloudId"] = clouds[side].cloud_id
        result[f"{word}CloudName"] = clouds[side].friendly_name
        result[f"{word}VmmId"] = provider.vmm_id
        result[f"{word}VmmName"] = provider.friendly_name
        result[f"{word}FabricProviderId"] = "VMM"
    return result
