"""Protected items put straight into a hub without network, and providers that answer for them."""

from collections.abc import Callable
from uuid import UUID

import pytest

from service_hub.domain.jobs import Job
from service_hub.domain.protection import ProtectionState
from service_hub.domain.records import ContainerMapping, ProtectedItem, ReplicationPolicy
from service_hub.ports.changes import Change, Save
from tests.support.hub_world import HubWorld
from wire_contract.events import Assignment
from wire_contract.reports import ProviderError

STEPS_MAX = 3000

Answer = Callable[[Assignment], ProviderError | None]


def item_id(number: int) -> str:
    """Return the id of the item of that number."""
    return str(UUID(int=(1 << 100) + number))


def an_item(number: int, state: ProtectionState = ProtectionState.PROTECTED) -> ProtectedItem:
    """Return an item of that number between the two sites."""
    return ProtectedItem(
        id=item_id(number),
        vault_id="vault",
        friendly_name=f"web{number:02}",
        mapping_id="mapping",
        policy_id="policy",
        primary_provider_id="tokyo-provider",
        primary_cloud_id="tokyo-cloud",
        primary_machine_id=item_id(number),
        primary_host="tokyo-host1.example",
        recovery_provider_id="osaka-provider",
        recovery_cloud_id="osaka-cloud",
        recovery_machine_id=str(UUID(int=(1 << 101) + number)),
        recovery_host="osaka-host1.example",
        relationship_id=str(UUID(int=(1 << 102) + number)),
        state=state,
    )


async def furnish(world: HubWorld, *items: ProtectedItem) -> None:
    """Store items with the policy and pairing that they are protected under."""
    policy = ReplicationPolicy(
        id="policy", vault_id="vault", name="p", provider_type="HyperVReplica2012R2"
    )
    mapping = ContainerMapping(
        id="mapping",
        vault_id="vault",
        name="m",
        policy_id="policy",
        primary_provider_id="tokyo-provider",
        primary_cloud_id="tokyo-cloud",
        recovery_provider_id="osaka-provider",
        recovery_cloud_id="osaka-cloud",
        mapping_state="Paired",
    )
    saves = [Save(record, None) for record in (policy, mapping, *items)]
    await world.committer.commit(Change(saves=saves))


async def stored_item(world: HubWorld, number: int) -> ProtectedItem:
    """Return the item of that number as it is stored."""
    found = await world.store.get(ProtectedItem, item_id(number))
    assert found is not None
    return found.record


def well(_assignment: Assignment) -> ProviderError | None:
    """Answer that all went well."""
    return None


class Sites:
    """Both providers: they answer each assignment once, in order, and remember what was asked."""

    def __init__(self, world: HubWorld) -> None:
        self._world = world
        self._answered: set[str] = set()
        self.done: list[str] = []

    async def answer(self, answer: Answer = well) -> bool:
        """Answer what waits; return whether there was anything."""
        some = False
        for site in ("tokyo", "osaka"):
            for assignment in await self._world.assignments(site):
                if assignment.command_id not in self._answered:
                    self._answered.add(assignment.command_id)
                    name = "" if assignment.item is None else f" {int(assignment.item[-4:], 16)}"
                    self.done.append(f"{site} {assignment.verb}{name}")
                    await self._world.outcome(site, assignment, answer(assignment))
                    some = True
        return some

    async def until(
        self, job_id: str, reached: Callable[[Job], bool], answer: Answer = well
    ) -> Job:
        """Answer until the job is as wanted, and return it."""
        for _ in range(STEPS_MAX):
            job = await self._world.job(job_id)
            if reached(job):
                return job
            if not await self.answer(answer):
                await self._world.committer.until_next()
        pytest.fail(f"the job is not as wanted: {await self._world.job(job_id)}")

    async def ended(self, job_id: str, answer: Answer = well) -> Job:
        """Answer until the job has ended, and return it."""
        return await self.until(job_id, lambda job: job.finished, answer)
