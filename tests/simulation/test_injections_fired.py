import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import pytest

from service_hub.domain.access import Role
from service_hub.domain.errors import ConflictError, DomainError, InvalidRequestError
from service_hub.domain.injections import CLAIM, LATE_MAX, Injection, InjectionKind, InjectionState
from service_hub.domain.jobs import Job, JobState
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import Vault
from service_hub.domain.service_accounts import AccountGrant, ServiceAccount
from service_hub.injection_ports import InjectionRequest, Injector, SurfaceRefusalError
from service_hub.ports.changes import Change, Delete, Save
from tests.support.hub_stories import ask, ended, protected, until_done
from tests.support.hub_world import MACHINE_ID, HubWorld, hub_world
from tests.support.injecting import FABRIC, injecting, stored
from tests.support.many_items import Sites, an_item, furnish, stored_item
from wire_contract.events import Assignment

ITEM = (
    f"{FABRIC}/replicationProtectionContainers/tokyo-cloud/replicationProtectedItems/{MACHINE_ID}"
)
CLOUD = f"{FABRIC}/replicationProtectionContainers/tokyo-cloud"
ANNA = Injector("anna", "Injector")
FORWARD = {"failoverDirection": "PrimaryToRecovery"}
PLANNED = InjectionRequest(
    event=InjectionKind.PLANNED_FAILOVER,
    target=ITEM,
    arguments={**FORWARD, "providerSpecificDetails": {"instanceType": "HyperVReplica2012R2"}},
)
FAILED_OVER = "PlannedFailover"
OUTAGE = InjectionRequest(event=InjectionKind.SITE_OUTAGE, target=FABRIC, arguments={})


async def jobs_of(world: HubWorld, scenario: str) -> list[Job]:
    found = [each.record for each in await world.store.find(Job)]
    return [job for job in found if job.scenario.name == scenario]


async def test_an_injected_failover_takes_the_way_of_a_request_and_says_so(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await protected(world)
        done = await injecting(world).inject(world.vault, PLANNED, ANNA)
        assert done.state is InjectionState.INJECTED
        assert done.job_id is not None
        job = await world.job(done.job_id)
        assert job.scenario.name == "PlannedFailover"
        assert job.affected["injectionId"] == done.id
        told = []

        def answer(assignment: Assignment) -> None:
            told.append(assignment.injection)

        await until_done(world, job.id, answer)
        assert (await world.job(job.id)).state is JobState.SUCCEEDED
        assert told
        assert set(told) == {done.id}
        # What somebody asks for himself is not marked.
        asked = await world.job(await ask(world, Operation.COMMIT))
        assert "injectionId" not in asked.affected


async def test_an_injection_waits_for_its_moment_and_begins_once(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await protected(world)
        injections, at = injecting(world), world.clock.now() + timedelta(hours=1)
        later = InjectionRequest(
            event=PLANNED.event, target=ITEM, arguments=PLANNED.arguments, at=at
        )
        waiting = await injections.inject(world.vault, later, ANNA)
        assert (waiting.state, waiting.job_id) == (InjectionState.SCHEDULED, None)
        assert await injections.fire_due() == 0
        world.clock.time = at
        await world.heard_of("tokyo")
        await world.heard_of("osaka")
        # Two hubs look at one time.
        await injections.fire_due()
        await injecting(world).fire_due()
        (job,) = await jobs_of(world, "PlannedFailover")
        found = await injections.find(world.vault, waiting.id)
        assert (found.state, found.job_id) == (InjectionState.INJECTED, job.id)
        # The audit log says whose it is, and that nobody asked at that moment.
        lines = [
            json.loads(each.text)
            for each in await world.store.audit_lines(world.vault.id, None, 100)
        ]
        (line,) = [each for each in lines if each["job_id"] == job.id]
        assert (line["injection_id"], line["principal"]) == (waiting.id, ANNA.principal)
        assert line["address"] == "hub"


async def test_a_kill_after_the_request_was_made_begins_nothing_twice(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await protected(world)
        injections = injecting(world)
        done = await injections.inject(world.vault, PLANNED, ANNA)
        # The job was stored, and the process ended before it was noted.
        present = await world.store.get(Injection, done.id)
        assert present is not None
        forgotten = done.model_copy(
            update={
                "state": InjectionState.SCHEDULED,
                "job_id": None,
                "times": 0,
                "next_at": done.requested_at,
            }
        )
        await world.committer.commit(Change(saves=(Save(forgotten, present.version),)))
        await injections.fire_due()
        again = await injections.find(world.vault, done.id)
        assert again.job_id == done.job_id
        assert len(await jobs_of(world, "PlannedFailover")) == 1


async def test_a_schedule_goes_on_and_leaves_out_what_the_hub_slept_through(tmp_path: Path) -> None:
    async with hub_world(tmp_path, timedelta(days=30)) as world:
        await protected(world)
        injections = injecting(world)
        daily = InjectionRequest(
            event=InjectionKind.SITE_OUTAGE, target=FABRIC, arguments={}, cron="0 3 * * *"
        )
        made = await injections.inject(world.vault, daily, ANNA)
        assert made.next_at is not None
        world.clock.time = made.next_at
        await injections.fire_due()
        once = await injections.find(world.vault, made.id)
        assert (once.times, once.state) == (1, InjectionState.SCHEDULED)
        assert once.next_at is not None
        world.clock.time = once.next_at + LATE_MAX + timedelta(seconds=1)
        await injections.fire_due()
        slept = await injections.find(world.vault, made.id)
        assert slept.times == 1
        assert "in time" in slept.message
        gone = await injections.cancel(world.vault, made.id, "anna")
        assert gone.state is InjectionState.CANCELLED
        assert gone.next_at is None
        world.clock.time += timedelta(days=2)
        assert await injections.fire_due() == 0


async def test_a_refusal_is_told_and_kept(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await protected(world)
        injections = injecting(world)
        wrong = InjectionRequest(event=PLANNED.event, target=ITEM, arguments={"failover": "yes"})
        with pytest.raises(DomainError):
            await injections.inject(world.vault, wrong, ANNA)
        (kept,) = await injections.list(world.vault)
        assert kept.state is InjectionState.REFUSED
        assert kept.message


async def test_a_refusal_is_answered_as_the_surface_itself_would(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await protected(world)
        wrong = InjectionRequest(event=PLANNED.event, target=ITEM, arguments={"failover": "yes"})
        with pytest.raises(SurfaceRefusalError) as refused:
            await injecting(world).inject(world.vault, wrong, ANNA)
        assert (refused.value.status, refused.value.code) == (400, "InvalidRequest")


@pytest.mark.parametrize("place", [FABRIC, CLOUD])
async def test_a_cloud_or_a_server_stands_for_what_is_protected_there(
    tmp_path: Path, place: str
) -> None:
    async with hub_world(tmp_path) as world:
        await furnish(world, an_item(1), an_item(2), an_item(3, ProtectionState.TEST_OPEN))
        request = InjectionRequest(event=PLANNED.event, target=place, arguments=FORWARD)
        before = await stored(world)
        told = await injecting(world).foresee(world.vault, request)
        assert [each.target_name for each in told.members] == ["web01", "web02"]
        assert any("web03" in note for note in told.notes)
        assert await stored(world) == before
        done = await injecting(world).inject(world.vault, request, ANNA)
        assert done.job_id is not None
        await Sites(world).ended(done.job_id)
        (plan,) = [job for job in await jobs_of(world, FAILED_OVER) if job.own_specs]
        assert (plan.id, plan.state) == (done.job_id, JobState.SUCCEEDED)
        # Every job that it brought about says whose it is, those of the machines too.
        assert {job.affected.get("injectionId") for job in await jobs_of(world, FAILED_OVER)} == {
            done.id
        }
        states = [(await stored_item(world, number)).state for number in (1, 2, 3)]
        over = ProtectionState.PLANNED_FAILED_OVER
        assert states == [over, over, ProtectionState.TEST_OPEN]
        again = InjectionRequest(event=PLANNED.event, target=place, arguments=FORWARD)
        with pytest.raises(SurfaceRefusalError, match="fits no machine") as refused:
            await injecting(world).inject(world.vault, again, ANNA)
        assert refused.value.status == HTTPStatus.CONFLICT
        with pytest.raises(SurfaceRefusalError, match="fits no machine"):
            await injecting(world).foresee(world.vault, again)


async def test_what_no_plan_does_is_not_done_to_a_whole_cloud(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await furnish(world, an_item(1))
        event = InjectionKind.CHANGE_RECOVERY_POINT
        request = InjectionRequest(event=event, target=CLOUD, arguments={})
        with pytest.raises(InvalidRequestError, match="whole cloud"):
            await injecting(world).inject(world.vault, request, ANNA)


async def test_an_event_of_a_site_is_a_job_that_reaches_its_management_port(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        sites = world.leaving.sites
        done = await injecting(world).inject(world.vault, OUTAGE, ANNA)
        assert done.job_id is not None
        assert await ended(world, done.job_id) is JobState.SUCCEEDED
        assert sites.injected == [("tokyo.example", InjectionKind.SITE_OUTAGE, {})]
        sites.refuses = "it does not answer"
        failed = await injecting(world).inject(world.vault, OUTAGE, ANNA)
        assert failed.job_id is not None
        assert await ended(world, failed.job_id) is JobState.FAILED
        (error,) = (await world.job(failed.job_id)).errors
        assert error.code == "90080"
        assert "it does not answer" in error.possible_causes


async def test_sites_outside_of_a_laboratory_are_left_alone(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        osaka = InjectionRequest(
            event=InjectionKind.PROVIDER_LOSS,
            target=FABRIC.replace("tokyo", "osaka"),
            arguments={},
        )
        with pytest.raises(ConflictError, match="laboratory"):
            await injecting(world).inject(world.vault, osaka, ANNA)
        assert await injecting(world).list(world.vault) == []


async def test_the_same_request_sent_again_is_the_same_injection(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        injections = injecting(world)
        who = Injector("anna", "Injector", "request-1")
        first = await injections.inject(world.vault, OUTAGE, who)
        assert (await injections.inject(world.vault, OUTAGE, who)).id == first.id
        other = InjectionRequest(event=InjectionKind.PROVIDER_LOSS, target=FABRIC, arguments={})
        with pytest.raises(ConflictError, match="request id"):
            await injections.inject(world.vault, other, who)


async def test_a_dry_run_tells_the_tasks_and_changes_nothing(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await protected(world)
        injections, before = injecting(world), await stored(world)
        told = await injections.foresee(world.vault, PLANNED)
        assert [each.task.task_id for each in told.tasks][:2] == [
            "PlannedFailoverPreflightChecksTask",
            "ShutdownVmOnPrimary",
        ]
        assert await stored(world) == before


@pytest.mark.parametrize(
    "target",
    ["", "/nothing", ITEM.replace("/v/", "/other/"), f"{ITEM}/recoveryPoints/p"],
)
async def test_a_target_that_is_none_is_named(tmp_path: Path, target: str) -> None:
    async with hub_world(tmp_path) as world:
        request = InjectionRequest(event=PLANNED.event, target=target, arguments={})
        with pytest.raises(InvalidRequestError, match=r"target|injected"):
            await injecting(world).inject(world.vault, request, ANNA)


async def test_a_vault_that_wants_signatures_takes_no_schedule(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await protected(world)
        strict: Vault = world.vault.model_copy(update={"requires_operator_signature": True})
        weekly = InjectionRequest(
            event=PLANNED.event, target=ITEM, arguments=PLANNED.arguments, cron="0 3 * * 6"
        )
        with pytest.raises(InvalidRequestError, match="signed"):
            await injecting(world).inject(strict, weekly, ANNA)


async def test_several_hubs_at_one_moment_begin_one_job(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await protected(world)
        at = world.clock.now() + timedelta(hours=1)
        later = replace(PLANNED, at=at)
        made = await injecting(world).inject(world.vault, later, ANNA)
        world.clock.time = at
        await world.heard_of("tokyo")
        await world.heard_of("osaka")
        await asyncio.gather(*(injecting(world).fire_due() for _ in range(5)))
        (job,) = await jobs_of(world, FAILED_OVER)
        found = await injecting(world).find(world.vault, made.id)
        assert (found.job_id, found.times, found.begun_at) == (job.id, 1, None)


async def test_what_a_killed_hub_was_at_is_left_alone_for_a_minute(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        injections = injecting(world)
        at = world.clock.now() + timedelta(hours=1)
        later = replace(OUTAGE, at=at)
        made = await injections.inject(world.vault, later, ANNA)
        present = await world.store.get(Injection, made.id)
        assert present is not None
        world.clock.time = at
        claimed = made.model_copy(update={"begun_at": at})
        await world.committer.commit(Change(saves=(Save(claimed, present.version),)))
        # What is about to happen cannot be said not to happen any more.
        with pytest.raises(ConflictError, match="at this moment"):
            await injections.cancel(world.vault, made.id, "anna")
        assert await injections.fire_due() == 0
        world.clock.time += CLAIM + timedelta(seconds=1)
        assert await injections.fire_due() == 1
        assert (await injections.find(world.vault, made.id)).times == 1


async def test_what_was_cancelled_at_the_last_moment_does_not_happen(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        injections = injecting(world)
        at = world.clock.now() + timedelta(hours=1)
        later = replace(OUTAGE, at=at)
        made = await injections.inject(world.vault, later, ANNA)
        present = await world.store.get(Injection, made.id)
        assert present is not None
        world.clock.time = at
        await injections.cancel(world.vault, made.id, "anna")
        # A hub that had read it before it was cancelled may not go on with it.
        assert await injections._claimed(present) is None
        assert await injections.fire_due() == 0
        assert world.leaving.sites.injected == []


async def test_a_refused_request_sent_again_is_refused_again(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await protected(world)
        who = Injector("anna", "Injector", "request-1")
        wrong = replace(PLANNED, arguments={"failover": "yes"})
        for _ in range(2):
            with pytest.raises(SurfaceRefusalError) as refused:
                await injecting(world).inject(world.vault, wrong, who)
            assert (refused.value.status, refused.value.code) == (400, "InvalidRequest")
        assert len(await injecting(world).list(world.vault)) == 1


async def test_two_sendings_at_one_moment_are_one_injection(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        who = Injector("anna", "Injector", "request-1")
        made = await asyncio.gather(
            *(injecting(world).inject(world.vault, OUTAGE, who) for _ in range(4))
        )
        assert len({each.id for each in made}) == 1
        assert len(await jobs_of(world, "InjectEvent")) == 1


async def test_a_schedule_ends_with_the_right_of_the_account_that_made_it(tmp_path: Path) -> None:
    async with hub_world(tmp_path, timedelta(days=30)) as world:
        grant = AccountGrant(role=Role.INJECTOR, vault_id=world.vault.id)
        account = ServiceAccount(
            id="account-1",
            vault_id="",
            name="drills",
            grants=(grant,),
            secrets=(),
            created_at=world.clock.now(),
            created_by="anna",
        )
        await world.committer.commit(Change(saves=(Save(account, None),)))
        who = Injector("drills", "Injector", account=account.id)
        injections, daily = injecting(world), replace(OUTAGE, cron="0 3 * * *")
        made = await injections.inject(world.vault, daily, who)
        assert made.next_at is not None
        world.clock.time = made.next_at
        await injections.fire_due()
        assert (await injections.find(world.vault, made.id)).times == 1
        await world.committer.commit(Change(deletes=(Delete(ServiceAccount, account.id),)))
        world.clock.time += timedelta(days=1)
        await injections.fire_due()
        found = await injections.find(world.vault, made.id)
        assert (found.times, found.job_id) == (1, None)
        assert "no right to inject here any more" in found.message


async def test_the_job_of_a_site_is_marked_in_the_audit_log_too(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        done = await injecting(world).inject(world.vault, OUTAGE, ANNA)
        lines = await world.store.audit_lines(world.vault.id, None, 100)
        told = [json.loads(each.text) for each in lines]
        (line,) = [each for each in told if each["job_id"] == done.job_id]
        assert (line["injection_id"], line["principal"]) == (done.id, "anna")
