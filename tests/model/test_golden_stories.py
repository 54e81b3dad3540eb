"""Each operation and each of its failures at each task happens as it is written.

The texts are read as prose when they change: `python -m tests.support.golden_stories` writes them
anew from what the hub decides now.
"""

from itertools import product

import pytest

from service_hub.domain.item_life import own_specs_of
from service_hub.domain.protection import TRANSITIONS, Operation
from service_hub.domain.scenarios import PLANS, SCENARIOS
from tests.support.golden_commands import COMMANDS, Beginning, beginnings
from tests.support.golden_stories import FOLDER, file_of, told

BEGINNINGS = beginnings()
FACTS = ("offline", "deletes", "takes_over")
"""What an item and a request have of their own, by the names of `own_specs_of`."""
AGAIN = "read and, if it is right, write it: python -m tests.support.golden_stories"


@pytest.mark.parametrize("beginning", BEGINNINGS.values(), ids=lambda each: each.key)
def test_an_operation_goes_and_fails_as_it_is_written(beginning: Beginning) -> None:
    place = file_of(beginning.key)
    assert place.exists(), f"nothing is written of {beginning.key}; {AGAIN} '{beginning.key}'"
    assert told(beginning) == place.read_text(), f"{AGAIN} '{beginning.key}'"


@pytest.mark.parametrize("beginning", BEGINNINGS.values(), ids=lambda each: each.key)
def test_every_task_fails_in_its_story(beginning: Beginning) -> None:
    titles = [line for line in told(beginning).splitlines() if line.startswith("# '")]
    for task in beginning.job.tasks:
        spec = beginning.job.spec(task.task_id)
        mine = [each for each in titles if each.startswith(f"# '{spec.friendly_name}'")]
        assert len(mine) >= max(1, 2 * len(spec.sides)), f"{task.task_id} fails nowhere"


def test_every_scenario_and_every_plan_is_told() -> None:
    assert SCENARIOS.keys() | PLANS.keys() <= BEGINNINGS.keys()


def test_every_operation_is_told_from_each_way_that_it_has() -> None:
    """Operations, tasks and their variants are those of the tables: none can be forgotten."""
    told_of = [(each.job.operation, each.job.own_specs) for each in BEGINNINGS.values()]
    possible = [
        (operation, own_specs_of(operation, state, **dict(zip(FACTS, facts, strict=True))))
        for state, arcs in TRANSITIONS.items()
        for operation in arcs
        for facts in product((False, True), repeat=len(FACTS))
    ]
    assert {operation for operation, _ in possible} == set(Operation)
    missing = [each for each in possible if each not in told_of]
    assert not missing, [(operation, [spec.task_id for spec in own]) for operation, own in missing]


def test_what_cannot_be_taken_back_is_told() -> None:
    for beginning in BEGINNINGS.values():
        specs = [beginning.job.spec(task.task_id) for task in beginning.job.tasks]
        count = sum(len(spec.sides) for spec in specs if spec.undo_on_failure)
        assert told(beginning).count(", and nothing can be taken back\n") == count


def test_nothing_is_written_of_what_is_no_more() -> None:
    assert {each.name for each in FOLDER.iterdir()} == {file_of(key).name for key in BEGINNINGS}
    assert COMMANDS.keys() == BEGINNINGS.keys()
