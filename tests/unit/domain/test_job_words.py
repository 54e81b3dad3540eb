"""What a job says it waits for, and what it offers to people."""

from datetime import timedelta

import pytest

from service_hub.domain.decide import decide, next_deadline
from service_hub.domain.jobs import (
    Begun,
    CancelRequested,
    CheckPassed,
    ChildrenEnded,
    Event,
    Job,
    JobState,
    PartFailed,
    PartSucceeded,
    RestartRequested,
    Resumed,
    RunCheck,
    StartChildren,
    TakenUp,
    TaskState,
    Tick,
)
from tests.support.job_plans import BUSY, ERROR, NOW, PLANS, job_of, scenario_job
from wire_contract.vocabulary import Side

AT = "2026-01-01T00:00:00Z"


def moving() -> Job:
    job, _ = decide(job_of(PLANS["move"]), Begun(NOW))
    job, _ = decide(job, CheckPassed(NOW, "check", 1))
    return job


def test_a_running_task_says_who_reports_until_when() -> None:
    job = moving()
    assert job.waiting_for == (
        f"waiting for Primary to report on 'stop' since {AT}, until 2026-01-01T00:15:00Z at the"
        " latest; can be ended by Cancel"
    )
    assert job.held_up is None
    assert job.allowed_actions == ("Cancel",)


def test_a_pause_says_when_it_is_tried_again() -> None:
    job, commands = decide(moving(), PartFailed(NOW, "stop", Side.PRIMARY, 1, BUSY))
    assert not commands
    assert job.held_up == (
        f"waiting to try 'stop' again at 2026-01-01T00:00:05Z, since {AT}; can be ended by Cancel"
    )
    assert job.waiting_for == job.held_up
    again, commands = decide(job, Tick(NOW + timedelta(seconds=5), ERROR))
    assert [each.attempt for each in commands] == [2]
    assert again.held_up is None
    done, _ = decide(again, PartSucceeded(NOW, "stop", Side.PRIMARY, 2, {}, NOW))
    assert not done.errors


def test_a_pause_that_is_cancelled_takes_back_and_ends() -> None:
    job, _ = decide(moving(), PartFailed(NOW, "stop", Side.PRIMARY, 1, BUSY))
    job, commands = decide(job, CancelRequested(NOW, "p", "c"))
    assert [each.task_id for each in commands] == ["stop!undo"]
    assert job.allowed_actions == ()
    assert "it ends by itself" in (job.waiting_for or "")
    job, _ = decide(job, PartSucceeded(NOW, "stop!undo", Side.PRIMARY, 1, {}, NOW))
    assert (job.state, job.waiting_for, job.allowed_actions) == (JobState.CANCELLED, None, ())


def test_a_scheduled_job_begins_when_its_time_has_come() -> None:
    start = NOW + timedelta(hours=1)
    job = job_of(PLANS["move"], start_at=start)
    assert decide(job, Begun(NOW)) == (job, ())
    assert next_deadline(job) == start
    assert job.held_up == (
        f"waiting for 2026-01-01T01:00:00Z to begin, since {AT}; can be ended by Cancel"
    )
    assert decide(job, Tick(start - timedelta(seconds=1), ERROR)) == (job, ())
    begun, commands = decide(job, Tick(start, ERROR))
    assert commands == (RunCheck("check", 1),)
    assert begun.started_at == start
    cancelled, commands = decide(job, CancelRequested(NOW, "p"))
    assert (cancelled.state, commands) == (JobState.CANCELLED, ())
    assert {task.state for task in cancelled.tasks} == {TaskState.SKIPPED}


def test_a_job_without_a_time_is_not_begun_by_time() -> None:
    job = job_of(PLANS["move"])
    assert next_deadline(job) is None
    assert decide(job, Tick(NOW + timedelta(days=9), ERROR)) == (job, ())
    assert "waiting for its beginning" in (job.waiting_for or "")


def test_a_plan_goes_from_group_to_person_to_group() -> None:
    job, commands = decide(job_of(PLANS["groups"]), Begun(NOW))
    assert commands == (StartChildren("first", 1),)
    assert "the 2 jobs of 'first' to end" in (job.waiting_for or "")
    assert next_deadline(job) is None
    job, commands = decide(job, ChildrenEnded(NOW, "first", 1, 1, ("b",), 1))
    assert (job.state, commands) == (JobState.SUSPENDED, ())
    assert job.allowed_actions == ("Cancel", "Resume")
    assert "a person to do 'check the network'" in (job.waiting_for or "")
    job, commands = decide(job, Resumed(NOW, "ann", "looks well"))
    assert commands == (StartChildren("second", 1),)
    person = job.run("person")
    assert person is not None
    assert (person.state, person.comments) == (TaskState.SUCCEEDED, "looks well")
    job, _ = decide(job, ChildrenEnded(NOW, "second", 1, 1, (), 0))
    job, _ = decide(job, PartSucceeded(NOW, "after", Side.RECOVERY, 1, {}, NOW))
    assert job.state is JobState.FAILED, "a group had failures: they can be mended by a restart"
    assert [error.code for error in job.errors] == ["90018"]
    assert [request.action for request in job.requests] == ["Resume"]
    job, commands = decide(job, RestartRequested(NOW, "bob"))
    assert commands == (StartChildren("first", 2),)


@pytest.mark.parametrize("action", ["Cancel", "Restart", "Resume"])
def test_what_is_not_offered_changes_nothing(action: str) -> None:
    events: dict[str, Event] = {
        "Cancel": CancelRequested(NOW, "p"),
        "Restart": RestartRequested(NOW, "p"),
        "Resume": Resumed(NOW, "p"),
    }
    done, _ = decide(scenario_job("create_site"), Begun(NOW))
    done, _ = decide(done, CheckPassed(NOW, done.tasks[0].task_id, 1))
    running = moving()
    suspended, _ = decide(job_of(PLANS["groups"]), Begun(NOW))
    suspended, _ = decide(suspended, ChildrenEnded(NOW, "first", 1, 2, (), 0))
    for job in (done, running, suspended):
        changed = decide(job, events[action])[0] != job
        assert changed == (action in job.allowed_actions)


def test_a_fence_only_rises() -> None:
    job = moving()
    raised, commands = decide(job, TakenUp(4))
    assert (raised.fence, commands) == (4, ())
    assert decide(raised, TakenUp(3)) == (raised, ())
