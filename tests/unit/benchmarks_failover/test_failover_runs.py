"""What a run of `make bench-failover` may say of machines: nothing that they cannot have done."""

from datetime import UTC, datetime, timedelta

import pytest
from azure.mgmt.recoveryservicessiterecovery import models

from benchmarks.channel.processes import NotMeasuredError
from benchmarks.failover.world import plan_run

ASKED = datetime(2026, 1, 1, tzinfo=UTC)
PATH_SECONDS = 61.0


def ended_job(*times: tuple[float, float | None]) -> models.Job:
    """Return the job of a plan whose machines began and ended so long after the request."""

    def moment(seconds: float | None) -> datetime | None:
        return None if seconds is None else ASKED + timedelta(seconds=seconds)

    children = [
        models.ASRTask(name=f"vm{number}", start_time=moment(begin), end_time=moment(end))
        for number, (begin, end) in enumerate(times)
    ]
    group = models.ASRTask(
        group_task_custom_details=models.GroupTaskDetails(
            instance_type="GroupTaskDetails", child_tasks=children
        )
    )
    return models.Job(properties=models.JobProperties(tasks=[models.ASRTask(), group]))


def test_a_machine_recovers_from_the_request_to_the_end_of_its_job() -> None:
    run = plan_run(ended_job((1, 63), (3, 70)), ASKED, {"hub": 1.0}, 2, PATH_SECONDS)
    assert (run.seconds, run.recoveries) == (70, [63, 70])


@pytest.mark.parametrize(
    ("job", "says"),
    [
        # Late after the request, but not made to wait itself.
        (ended_job((1, 63), (60, 75)), "vm1: done in 15.0 s, which takes 61 s at least"),
        (ended_job((1, 63), (1, None)), "vm1: no time"),
        (ended_job((1, 63)), "1 jobs of machines, not 2"),
    ],
)
def test_what_cannot_be_is_no_measurement(job: models.Job, says: str) -> None:
    with pytest.raises(NotMeasuredError, match=says):
        plan_run(job, ASKED, {}, 2, PATH_SECONDS)
