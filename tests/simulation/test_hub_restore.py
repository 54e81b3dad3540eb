"""Backup, failovers, restore, another failover; a journal that was lost in the middle of a job."""

import itertools
from datetime import timedelta
from pathlib import Path

import pytest

from service_hub.domain.errors import ConflictError, NotFoundError
from service_hub.domain.jobs import JobState
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import Alert, OutboxEvent, ProviderStream
from service_hub.services.authority import AuthorityService
from service_hub.store.backup import backup, exclusive, restore
from service_hub.store.errors import DatabaseInUseError, DatabaseUnusableError
from tests.support.hub_stories import ask, ended, protected, until_done
from tests.support.hub_world import MACHINE_ID, HubWorld, hub_world, inventory, machine, replication
from wire_contract.reports import SessionAnswer, SessionRequest
from wire_contract.vocabulary import ReplicationMode, ReplicationState, RunState, Side

DAY = timedelta(days=1)


async def session(
    world: HubWorld,
    site: str,
    *,
    journal: str = "journal-1",
    epochs: dict[str, int] | None = None,
    fences: dict[str, int] | None = None,
) -> SessionAnswer:
    request = SessionRequest(
        boot_id="b",
        session=1,
        journal_id=f"{site}-{journal}",
        provider_version="1",
        vmm_version="1",
        last=None,
        fences=fences or {},
        epochs=epochs or {},
    )
    return await world.reports.session(world.providers[site], request)


async def stream(world: HubWorld, site: str) -> ProviderStream:
    found = await world.store.get(ProviderStream, world.providers[site].id)
    assert found is not None
    return found.record


async def show(world: HubWorld, site: str, machine_id: str, *, active: bool) -> None:
    """Have a site send its inventory, with its copy active or not."""
    mode = ReplicationMode.PRIMARY if active else ReplicationMode.REPLICA
    view = machine(machine_id, site, replication(ReplicationState.REPLICATING, mode))
    run_state = RunState.RUNNING if active else RunState.OFF
    machines = (view.model_copy(update={"run_state": run_state}),)
    await world.reports.inventory(world.providers[site], inventory(site, machines))


async def test_backup_two_failovers_restore_and_a_third_failover(tmp_path: Path) -> None:
    numbers = itertools.count()
    async with hub_world(tmp_path, lease=DAY) as world:
        await protected(world)
        for site in ("tokyo", "osaka"):
            await session(world, site)
        backup(tmp_path / "hub.db", tmp_path / "backup.db")
        for _ in range(2):
            job = await ask(world, Operation.PLANNED_FAILOVER)
            assert await ended(world, job) is JobState.SUCCEEDED
            assert await ended(world, await ask(world, Operation.COMMIT)) is JobState.SUCCEEDED
            job = await ask(world, Operation.REVERSE_REPLICATE)
            assert await ended(world, job) is JobState.SUCCEEDED
        known = (await world.item()).epoch
        former = await stream(world, "tokyo")
    count = restore(tmp_path / "hub.db", tmp_path / "backup.db", lambda: f"new-{next(numbers)}")
    assert count == 2
    async with hub_world(tmp_path, lease=DAY) as world:
        # The backup knows the requests that were made before it.
        world.requests = 1000
        begun = await stream(world, "tokyo")
        assert begun.stream not in {former.stream, "tokyo-stream"}
        assert (begun.next_seq, begun.acknowledged_seq) == (1, 0)
        item = await world.item()
        assert item.epoch < known
        for site in ("tokyo", "osaka"):
            answer = await session(world, site, epochs={MACHINE_ID: known})
            # Nobody is told which copy may run before both sites have shown it.
            assert answer.authorities == ()
        assert (await world.item()).epoch == known + 1
        alerts = [found.record for found in await world.store.find(Alert)]
        assert [alert.code for alert in alerts] == ["RestoreDifference"]
        await show(world, "tokyo", item.primary_machine_id, active=True)
        assert not (await session(world, "tokyo")).authorities
        await show(world, "osaka", item.recovery_machine_id, active=False)
        authorities = (await session(world, "tokyo")).authorities
        assert [(each.epoch, each.authoritative) for each in authorities] == [(known + 1, True)]
        job = await ask(world, Operation.PLANNED_FAILOVER)
        done = await until_done(world, job)
        assert f"osaka fail_over e{known + 2}" in done
        assert (await world.job(job)).state is JobState.SUCCEEDED


async def test_who_may_run_stays_open_where_the_sites_contradict_the_hub(tmp_path: Path) -> None:
    async with hub_world(tmp_path, lease=DAY) as world:
        await protected(world)
        item = await world.item()
        await session(world, "tokyo", epochs={MACHINE_ID: 9})
        await show(world, "tokyo", item.primary_machine_id, active=False)
        await show(world, "osaka", item.recovery_machine_id, active=True)
        for site in ("tokyo", "osaka"):
            assert not (await session(world, site)).authorities
        assert (await world.item()).epoch == 10


async def questioned(world: HubWorld, *, recovery_ran: bool = True) -> AuthorityService:
    """Bring the item in question; Osaka's copy runs as the primary, Tokyo's is off and fenced."""
    await protected(world)
    item = await world.item()
    await session(world, "tokyo", epochs={MACHINE_ID: 9})
    await show(world, "tokyo", item.primary_machine_id, active=not recovery_ran)
    await show(world, "osaka", item.recovery_machine_id, active=True)
    return AuthorityService(reader=world.store, committer=world.committer, clock=world.clock)


async def test_an_operator_decides_for_the_copy_that_runs(tmp_path: Path) -> None:
    async with hub_world(tmp_path, lease=DAY) as world:
        service = await questioned(world)
        (question,) = await service.list(world.vault.id)
        assert question.copies[Side.PRIMARY].machine is not None
        assert "the copy at Recovery runs" in question.warnings[Side.PRIMARY][0]
        assert "the hub's database says that Primary" in question.warnings[Side.RECOVERY][0]
        refreshes = [await world.refreshes(site) for site in ("tokyo", "osaka")]
        await service.decide(world.vault.id, MACHINE_ID.upper(), Side.RECOVERY, "olga")
        item = await world.item()
        assert (item.authority, item.active_location) == (Side.RECOVERY, Side.RECOVERY)
        assert (item.state, item.epoch) == (ProtectionState.PROTECTED, 11)
        for site, before, runs in (("tokyo", refreshes[0], False), ("osaka", refreshes[1], True)):
            assert await world.refreshes(site) == before + 1, "each site is told at once"
            (told,) = (await session(world, site)).authorities
            assert (told.epoch, told.authoritative) == (11, runs)
        alert = (await world.store.find(Alert))[-1].record
        assert (alert.code, alert.principal) == ("AuthorityDecided", "olga")
        assert await service.list(world.vault.id) == []
        with pytest.raises(ConflictError, match="is not in question"):
            await service.decide(world.vault.id, MACHINE_ID, Side.RECOVERY, "olga")
        world.requests = 1000
        # The next failover goes the right way, under the epoch after the decision.
        job = await ask_back(world)
        assert "tokyo fail_over e12" in await until_done(world, job)


async def test_what_cannot_run_is_not_decided_for(tmp_path: Path) -> None:
    async with hub_world(tmp_path, lease=DAY) as world:
        service = await questioned(world)
        with pytest.raises(ConflictError, match="never failed over, and cannot run; decide for R"):
            await service.decide(world.vault.id, MACHINE_ID, Side.PRIMARY, "olga")
        with pytest.raises(NotFoundError):
            await service.decide(world.vault.id, "nothing", Side.PRIMARY, "olga")
        with pytest.raises(NotFoundError):
            await service.decide("another-vault", MACHINE_ID, Side.RECOVERY, "olga")
        assert (await world.item()).authority_questioned_at is not None


async def test_a_decision_waits_for_the_job_that_runs(tmp_path: Path) -> None:
    async with hub_world(tmp_path, lease=DAY) as world:
        await protected(world)
        job = await ask(world, Operation.PLANNED_FAILOVER)
        service = AuthorityService(reader=world.store, committer=world.committer, clock=world.clock)
        await session(world, "tokyo", epochs={MACHINE_ID: 9})
        with pytest.raises(ConflictError, match=f"job {job} works with this machine"):
            await service.decide(world.vault.id, MACHINE_ID, Side.PRIMARY, "olga")


async def test_a_site_that_shows_nothing_does_not_hinder_a_decision(tmp_path: Path) -> None:
    async with hub_world(tmp_path, lease=DAY) as world:
        await protected(world)
        item = await world.item()
        world.clock.time += timedelta(seconds=1)
        await session(world, "osaka", epochs={MACHINE_ID: 9})
        service = AuthorityService(reader=world.store, committer=world.committer, clock=world.clock)
        with pytest.raises(ConflictError, match="the Primary site has shown no copy"):
            await service.decide(world.vault.id, MACHINE_ID, Side.PRIMARY, "olga")
        await show(world, "osaka", item.recovery_machine_id, active=True)
        (question,) = await service.list(world.vault.id)
        assert question.copies[Side.PRIMARY].machine is None, "what is older proves nothing"
        assert any("has shown nothing" in words for words in question.warnings[Side.RECOVERY])
        decision = await service.decide(world.vault.id, MACHINE_ID, Side.RECOVERY, "olga")
        assert decision.item.authority is Side.RECOVERY


async def ask_back(world: HubWorld) -> str:
    """Ask for a planned failover from Osaka to Tokyo."""
    job = await world.protection.request(
        world.vault,
        MACHINE_ID,
        Operation.PLANNED_FAILOVER.value,
        {"failover_direction": "RecoveryToPrimary"},
        world.identity(),
    )
    return job.id


async def test_a_new_journal_gets_a_stream_that_begins_now_and_what_is_open_again(
    tmp_path: Path,
) -> None:
    async with hub_world(tmp_path, lease=DAY) as world:
        await protected(world)
        await session(world, "tokyo")
        job = await ask(world, Operation.PLANNED_FAILOVER)
        await world.committer.until_next()
        while not (opened := [e for e in await world.assignments("tokyo") if e.job == job]):
            await world.committer.until_next()
        before = await stream(world, "tokyo")
        again = await session(world, "tokyo", journal="journal-2")
        after = await stream(world, "tokyo")
        assert again.position.stream == after.stream != before.stream
        assert again.position.seq == 0
        # Only what is open, under the same command id: nothing of what was done before.
        assert [e.command_id for e in await world.assignments("tokyo")] == [opened[0].command_id]
        assert (await session(world, "tokyo", journal="journal-2")).position == again.position
        assert await ended(world, job) is JobState.SUCCEEDED


async def test_fences_of_open_jobs_rise_above_what_a_provider_reports(tmp_path: Path) -> None:
    async with hub_world(tmp_path, lease=DAY) as world:
        await protected(world)
        job = await ask(world, Operation.PLANNED_FAILOVER)
        await session(world, "tokyo", fences={job: 41, "unknown": 7})
        assert (await world.job(job)).fence == 42
        assert await ended(world, job) is JobState.SUCCEEDED


def staged(folder: Path) -> list[Path]:
    return list(folder.glob("*.restoring*"))


async def test_a_restore_needs_a_stopped_hub_and_a_whole_backup(tmp_path: Path) -> None:
    database, copy = tmp_path / "hub.db", tmp_path / "backup.db"
    async with hub_world(tmp_path) as world:
        await protected(world)
    backup(database, copy)
    assert copy.stat().st_mode & 0o777 == 0o600
    with pytest.raises(DatabaseUnusableError, match="exists"):
        backup(database, copy)
    content = database.read_bytes()
    with exclusive(database), pytest.raises(DatabaseInUseError, match="stop it first"):
        restore(database, copy, lambda: "id")
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(copy.read_bytes()[:40_000] + b"\xff" * 8000)
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"no database at all" * 100)
    for bad in (damaged, garbage, tmp_path / "missing"):
        with pytest.raises(DatabaseUnusableError):
            restore(database, bad, lambda: "id")
        assert database.read_bytes() == content
        assert not staged(tmp_path)


async def test_a_restored_hub_asks_again_for_what_was_open(tmp_path: Path) -> None:
    async with hub_world(tmp_path, lease=DAY) as world:
        await protected(world)
        await session(world, "tokyo")
        job = await ask(world, Operation.PLANNED_FAILOVER)
        while not [e for e in await world.assignments("tokyo") if e.job == job]:
            await world.committer.until_next()
        backup(tmp_path / "hub.db", tmp_path / "backup.db")
    restore(tmp_path / "hub.db", tmp_path / "backup.db", lambda: "begun-anew")
    async with hub_world(tmp_path, lease=DAY) as world:
        assert await world.store.find(OutboxEvent) == []
        await session(world, "tokyo")
        assert [e.job for e in await world.assignments("tokyo")] == [job]
        await session(world, "osaka")
        assert await ended(world, job) is JobState.SUCCEEDED
