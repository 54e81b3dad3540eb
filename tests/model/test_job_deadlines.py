"""What a deadline, a gone provider and a late report do to a job, one story each."""

from datetime import timedelta

from service_hub.domain.decide import decide, next_deadline
from service_hub.domain.jobs import (
    UNDO_SUFFIX,
    Begun,
    CheckFailed,
    CheckPassed,
    Command,
    Dispatch,
    Job,
    JobState,
    PartFailed,
    PartSucceeded,
    Tick,
    Withdraw,
)
from service_hub.domain.scenarios import SCENARIOS
from tests.support.job_plans import ERROR, NOW, scenario_job
from tests.support.job_walk import answers
from wire_contract.vocabulary import Side

LATER = NOW + timedelta(days=1)


def test_late_reports_change_nothing_once_a_job_has_ended() -> None:
    job = scenario_job("create_policy")
    job, commands = decide(job, Begun(NOW))
    job, _ = decide(job, CheckFailed(NOW, commands[0].task_id, 1, ERROR))
    assert job.finished
    for event in (
        CheckPassed(NOW, commands[0].task_id, 1),
        Tick(LATER, ERROR),
        PartFailed(NOW, "x" + UNDO_SUFFIX, Side.PRIMARY, 1, ERROR),
    ):
        assert decide(job, event) == (job, ())
    assert next_deadline(job) is None


def given_up(key: str, task_id: str) -> tuple[Job, tuple[Command, ...]]:
    """Let a job run well up to a task, and that one run into its deadline."""
    job, commands = decide(scenario_job(key), Begun(NOW))
    while commands[0].task_id != task_id:
        following: tuple[Command, ...] = ()
        for command in commands:
            job, more = decide(job, next(iter(answers(job, command))))
            following += more
        commands = following
    due = next_deadline(job)
    assert due is not None
    job, withdrawals = decide(job, Tick(due, ERROR))
    return job, withdrawals


def test_a_deadline_withdraws_and_waits_before_it_undoes() -> None:
    job, withdrawals = given_up("planned_failover", "FailoverTask")
    assert [type(command) for command in withdrawals] == [Withdraw]
    assert job.waiting_for is not None
    assert not job.undoing
    ended, undo = decide(job, PartFailed(NOW, "FailoverTask", Side.RECOVERY, 1, ERROR))
    assert ended.undoing
    assert [command.task_id for command in undo] == ["FailoverTask" + UNDO_SUFFIX]
    assert ended.held_up is None


def test_a_provider_that_is_gone_is_waited_for_until_nothing_can_come_from_it() -> None:
    job, _ = given_up("planned_failover", "FailoverTask")
    run = job.run("FailoverTask")
    assert run is not None
    assert run.deadline is not None
    seconds = SCENARIOS["planned_failover"].task("FailoverTask").seconds
    gone_at = run.deadline + timedelta(seconds=seconds, minutes=10)
    assert next_deadline(job) == gone_at
    assert decide(job, Tick(gone_at - timedelta(seconds=1), ERROR)) == (job, ())
    after, _ = decide(job, Tick(gone_at, ERROR))
    assert after.undoing


def test_a_success_that_comes_after_the_deadline_is_a_success() -> None:
    job, _ = given_up("planned_failover", "FailoverTask")
    after, commands = decide(job, PartSucceeded(NOW, "FailoverTask", Side.RECOVERY, 1, {}, NOW))
    assert [command.task_id for command in commands] == ["StartVmOnSecondary"]
    assert not after.errors


def test_an_unplanned_failover_goes_past_its_source_without_waiting() -> None:
    job, commands = given_up("unplanned_failover", "ShutdownVmOnPrimaryForUFO")
    assert [type(command) for command in commands] == [Withdraw, Dispatch]
    assert job.held_up is None


def test_the_other_end_of_a_failed_task_is_withdrawn_and_waited_for() -> None:
    job, commands = decide(scenario_job("pair_clouds"), Begun(NOW))
    job, commands = decide(job, CheckPassed(NOW, commands[0].task_id, 1))
    task_id = commands[0].task_id
    job, withdrawals = decide(job, PartFailed(NOW, task_id, Side.PRIMARY, 1, ERROR))
    assert [(type(each), getattr(each, "side", None)) for each in withdrawals] == [
        (Withdraw, Side.RECOVERY)
    ]
    assert not job.finished
    job, _ = decide(job, PartSucceeded(NOW, task_id, Side.RECOVERY, 1, {}, NOW))
    assert job.state is JobState.FAILED
