"""Changed copies are what pydantic's own copies are."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from service_hub.domain.job_parts import TaskPart, TaskRun, TaskState
from wire_contract.vocabulary import Side

NOW = datetime(2026, 1, 2, tzinfo=UTC)
TASK = TaskRun(task_id="start", parts=(TaskPart(side=Side.PRIMARY),))


def test_a_changed_copy_equals_a_new_one_and_is_stored_alike() -> None:
    copy = TASK.model_copy(update={"state": TaskState.IN_PROGRESS, "started_at": NOW})
    new = TaskRun(task_id="start", state=TaskState.IN_PROGRESS, started_at=NOW, parts=TASK.parts)
    assert copy == new
    assert copy.model_dump_json() == new.model_dump_json()
    assert copy.model_dump_json(exclude_unset=True) == new.model_dump_json(exclude_unset=True)
    assert TaskRun.model_validate_json(copy.model_dump_json(exclude_defaults=True)) == new


def test_the_original_stays_as_it_is_and_both_stay_frozen() -> None:
    copy = TASK.model_copy(update={"attempt": 2})
    assert (TASK.attempt, copy.attempt) == (0, 2)
    assert copy.parts is TASK.parts
    with pytest.raises(ValidationError, match="frozen"):
        copy.attempt = 3  # type: ignore[misc]


def test_a_deep_copy_shares_nothing() -> None:
    copy = TASK.model_copy(deep=True)
    assert copy == TASK
    assert copy.parts[0].observed is not TASK.parts[0].observed
