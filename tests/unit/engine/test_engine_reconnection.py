"""What a provider knows better reaches a job whichever hub holds it, before its session begins."""

import pytest

from service_hub.domain.errors import StaleVersionError
from service_hub.domain.records import Provider, ProviderStream
from service_hub.ports.changes import NEW, Change, Save
from service_hub.services import reconnection
from service_hub.services.reconnection import Reconnection
from tests.support.engine_world import (
    BEGIN,
    TOKYO,
    EngineWorld,
    PlayedClock,
    engine_world,
    new_job,
)
from tests.support.played_store import PlayedStore
from wire_contract.reports import SessionRequest

PROVIDER = Provider(
    id=TOKYO, vault_id="vault", vmm_id="vmm", fabric_name="fabric", enrolled_at=BEGIN
)


async def prepared() -> PlayedStore:
    store = PlayedStore()
    stream = ProviderStream(id=TOKYO, vault_id="vault", stream="s", journal_id="journal")
    await store.apply([Change(saves=(Save(stream, NEW),))])
    return store


def session_at(world: EngineWorld) -> Reconnection:
    return Reconnection(
        reader=world.store,
        committer=world.engine._committer,
        clock=world.clock,
        runner=world.engine,
    )


def knowing(fences: dict[str, int]) -> SessionRequest:
    return SessionRequest(
        boot_id="boot",
        session=1,
        journal_id="journal",
        provider_version="1",
        vmm_version="1",
        last=None,
        fences=fences,
        epochs={},
    )


@pytest.mark.parametrize("at_holder", [True, False])
async def test_the_fence_is_raised_before_the_session_begins(at_holder: bool) -> None:
    store, clock, job = await prepared(), PlayedClock(), new_job(1)
    async with (
        engine_world(store, clock, shared=True) as holder,
        engine_world(store, clock, shared=True) as other,
    ):
        await holder.engine.start(job, Change())
        world = holder if at_holder else other
        stream = await session_at(world).begin(PROVIDER, knowing({job.id: 7, "unknown": 9}))
        assert stream.stream == "s"
        assert store.job(job.id).fence == 8
        await holder.report(job.id, "First")
        assert store.events[-1].body["fence"] == 8
        # Known already: nothing more is decided.
        version = len(store.logs[job.id])
        await session_at(other).begin(PROVIDER, knowing({job.id: 8}))
        assert len(store.logs[job.id]) == version


async def test_a_session_waits_for_no_holder_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnection, "DECIDED_SECONDS_MAX", 0.3)
    store, clock, job = await prepared(), PlayedClock(), new_job(1)
    async with engine_world(store, clock, shared=True) as world:
        await world.engine.start(job, Change())
        store.steal(job.id)
        with pytest.raises(StaleVersionError, match="begin again"):
            await session_at(world).begin(PROVIDER, knowing({job.id: 7}))
        assert len(store.inbox) == 1
