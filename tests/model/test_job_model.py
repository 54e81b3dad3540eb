"""Bounded exhaustive walk over `decide`: every order of reports, losses, deadlines and requests.

Small plans hold every kind of task and are walked with a cancellation and restarts at any moment;
so are the recorded scenarios, there without retries, and the longest without restarts (with more of
all in tests/long). What is found is told in the summary.
"""

from collections.abc import Callable

import pytest

from service_hub.domain.decide import decide
from service_hub.domain.jobs import (
    Begun,
    Command,
    JobState,
    RestartRequested,
    TaskState,
)
from service_hub.domain.scenarios import SCENARIOS
from tests.support.job_plans import NOW, PLANS, job_of, scenario_job
from tests.support.job_walk import Walk, answers, explore
from wire_contract.vocabulary import Direction

FLAG_SETS = (
    ("source_operations_not_required", "no_network_mapping", "states_updated_later"),
    ("already_committed",),
)
LONGEST = "unplanned_failover"
TASKS_MAX = max(len(scenario.tasks) for scenario in SCENARIOS.values())


def test_every_order_of_events_of_small_plans_keeps_the_invariants(
    tell: Callable[[str], None],
) -> None:
    walk = sum((explore(decide, job_of(plan), restarts=1) for plan in PLANS.values()), Walk())
    tell(
        f"decide, small plans: {walk.states} states, {walk.transitions} transitions,"
        f" {walk.ends} ends"
    )
    assert walk.states > 8_000, "the walk has become smaller than what it was made for"


def test_every_order_of_events_of_the_scenarios_keeps_the_invariants(
    tell: Callable[[str], None],
) -> None:
    walk = Walk()
    for key in SCENARIOS:
        walk += explore(decide, scenario_job(key), restarts=int(key != LONGEST))
    tell(
        f"decide, scenarios: {walk.states} states, {walk.transitions} transitions, {walk.ends} ends"
    )
    assert walk.states > 10_000, "the walk has become smaller than what it was made for"


@pytest.mark.parametrize("key", SCENARIOS)
@pytest.mark.parametrize("flags", FLAG_SETS)
@pytest.mark.parametrize("direction", list(Direction))
def test_every_order_keeps_the_invariants_with_any_flags(
    key: str, flags: tuple[str, ...], direction: Direction
) -> None:
    walk = explore(decide, scenario_job(key, flags, direction), cancels=0, restarts=0)
    assert walk.states > 1


@pytest.mark.parametrize("key", SCENARIOS)
@pytest.mark.parametrize("position", range(TASKS_MAX))
def test_failure_at_any_task_ends_the_job_with_that_error_and_a_restart_completes_it(
    key: str, position: int
) -> None:
    job = scenario_job(key)
    if position >= len(job.tasks):
        return
    failing = job.tasks[position].task_id
    job, commands = decide(job, Begun(NOW))
    for _ in range(100):
        if not commands:
            break
        following: tuple[Command, ...] = ()
        for command in commands:
            fails = command.task_id == failing
            events = list(answers(job, command))
            job, more = decide(job, events[min(int(fails), len(events) - 1)])
            following += more
        commands = tuple(each for each in following if list(answers(job, each)))
    assert job.finished
    assert failing in {error.task_id for error in job.errors}
    goes_on = job.spec(failing).go_on_after_failure
    assert job.state is (JobState.SUCCEEDED if goes_on else JobState.FAILED)
    if goes_on:
        return
    job, commands = decide(job, RestartRequested(NOW, "p"))
    while commands:
        command, *rest = commands
        job, more = decide(job, next(iter(answers(job, command))))
        commands = (*rest, *more)
    assert job.state is JobState.SUCCEEDED
    assert not job.errors
    assert all(task.state is TaskState.SUCCEEDED for task in job.tasks)
