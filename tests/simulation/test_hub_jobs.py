"""Jobs over the real store and engine, the providers spoken for: the stories of the hub alone."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from service_hub.domain.jobs import Job, JobError, JobState, TaskState
from service_hub.domain.protection import Operation, ProtectionState, TestState
from service_hub.domain.records import ProtectedItem
from service_hub.ports.changes import Change, Save
from tests.support.hub_stories import (
    ask,
    completed,
    ended,
    observe,
    paired,
    protected,
    until_done,
)
from tests.support.hub_world import MACHINE_ID, HubWorld, hub_world
from wire_contract.events import Assignment
from wire_contract.reports import ProviderError
from wire_contract.vocabulary import ReplicationState, Side


async def test_planned_failover_and_failback_end_where_they_began(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await protected(world)
        job = await ask(world, Operation.PLANNED_FAILOVER, failover_direction="PrimaryToRecovery")
        assert await until_done(world, job) == [
            "tokyo shut_down e1",
            "tokyo prepare_failover e1",
            "osaka fail_over e2",
            "osaka start e2",
        ]
        item = await world.item()
        assert item.state is ProtectionState.PLANNED_FAILED_OVER
        assert (item.active_location, item.authority, item.epoch) == (
            Side.RECOVERY,
            Side.RECOVERY,
            2,
        )
        assert await ended(world, await ask(world, Operation.COMMIT)) is JobState.SUCCEEDED
        job = await ask(world, Operation.REVERSE_REPLICATE, failover_direction="RecoveryToPrimary")
        assert await until_done(world, job) == [
            "tokyo prepare_reverse e2",
            "osaka reverse_replicate e2",
            "tokyo update_protection e2",
            "osaka update_protection e2",
        ]
        run = (await world.job(job)).run("VmCommitTask")
        assert run is not None
        assert run.state is TaskState.SKIPPED
        assert (await world.item()).state is ProtectionState.PROTECTED
        await observe(world, "tokyo", ReplicationState.REPLICATING)
        job = await ask(world, Operation.PLANNED_FAILOVER, failover_direction="RecoveryToPrimary")
        assert await until_done(world, job) == [
            "osaka shut_down e2",
            "osaka prepare_failover e2",
            "tokyo fail_over e3",
            "tokyo start e3",
        ]
        job = await ask(world, Operation.REVERSE_REPLICATE, failover_direction="PrimaryToRecovery")
        assert (await until_done(world, job))[0] == "tokyo commit e3"
        item = await world.item()
        assert (item.state, item.active_location) == (ProtectionState.PROTECTED, Side.PRIMARY)


async def test_unplanned_failover_leaves_the_source_alone_and_resynchronizes(
    tmp_path: Path,
) -> None:
    async with hub_world(tmp_path) as world:
        await protected(world)
        job = await ask(world, Operation.UNPLANNED_FAILOVER, source_operations_required=False)
        assert await until_done(world, job) == ["osaka fail_over e2", "osaka start e2"]
        states = {task.task_id: task.state for task in (await world.job(job)).tasks}
        assert states["ShutdownVmOnPrimaryForUFO"] is TaskState.SUCCEEDED
        assert states["PrepareForUnPlannedFailoverTask"] is TaskState.SKIPPED
        job = await ask(world, Operation.REVERSE_REPLICATE)
        assert await until_done(world, job) == [
            "osaka commit e2",
            "tokyo shut_down e2",
            "tokyo prepare_reverse e2",
            "osaka reverse_replicate e2",
            "osaka start_initial_replication e2",
            "tokyo update_protection e2",
            "osaka update_protection e2",
        ]
        await completed(world)
        assert (await world.item()).active_location is Side.RECOVERY


async def test_unplanned_failover_goes_on_past_a_failing_source(tmp_path: Path) -> None:
    def answer(assignment: Assignment) -> ProviderError | None:
        source = assignment.verb in {"shut_down", "synchronize"}
        return ProviderError(code=32768, message="no") if source else None

    async with hub_world(tmp_path) as world:
        await protected(world)
        job = await ask(world, Operation.UNPLANNED_FAILOVER, source_operations_required=True)
        done = await until_done(world, job, answer)
        assert done == [
            "tokyo shut_down e1",
            "tokyo synchronize e1",
            "osaka fail_over e2",
            "osaka start e2",
        ]
        ended_job = await world.job(job)
        assert ended_job.state is JobState.SUCCEEDED
        assert [error.provider_code for error in ended_job.errors] == [32768, 32768]


async def test_unplanned_failover_does_not_wait_for_a_site_that_is_gone(tmp_path: Path) -> None:
    async with hub_world(tmp_path, lease=timedelta(minutes=5)) as world:
        await protected(world)
        world.clock.time += timedelta(minutes=10)
        await world.heard_of("osaka")
        job_id = await ask(world, Operation.UNPLANNED_FAILOVER, source_operations_required=True)
        async with asyncio.timeout(30):
            while not (await world.job(job_id)).finished:
                for assignment in await world.assignments("osaka"):
                    if assignment.job == job_id:
                        await world.outcome("osaka", assignment)
                await asyncio.sleep(0.01)
        job = await world.job(job_id)
        assert job.state is JobState.SUCCEEDED
        assert {error.code for error in job.errors} == {"25018"}


async def test_failure_of_start_failover_is_taken_back_under_a_new_epoch(tmp_path: Path) -> None:
    def answer(assignment: Assignment) -> ProviderError | None:
        return ProviderError(code=32768, message="no") if assignment.verb == "fail_over" else None

    async with hub_world(tmp_path) as world:
        await protected(world)
        job = await ask(world, Operation.PLANNED_FAILOVER)
        assert await until_done(world, job, answer) == [
            "tokyo shut_down e1",
            "tokyo prepare_failover e1",
            "osaka fail_over e2",
            "osaka cancel_failover e3",
            "tokyo cancel_failover e3",
            "tokyo start e3",
        ]
        assert (await world.job(job)).state is JobState.FAILED
        item = await world.item()
        assert item.state is ProtectionState.PROTECTED
        assert (item.authority, item.epoch, item.current) == (Side.PRIMARY, 3, None)
        assert (await world.refreshes("tokyo"), await world.refreshes("osaka")) == (1, 0)


async def test_failure_to_start_the_replica_leaves_a_failed_over_item(tmp_path: Path) -> None:
    def answer(assignment: Assignment) -> ProviderError | None:
        return ProviderError(code=32768, message="no") if assignment.verb == "start" else None

    async with hub_world(tmp_path) as world:
        await protected(world)
        job = await ask(world, Operation.PLANNED_FAILOVER)
        await until_done(world, job, answer)
        assert (await world.job(job)).state is JobState.FAILED
        item = await world.item()
        assert item.state is ProtectionState.PLANNED_FAILED_OVER
        assert item.active_location is Side.RECOVERY


async def test_test_failover_and_its_clean_up(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await protected(world)
        job = await ask(world, Operation.TEST_FAILOVER)
        assert await until_done(world, job) == [
            "osaka create_test_machine e1",
            "osaka prepare_test_machine e1",
            "osaka start e1",
        ]
        item = await world.item()
        assert item.test_state is TestState.WAITING_FOR_COMPLETION
        refused_job = await world.job(await ask(world, Operation.PLANNED_FAILOVER))
        assert refused_job.state is JobState.FAILED
        assert refused_job.errors[0].code == "90010"
        job = await ask(world, Operation.TEST_FAILOVER_CLEANUP)
        assert await until_done(world, job) == [
            "osaka shut_down e1",
            "osaka remove_test_machine e1",
        ]
        item = await world.item()
        assert (item.state, item.test_machine_id) == (ProtectionState.PROTECTED, None)


async def test_busy_item_answers_with_a_job_that_failed_with_532(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await protected(world)
        first = await ask(world, Operation.PLANNED_FAILOVER)
        second = await world.job(await ask(world, Operation.UNPLANNED_FAILOVER))
        assert second.state is JobState.FAILED
        assert [error.code for error in second.errors] == ["532"]
        assert {task.state for task in second.tasks} == {TaskState.SKIPPED}
        assert await ended(world, first) is JobState.SUCCEEDED


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        (Operation.COMMIT, "25009"),
        (Operation.REVERSE_REPLICATE, "25010"),
        (Operation.TEST_FAILOVER_CLEANUP, "90010"),
    ],
)
async def test_operation_out_of_place_fails_in_its_first_task(
    tmp_path: Path, operation: Operation, code: str
) -> None:
    async with hub_world(tmp_path) as world:
        await protected(world)
        job = await world.job(await ask(world, operation))
        assert job.state is JobState.FAILED
        assert job.errors[0].code == code
        assert [task.state for task in job.tasks][:2] == [TaskState.FAILED, TaskState.SKIPPED]
        assert (await world.item()).state is ProtectionState.PROTECTED


async def test_wrong_direction_is_refused(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await protected(world)
        job = await world.job(
            await ask(world, Operation.PLANNED_FAILOVER, failover_direction="RecoveryToPrimary")
        )
        assert job.errors[0].code == "90011"


async def test_the_same_request_sent_again_fails_over_once(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await protected(world)
        jobs = {
            (
                await world.protection.request(
                    world.vault,
                    MACHINE_ID,
                    Operation.PLANNED_FAILOVER.value,
                    {},
                    world.identity("the-same"),
                )
            ).id
            for _ in range(3)
        }
        assert len(jobs) == 1


async def test_repeated_and_foreign_reports_change_nothing(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await protected(world)
        job_id = await ask(world, Operation.PLANNED_FAILOVER)
        async with asyncio.timeout(30):
            while not (mine := [a for a in await world.assignments("tokyo") if a.job == job_id]):
                await world.committer.until_next()
        await world.outcome("osaka", mine[0])
        before = await world.job(job_id)
        assert before.tasks[1].state is TaskState.IN_PROGRESS
        for _ in range(3):
            await world.outcome("tokyo", mine[0])
        after = await world.job(job_id)
        assert after.tasks[1].state is TaskState.SUCCEEDED
        assert after.tasks[2].attempt == 1


async def test_a_report_for_a_task_that_was_never_assigned_changes_nothing(tmp_path: Path) -> None:
    """Another job, a task whose turn has not come, an attempt nobody ordered; then the good one."""
    async with hub_world(tmp_path) as world:
        await protected(world)
        job_id = await ask(world, Operation.PLANNED_FAILOVER)
        async with asyncio.timeout(30):
            while not (mine := [a for a in await world.assignments("tokyo") if a.job == job_id]):
                await world.committer.until_next()
        before = await world.job(job_id)
        for changes in (
            {"job": "11111111-2222-4333-8444-555555555555"},
            {"task": "PrepareProtectedEntityForFailover.Primary"},
            {"task": "no such task.Primary"},
            {"task": "no end"},
            {"attempt": 2},
            {"attempt": 0},
        ):
            await world.outcome("tokyo", mine[0].model_copy(update=changes))
            assert await world.job(job_id) == before, changes
        await world.outcome("tokyo", mine[0])
        after = await world.job(job_id)
        assert after.tasks[1].state is TaskState.SUCCEEDED


async def test_hub_stopped_at_every_boundary_of_a_planned_failover_finishes_it(
    tmp_path: Path,
) -> None:
    async with hub_world(tmp_path) as world:
        await protected(world)
        job_id = await ask(world, Operation.PLANNED_FAILOVER)
    done: list[str] = []
    for _ in range(20):
        async with hub_world(tmp_path) as world:
            if (await world.job(job_id)).finished:
                break
            async with asyncio.timeout(30):
                while not (await world.job(job_id)).finished and not (
                    waiting := await _waiting(world, job_id)
                ):
                    await world.committer.until_next()
            for site, assignment in waiting[:1]:
                done.append(f"{site} {assignment.verb}")
                await world.outcome(site, assignment)
    assert done == [
        "tokyo shut_down",
        "tokyo prepare_failover",
        "osaka fail_over",
        "osaka start",
    ]
    async with hub_world(tmp_path) as world:
        assert (await world.job(job_id)).state is JobState.SUCCEEDED
        assert (await world.item()).state is ProtectionState.PLANNED_FAILED_OVER


async def _waiting(world: HubWorld, job_id: str) -> list[tuple[str, Assignment]]:
    job = await world.job(job_id)
    open_tasks = {task.task_id for task in job.tasks if task.state is TaskState.IN_PROGRESS}
    return [
        (site, assignment)
        for site in ("tokyo", "osaka")
        for assignment in await world.assignments(site)
        if assignment.job == job_id and assignment.task.rsplit(".", 1)[0] in open_tasks
    ]


async def test_authority_moves_with_the_epoch_not_with_the_end_of_the_job(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await protected(world)
        job_id = await ask(world, Operation.UNPLANNED_FAILOVER)
        async with asyncio.timeout(30):
            while (await world.item()).epoch == 1:
                await world.committer.until_next()
        item = await world.item()
        assert not (await world.job(job_id)).finished
        assert (item.active_location, item.authority) == (Side.PRIMARY, Side.RECOVERY)


async def test_a_pair_that_shares_a_cloud_is_refused(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await paired(world)
        job = await world.pairing.pair(
            world.vault,
            name="other",
            primary=("osaka-fabric", "osaka-cloud"),
            recovery=("tokyo-fabric", "tokyo-cloud"),
            policy_name="p",
            identity=world.identity(),
        )
        assert job.state is JobState.FAILED
        assert job.errors[0].code == "90015"


async def test_a_stale_change_fails_alone(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await protected(world)
        item = await world.item()
        stale = Save(item.model_copy(update={"epoch": 99}), 1)
        contacts = [world.heard_of("tokyo") for _ in range(30)]
        outcomes = await asyncio.gather(
            *contacts[:15],
            world.committer.commit(Change(saves=(stale,))),
            *contacts[15:],
            return_exceptions=True,
        )
        assert sum(isinstance(outcome, Exception) for outcome in outcomes) == 1
        found = await world.store.get(ProtectedItem, MACHINE_ID)
        assert found is not None
        assert found.record.epoch == 1


async def test_a_check_that_breaks_off_stops_neither_the_hub_nor_the_job(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await protected(world)
        whole = world.engine._after.checker

        class BrokenChecker:
            async def check(self, job: Job, task_id: str) -> JobError | None:
                raise RuntimeError(f"{job.id} {task_id}")

        world.engine._after.checker = BrokenChecker()
        job_id = await ask(world, Operation.PLANNED_FAILOVER)
        world.engine._after.checker = whole
        await world.heard_of("tokyo")
        assert not (await world.job(job_id)).finished
    async with hub_world(tmp_path) as world:
        assert await ended(world, job_id) is JobState.SUCCEEDED
