"""The engine's measurement is of what it says: the same plan each time, all of it durable."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from benchmarks.engine import hub_process
from benchmarks.engine.catalogue import CATALOGUE, DATABASES
from benchmarks.engine.databases import Databases
from benchmarks.engine.workload import (
    ANSWER_SECONDS,
    TASKS,
    Plan,
    answer_seconds,
    ideal_seconds,
    job_id,
)
from service_hub.domain.scenarios import SCENARIOS, Scenario

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture(autouse=True)
def own_scenarios() -> Iterator[None]:
    """Take the measurement's task lists out of the table again: other tests walk it."""
    before = dict(SCENARIOS)
    yield
    table = cast("dict[str, Scenario]", SCENARIOS)
    for key in table.keys() - before:
        del table[key]


def test_answers_are_the_same_in_every_run_and_within_their_bounds() -> None:
    low, high = ANSWER_SECONDS
    answers = answer_seconds(3)
    assert answers == answer_seconds(3)
    assert answers != answer_seconds(4)
    assert list(answers) == [spec.task_id for spec in TASKS]
    assert all(low <= each <= high for each in answers.values())


def test_the_ideal_is_the_longest_items_answers() -> None:
    sums = [sum(answer_seconds(number).values()) for number in range(20)]
    assert ideal_seconds(20) == max(sums)


def test_every_item_has_a_job_of_eight_dispatched_tasks() -> None:
    begin = Plan(NOW).begin(7)
    assert begin.job.id == job_id(7)
    specs = [begin.job.spec(task.task_id) for task in begin.job.tasks]
    assert len(specs) == 8
    assert all(spec.verb is not None and len(spec.sides) == 1 for spec in specs)


def test_both_databases_have_the_same_metrics() -> None:
    of = [{name.replace(kind, "") for name in CATALOGUE if kind in name} for kind in DATABASES]
    assert of[0] == of[1]
    assert len(CATALOGUE) == 2 * len(of[0])


async def test_a_small_plan_is_measured_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        hub_process, "answer_seconds", lambda _number: {spec.task_id: 0.001 for spec in TASKS}
    )
    order = {"what": "plan", "database": Databases(tmp_path, None).new("SQLite"), "items": 12}
    async with asyncio.timeout(30):
        told = await hub_process.run_plan(order)
    assert told["seconds"] > 0
    assert told["processor_seconds"] > told["played_seconds"] > 0


async def test_a_plan_whose_jobs_fail_is_no_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        hub_process, "answer_seconds", lambda _number: {spec.task_id: 0.001 for spec in TASKS}
    )
    monkeypatch.setattr(hub_process, "TASKS", TASKS[:-1])
    order = {"what": "plan", "database": Databases(tmp_path, None).new("SQLite"), "items": 2}
    with pytest.RaisesGroup(AssertionError, flatten_subgroups=True):
        await hub_process.run_plan(order)
