"""The official SDK, unmodified: jobs cancelled, restarted, resumed, and their trees read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.mgmt.recoveryservicessiterecovery import models as m

from service_hub.domain.jobs import Job
from service_hub.domain.planning import plan_policy_job
from service_hub.ports.use_cases import RequestIdentity
from tests.integration.arm_server import Served, serving
from tests.unit.arm.arm_estate import GROUP, VAULT
from tests.unit.arm.arm_hub import prepared_hub
from tests.unit.arm.arm_jobs import plan_with_children, suspended

VAULT_NAME = (GROUP, VAULT)
RESUME = m.ResumeJobParams(properties=m.ResumeJobParamsProperties(comments="the door is locked"))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """Serve a hub with a protected item, on which jobs run on."""
    with serving(tmp_path) as hub:
        hub.hub.items = prepared_hub().items
        hub.hub.finish_jobs = False
        yield hub


def begun(served: Served) -> Job:
    """Let a job run."""
    hub = served.hub
    identity = RequestIdentity("anna", "c", "d", "PUT", "/p", "")
    return hub.start(plan_policy_job(next(iter(hub.policies.values())), hub.identity(identity)))


def test_a_cancelled_job_is_returned_and_refuses_to_be_cancelled_again(served: Served) -> None:
    job = begun(served)
    with served.site_recovery() as client:
        cancelled: Any = client.replication_jobs.begin_cancel(*VAULT_NAME, job.id).result()
        with pytest.raises(ResourceExistsError) as refused:
            client.replication_jobs.begin_cancel(*VAULT_NAME, job.id).result()
        with pytest.raises(ResourceNotFoundError):
            client.replication_jobs.begin_cancel(*VAULT_NAME, "none").result()
    assert (cancelled.name, cancelled.properties.state) == (job.id, "Cancelled")
    assert cancelled.properties.allowed_actions == []
    assert refused.value.error is not None
    assert refused.value.error.code == "JobCannotBeCancelled"


def test_a_failed_job_is_restarted(served: Served) -> None:
    served.hub.fail_jobs = True
    job = served.hub.end(begun(served))
    with served.site_recovery() as client:
        jobs = client.replication_jobs
        read: Any = jobs.get(*VAULT_NAME, job.id)
        restarted: Any = jobs.begin_restart(*VAULT_NAME, job.id).result()
        with pytest.raises(HttpResponseError) as refused:
            jobs.begin_restart(*VAULT_NAME, job.id).result()
    assert read.properties.allowed_actions == ["Restart"]
    assert (restarted.name, restarted.properties.state) == (job.id, "InProgress")
    assert refused.value.error is not None
    assert refused.value.error.code == "CannotRemediateSucceededWorkflow"


def test_a_suspended_job_is_resumed_with_comments(served: Served) -> None:
    job = suspended(served.hub, plan_with_children(served.hub, begun(served)))
    with served.site_recovery() as client:
        jobs = client.replication_jobs
        waiting: Any = jobs.get(*VAULT_NAME, job.id)
        resumed: Any = jobs.begin_resume(*VAULT_NAME, job.id, RESUME).result()
    assert waiting.properties.state_description == "WaitingForManualAction"
    action = waiting.properties.tasks[1].custom_details
    assert isinstance(action, m.ManualActionTaskDetails)
    assert action.instructions == "Look at the door."
    assert resumed.properties.state == "InProgress"
    assert served.hub.jobs[job.id].requests[-1].comments == "the door is locked"


def test_trees_are_read_as_the_sdks_own_types(served: Served) -> None:
    plan = plan_with_children(served.hub, begun(served))
    with served.site_recovery() as client:
        read: Any = client.replication_jobs.get(*VAULT_NAME, plan.id)
    group = read.properties.tasks[0].group_task_custom_details
    assert isinstance(group, m.GroupTaskDetails)
    child = (group.child_tasks or [])[0]
    assert isinstance(child.custom_details, m.JobTaskDetails)
    assert child.custom_details.job_task is not None
    assert child.custom_details.job_task.job_friendly_name == "Create replication policy"
    below = child.group_task_custom_details
    assert isinstance(below, m.InlineWorkflowTaskDetails)
    assert [task.state for task in below.child_tasks or []] == ["NotStarted"] * 2


async def test_the_asynchronous_client_does_the_same(served: Served) -> None:
    job = begun(served)
    async with served.asynchronous_site_recovery() as client:
        poller = await client.replication_jobs.begin_cancel(*VAULT_NAME, job.id)
        cancelled: Any = await poller.result()
    assert cancelled.properties.state == "Cancelled"
