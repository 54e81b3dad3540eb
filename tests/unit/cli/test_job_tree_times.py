"""How long a task took, also where the hub says that it never began."""

import pytest
from azure.mgmt.recoveryservicessiterecovery import models

from site_recovery_cli.job_tree import tree

END = "2026-11-23T12:00:02Z"


@pytest.mark.parametrize(
    ("began", "words"), [("2026-11-23T12:00:00Z", "2.0 s"), ("0001-01-01T00:00:00", "")]
)
def test_a_task_without_a_beginning_took_no_time(began: str, words: str) -> None:
    told = {"name": "t", "friendlyName": "T", "state": "Succeeded"}
    (line,) = tree([models.ASRTask({**told, "startTime": began, "endTime": END})])
    assert line.words == words
