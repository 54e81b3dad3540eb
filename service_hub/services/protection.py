"""Protected items: enabling, operations, and what is known of them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from service_hub.domain import errors
from service_hub.domain.checks import job_error, refusal_of_state, refusal_when_busy
from service_hub.domain.errors import InvalidRequestError, NotFoundError, StaleVersionError
from service_hub.domain.fence_override import override_alert
from service_hub.domain.jobs import Job, JobError
from service_hub.domain.operator_signatures import check_signature, with_signature
from service_hub.domain.planning import (
    JobIdentity,
    begin_on_item,
    plan_item_job,
    refused,
    stopped_at_prerequisites,
)
from service_hub.domain.protection import Operation
from service_hub.domain.records import (
    ContainerMapping,
    MachineObservation,
    ProtectedItem,
    ReplicationPolicy,
    Vault,
)
from service_hub.domain.servers import title_of
from service_hub.domain.split_brain import SourceChanges, choice_of
from service_hub.ports.changes import NEW, Change, Save, Versioned
from service_hub.ports.running import JobRunner
from service_hub.ports.stores import Reader
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import FabricFacts, ItemFacts, RequestIdentity, SeenFabric
from service_hub.services.fabrics import FabricService
from service_hub.services.item_plans import ItemPlans
from service_hub.services.pair_facts import cloud_of
from service_hub.services.policies import activity
from service_hub.services.requests import TRIES_MAX, RequestLedger
from wire_contract.vmm_interface import MachineView
from wire_contract.vocabulary import Direction, Side

_FORCE_INSTEAD: Final = (
    "if it is gone for good, remove the protection by force: DELETE of the protected item"
)


class ProtectionService:
    """The ProtectionUseCases of the hub's ports."""

    def __init__(
        self,
        *,
        reader: Reader,
        runner: JobRunner,
        clock: Clock,
        fabrics: FabricService,
        requests: RequestLedger,
    ) -> None:
        self._reader = reader
        self._runner = runner
        self._clock = clock
        self._fabrics = fabrics
        self._requests = requests
        self._plans = ItemPlans(reader=reader, fabrics=fabrics)

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
        """Protect a machine of a paired cloud; an item whose enabling failed is tried again."""
        if item_name.lower() != machine_id.lower():
            raise InvalidRequestError(
                "the protected item is named as its protectable item", "protectableItemId"
            )
        facts = await self._fabrics.find(vault, container[0])
        cloud = cloud_of(facts, container[1])
        machine = _machine(facts, machine_id, cloud.cloud_id)
        mapping = await self._plans.mapping(vault, cloud.cloud_id, policy_name)
        signature = identity.operator_signature
        check_signature(vault, Operation.ENABLE, machine.machine_id, None, signature)

        async def decide() -> Job:
            present = await self._reader.get(ProtectedItem, machine.machine_id)
            if present is None:
                ids = (self._clock.new_id(), self._clock.new_id())
                item = await self._plans.new(vault, machine, mapping, facts, ids)
                present = Versioned(item, NEW)
            return await self._begin(present, Operation.ENABLE, {}, identity, machine=machine)

        return await self._requests.once(identity, decide)

    async def request(
        self,
        vault: Vault,
        item_name: str,
        operation: str,
        arguments: Mapping[str, JsonValue],
        identity: RequestIdentity,
    ) -> Job:
        """Begin an operation; a refusal is a job that failed, never an exception."""
        asked = Operation(operation)

        async def decide() -> Job:
            present = await self._plans.item(vault, item_name)
            direction, signature = _direction(arguments), identity.operator_signature
            check_signature(vault, asked, present.record.id, direction, signature)
            return await self._begin(present, asked, arguments, identity)

        return await self._requests.once(identity, decide)

    async def begin_internal(self, item_id: str, operation: Operation) -> None:
        """Begin what the hub itself begins; nothing happens when it is not allowed now.

        The end of a job and an observation may begin the same at one moment: one of them does.
        """
        for _ in range(TRIES_MAX):
            try:
                return await self._begin_internal(item_id, operation)
            except StaleVersionError:
                continue
        raise StaleVersionError(f"{operation.value} of {item_id} found no quiet moment")

    async def _begin_internal(self, item_id: str, operation: Operation) -> None:
        present = await self._reader.get(ProtectedItem, item_id)
        if present is None or present.record.current is not None:
            return
        now = self._clock.now()
        if refusal_of_state(present.record, operation, None, now) is not None:
            return
        correlation = self._clock.new_id()
        job_identity = JobIdentity(
            self._clock.new_id(), f"{correlation} ActivityId: {correlation}", now
        )
        plan = await self._plans.plan(present.record, None)
        job = plan_item_job(plan, operation, {}, job_identity)
        item = begin_on_item(present.record, job, now)
        await self._runner.start(job, Change(saves=(Save(item, present.version),)))

    async def find(self, vault: Vault, item_name: str) -> ItemFacts:
        """Return one item with all its facts."""
        return await self._facts((await self._plans.item(vault, item_name)).record, {})

    async def list(self, vault: Vault) -> list[ItemFacts]:
        """Return all items of a vault."""
        found = await self._reader.find(ProtectedItem, vault_id=vault.id)
        fabrics: dict[str, SeenFabric] = {}
        return [await self._facts(each.record, fabrics) for each in found]

    # -------------------------------------------------------------------------------- beginning

    async def _begin(
        self,
        present: Versioned[ProtectedItem],
        operation: Operation,
        arguments: Mapping[str, JsonValue],
        identity: RequestIdentity,
        *,
        machine: MachineView | None = None,
    ) -> Job:
        item, now = present.record, self._clock.now()
        if operation is Operation.TEST_FAILOVER:
            arguments = {**arguments, "test_machine_id": self._clock.new_id()}
        if choice_of(arguments) is SourceChanges.KEEP:
            arguments = {**arguments, "kept_machine_id": self._clock.new_id()}
        job_identity = JobIdentity(
            self._clock.new_id(), activity(identity), now, identity.injection_id
        )
        job = plan_item_job(
            await self._plans.plan(item, machine), operation, arguments, job_identity
        )
        job = with_signature(job, identity.operator_signature)
        remembered = self._requests.remember(identity, job)
        busy = refusal_when_busy(item, now)
        if busy is not None:
            return await self._stop(refused(job, busy, now), remembered)
        against = refusal_of_state(item, operation, _direction(arguments), now)
        if against is not None:
            return await self._stop(stopped_at_prerequisites(job, against, now), remembered)
        if operation is Operation.DISABLE:
            gone = await self._unreachable(item, now)
            if gone is not None:
                return await self._stop(stopped_at_prerequisites(job, gone, now), remembered)
        begun = begin_on_item(item, job, now)
        saves = (Save(begun, present.version), *self._told(job, identity))
        await self._runner.start(job, Change(saves=saves) + remembered)
        return job

    def _told(self, job: Job, identity: RequestIdentity) -> tuple[Save, ...]:
        """Return the alert of an override: who lets which copy start again, and why."""
        if job.operation is not Operation.OVERRIDE_FENCE:
            return ()
        return (Save(override_alert(job, identity.principal, self._clock.new_id()), NEW),)

    async def _unreachable(self, item: ProtectedItem, now: datetime) -> JobError | None:
        """Return which end cannot disable its part: the recorded job has no check of its own."""
        for side in Side:
            facts = await self._fabrics.presence(item.provider_at(side))
            if not facts.connected:
                return job_error(
                    errors.NOT_CONNECTED, now, name=title_of(facts.provider), detail=_FORCE_INSTEAD
                )
        return None

    async def _stop(self, job: Job, remembered: Change) -> Job:
        await self._runner.record(job, remembered)
        return job

    # ---------------------------------------------------------------------------------- reading

    async def _facts(self, item: ProtectedItem, fabrics: dict[str, SeenFabric]) -> ItemFacts:
        """Return an item's facts; `fabrics` are those that are known already, and takes new ones.

        A list has thousands of items at a handful of servers.
        """
        for provider_id in (item.primary_provider_id, item.recovery_provider_id):
            if provider_id not in fabrics:
                fabrics[provider_id] = await self._fabrics.facts_by_id(provider_id)
        policy = await self._reader.get(ReplicationPolicy, item.policy_id)
        mapping = await self._reader.get(ContainerMapping, item.mapping_id)
        if policy is None or mapping is None:
            raise NotFoundError(item.policy_id if policy is None else item.mapping_id)
        return ItemFacts(
            item=item,
            policy=policy.record,
            mapping=mapping.record,
            primary=fabrics[item.primary_provider_id],
            recovery=fabrics[item.recovery_provider_id],
            primary_machine=await self._observed(item.primary_provider_id, item.primary_machine_id),
            recovery_machine=await self._observed(
                item.recovery_provider_id, item.recovery_machine_id
            ),
        )

    async def _observed(self, provider_id: str, machine_id: str) -> MachineObservation | None:
        found = await self._reader.get(MachineObservation, f"{provider_id}/{machine_id}")
        return None if found is None else found.record


def _machine(facts: FabricFacts, machine_id: str, cloud_id: str) -> MachineView:
    machines = () if facts.inventory is None else facts.inventory.view.machines
    for machine in machines:
        if machine.machine_id.lower() == machine_id.lower() and machine.cloud_id == cloud_id:
            return machine
    raise NotFoundError(machine_id)


def _direction(arguments: Mapping[str, JsonValue]) -> Direction | None:
    value = arguments.get("failover_direction")
    if value is None:
        return None
    try:
        return Direction(str(value))
    except ValueError:
        raise InvalidRequestError(
            "failoverDirection is PrimaryToRecovery or RecoveryToPrimary", "failoverDirection"
        ) from None
