"""What is asked of a job is answered by any hub of a database, whoever holds the job."""

from service_hub.domain.checks import job_error
from service_hub.domain.errors import DEADLINE
from service_hub.domain.jobs import JobState, PartFailed
from service_hub.domain.records import Provider, Vault
from service_hub.ports.changes import Change, Save
from service_hub.ports.use_cases import RequestIdentity
from service_hub.services.jobs import JobService
from service_hub.services.requests import RequestLedger
from tests.support.engine_world import (
    BEGIN,
    TOKYO,
    EngineWorld,
    PlayedClock,
    engine_world,
    new_job,
    until,
)
from tests.support.played_store import PlayedStore
from wire_contract.vocabulary import Side

VAULT = Vault(
    id="vault",
    vault_id="vault",
    subscription_id="s",
    resource_group="rg",
    name="v",
    location="here",
    resource_number=1,
    created_at=BEGIN,
)


def service(world: EngineWorld) -> JobService:
    """Return the use case at one of the hubs."""
    requests = RequestLedger(reader=world.store, clock=world.clock)
    return JobService(
        reader=world.store,
        lists=world.store,
        runner=world.engine,
        clock=world.clock,
        requests=requests,
    )


def identity(name: str) -> RequestIdentity:
    """Return the identity of a request."""
    return RequestIdentity("anna", name, "c", "POST", "/somewhere", "digest")


async def test_another_hub_takes_a_cancellation_and_the_holder_decides_on_it_once() -> None:
    store, clock = PlayedStore(), PlayedClock()
    async with (
        engine_world(store, clock, shared=True) as holder,
        engine_world(store, clock, shared=True) as other,
    ):
        job = new_job(1)
        await holder.engine.start(job, Change())
        await service(other).cancel(VAULT, job.id, identity("stop"))
        assert [each.job_id for each in store.inbox.values()] == [job.id]
        again = await service(holder).cancel(VAULT, job.id, identity("stop"))
        assert (again.id, len(store.inbox)) == (job.id, 1)
        holder.engine.message_for(job.id)
        await until(lambda: store.job(job.id).cancel is not None)
        assert [each.principal for each in store.job(job.id).requests] == ["anna"]
        assert (holder.engine.held_count, other.engine.held_count) == (1, 0)


async def test_a_restart_makes_the_job_the_hubs_that_was_asked() -> None:
    store, clock = PlayedStore(), PlayedClock()
    providers = [
        Provider(id=name, vault_id="vault", vmm_id=name, fabric_name=name, enrolled_at=BEGIN)
        for name in (TOKYO, "osaka-provider")
    ]
    await store.apply([Change(saves=[Save(each, None) for each in providers])])
    async with (
        engine_world(store, clock, shared=True) as holder,
        engine_world(store, clock, shared=True) as other,
    ):
        job = new_job(1)
        await holder.engine.start(job, Change())
        error = job_error(DEADLINE, clock.now(), name="web01", detail="late")
        await holder.engine.feed(job.id, PartFailed(clock.now(), "First", Side.PRIMARY, 1, error))
        await until(lambda: store.job(job.id).state is JobState.FAILED)
        await until(lambda: holder.engine.held_count == 0)
        restarted = await service(other).restart(VAULT, job.id, identity("again"))
        assert (restarted.state, restarted.fence) == (JobState.IN_PROGRESS, job.fence + 1)
        assert (holder.engine.held_count, other.engine.held_count) == (0, 1)
        await other.report(job.id, "First", attempt=2)
        await other.report(job.id, "Second")
        assert store.job(job.id).state is JobState.SUCCEEDED
