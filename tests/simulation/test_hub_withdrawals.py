"""Jobs whose providers do not answer in time: withdrawn, waited for, and ended well or in words."""

import asyncio
from datetime import timedelta
from pathlib import Path

from service_hub.domain.jobs import JobState
from service_hub.domain.protection import Operation
from service_hub.domain.records import OutboxEvent
from tests.support.hub_stories import ask, protected, until_done
from tests.support.hub_world import HubWorld, hub_world
from wire_contract.events import Assignment, Withdrawal
from wire_contract.reports import ProviderError, Receipt, ReportBatch
from wire_contract.vocabulary import EventType, ReceiptKind, RefusalReason

WITHDRAWN = ProviderError(code=90002, message="the task was withdrawn before it began")


async def open_assignment(world: HubWorld, site: str, job_id: str, verb: str) -> Assignment:
    async with asyncio.timeout(20):
        while True:
            for assignment in await world.assignments(site):
                if (assignment.job, assignment.verb) == (job_id, verb):
                    return assignment
            await asyncio.sleep(0.01)


async def withdrawal(world: HubWorld, site: str) -> OutboxEvent:
    async with asyncio.timeout(20):
        while True:
            for event in await world.store.events_after(world.providers[site].id, 0, 1000):
                if event.type is EventType.WITHDRAWAL:
                    return event
            await asyncio.sleep(0.01)


async def overdue(world: HubWorld) -> tuple[str, Assignment, OutboxEvent]:
    """Let a planned failover's failover run into its deadline at Osaka."""
    await protected(world)
    job_id = await ask(world, Operation.PLANNED_FAILOVER)
    for verb in ("shut_down", "prepare_failover"):
        await world.outcome("tokyo", await open_assignment(world, "tokyo", job_id, verb))
    assignment = await open_assignment(world, "osaka", job_id, "fail_over")
    world.clock.time = assignment.deadline
    return job_id, assignment, await withdrawal(world, "osaka")


async def test_a_deadline_withdraws_the_attempt_and_the_job_says_whom_it_waits_for(
    tmp_path: Path,
) -> None:
    async with hub_world(tmp_path, lease=timedelta(days=1)) as world:
        job_id, assignment, event = await overdue(world)
        body = Withdrawal.model_validate(event.body)
        assert (body.job, body.task, body.attempt) == (job_id, assignment.task, 1)
        job = await world.job(job_id)
        assert not job.undoing
        assert job.waiting_for is not None
        assert "osaka" in job.waiting_for
        assert "Start failover" in job.waiting_for
        await world.outcome("osaka", assignment, WITHDRAWN)
        done = await until_done(
            world, job_id, lambda each: WITHDRAWN if each.verb == "fail_over" else None
        )
        assert "osaka cancel_failover e3" in done
        ended = await world.job(job_id)
        assert ended.state is JobState.FAILED
        assert [error.code for error in ended.errors] == ["90012"]
        assert ended.waiting_for is None


async def test_a_refused_withdrawal_is_no_final_report(tmp_path: Path) -> None:
    async with hub_world(tmp_path, lease=timedelta(days=1)) as world:
        job_id, assignment, event = await overdue(world)
        before = await world.job(job_id)
        receipt = Receipt(
            report_id="r",
            stream=event.stream,
            seq=event.seq,
            event_id=event.id,
            receipt=ReceiptKind.REFUSED,
            reason=RefusalReason.LOWER_FENCE,
            command_id=assignment.command_id,
        )
        batch = ReportBatch(journal_id="j", reports=(receipt,))
        await world.reports.reports(world.providers["osaka"], batch)
        assert await world.job(job_id) == before


async def test_a_provider_that_never_answers_is_gone_in_the_end(tmp_path: Path) -> None:
    async with hub_world(tmp_path, lease=timedelta(days=1)) as world:
        job_id, assignment, event = await overdue(world)
        assert event.expires_at == assignment.deadline + timedelta(seconds=900, minutes=10)
        world.clock.time = event.expires_at
        undo = await open_assignment(world, "osaka", job_id, "cancel_failover")
        assert undo.epoch == assignment.epoch + 1


async def test_the_wait_goes_on_after_the_hub_was_killed(tmp_path: Path) -> None:
    async with hub_world(tmp_path, lease=timedelta(days=1)) as world:
        job_id, assignment, _ = await overdue(world)
        waiting = (await world.job(job_id)).waiting_for
    async with hub_world(tmp_path, lease=timedelta(days=1)) as world:
        world.clock.time = assignment.deadline
        assert (await world.job(job_id)).waiting_for == waiting
        await world.outcome("osaka", assignment)
        await open_assignment(world, "osaka", job_id, "start")
