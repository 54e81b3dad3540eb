"""A program is killed while a script of a plan runs (docs/decisions/0006-scripts-run-once.md)."""

from pathlib import Path
from typing import Any

from service_hub.domain.jobs import Job, JobState, TaskState
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import ProtectedItem
from service_hub.domain.recovery_plans import PlanAction, PlanScript
from tests.support.kill_plans import FURTHER
from tests.support.plans_on_fabrics import PlanWorld, plan_world
from tests.support.simulator_estate import MACHINE
from wire_contract.vocabulary import Side

INTERRUPTED = 90076


class WaitingScript:
    """A script that notes that it runs, and ends when it is let."""

    def __init__(self, plans: PlanWorld) -> None:
        self.plans = plans
        self.runs = plans.world.root / "runs"
        self.go = plans.world.root / "go"
        path = plans.library("osaka") / "wait.sh"
        path.write_text(
            f"#!/bin/sh\necho run >> {self.runs}\n"
            f"until [ -e {self.go} ]; do sleep 0.05; done\necho over\n"
        )
        path.chmod(0o755)

    @property
    def count(self) -> int:
        """How often it was begun."""
        return self.runs.read_text().count("run") if self.runs.exists() else 0

    async def begun(self, count: int = 1) -> Job:
        """Save the plan and begin its failover; return its job once the script runs."""
        run = PlanScript(path="wait.sh", side=Side.RECOVERY, seconds=300)
        action = PlanAction(name="Wait", kinds=(Operation.PLANNED_FAILOVER,), script=run)
        await self.plans.save(before=(action,))
        ahead = "PrimaryToRecovery"
        job = await self.plans.begun(Operation.PLANNED_FAILOVER, failover_direction=ahead)
        await self.has_run(count)
        return job

    async def has_run(self, count: int) -> None:
        """Return once it was begun so often."""

        async def holds() -> bool:
            return self.count == count

        await self.plans.world.until(holds, f"the script was begun {count} times")


async def states(plans: PlanWorld) -> list[ProtectionState]:
    """Return the states of both machines."""
    found: Any = await plans.world.call(lambda hub: hub.store.find(ProtectedItem))
    known = {each.record.id: each.record.state for each in found}
    return [known[MACHINE], known[FURTHER]]


async def test_a_hub_that_is_killed_while_a_script_runs_hears_of_its_end(tmp_path: Path) -> None:
    async with plan_world(tmp_path) as plans:
        script = WaitingScript(plans)
        job = await script.begun()
        plans.world.hub.cut()
        assert not (await plans.job(job.id)).finished, "told by the hub that came after it"
        script.go.touch()
        ended = await plans.ended(job)
        assert (ended.state, script.count) == (JobState.SUCCEEDED, 1)
        assert await states(plans) == [ProtectionState.PLANNED_FAILED_OVER] * 2


async def test_a_script_whose_provider_is_killed_fails_and_runs_again_when_asked(
    tmp_path: Path,
) -> None:
    async with plan_world(tmp_path) as plans:
        script = WaitingScript(plans)
        job = await script.begun()
        plans.world.agents["osaka"].cut()
        ended = await plans.ended(job)
        assert (ended.state, script.count) == (JobState.FAILED, 1)
        (failed,) = [task for task in ended.tasks if task.state is TaskState.FAILED]
        (error,) = ended.errors
        assert (error.provider_code, error.task_id) == (INTERRUPTED, failed.task_id)
        assert await states(plans) == [
            ProtectionState.PLANNED_FAILED_OVER,
            ProtectionState.PROTECTED,
        ]
        identity = plans.world.identity()
        await plans.world.call(lambda hub: hub.jobs.restart(hub.vault, job.id, identity))
        await script.has_run(2)
        script.go.touch()
        again = await plans.ended(job)
        assert (again.state, again.errors, script.count) == (JobState.SUCCEEDED, (), 2)
        assert await states(plans) == [ProtectionState.PLANNED_FAILED_OVER] * 2
