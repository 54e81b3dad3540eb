"""Job and task names come from one table, whose rows say their source; the page is that table."""

import re

import pytest

from service_hub.domain.scenarios import PLANS, SCENARIOS
from tests.support.jobs_page import PAGE, page
from wire_contract.vocabulary.job_names import JOBS, job_names
from wire_contract.vocabulary.task_names import TASKS, task_names

SOURCE = re.compile(r"recorded\.md \d+|behaviour\.md \d+\.\d+|ours")
SOURCES = {key: row.source for key, row in JOBS.items()}
SOURCES |= {key: row.source for key, row in TASKS.items()}
OFFERED = {**SCENARIOS, **PLANS}


def test_every_name_has_a_source() -> None:
    assert [key for key, source in SOURCES.items() if SOURCE.fullmatch(source) is None] == []


@pytest.mark.parametrize("key", OFFERED)
def test_a_scenario_has_the_names_of_the_table(key: str) -> None:
    scenario = OFFERED[key]
    names = (scenario.name, scenario.friendly_name, scenario.target_type, scenario.details_type)
    assert names == job_names(key)
    for spec in scenario.tasks:
        assert (spec.task_id, spec.name, spec.friendly_name) == task_names(spec.task_id)


def test_a_pattern_is_filled_in() -> None:
    filled = task_names("Group{number}Task", number=2, group="Web {tier}")
    assert filled == ("Group2Task", "RecoveryPlanGroupTask", "Web {tier}")


def test_the_page_is_as_the_tables_are() -> None:
    assert PAGE.read_text() == page(), "write it anew: python -m tests.support.jobs_page"
