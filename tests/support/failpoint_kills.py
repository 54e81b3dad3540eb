"""Real processes that kill themselves with SIGKILL at a failpoint, in the middle of a failover."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from random import Random

from azure.core.exceptions import AzureError
from azure.mgmt.recoveryservicessiterecovery import models

from lab.layout import Layout
from lab.operator_client import FINISHED_STATES, failure_text
from lab.operator_file import load_operator_file
from lab.process_table import process_facts
from lab.waiting import wait_for
from service_shell.failpoints import VARIABLE
from tests.support.lab_world import (
    World,
    assert_never_two,
    assert_nothing_happened_twice,
    begin,
    commit_and_reverse,
    lab,
    watch,
)
from wire_contract.vocabulary import Direction

KILL_SECONDS_MAX = 180.0
JOB_SECONDS_MAX = 240.0

BEGUN_BY_JOBS = {
    "hub": {
        "engine.before_commit": (2, 5),
        "engine.after_commit": (2, 5),
        "engine.before_act": (2, 5),
        "channel.before_sign": (1, 2),
        "channel.before_publish": (1, 2),
        "channel.after_publish": (1, 2),
        "channel.before_answer": (8, 16),
        "store.before_apply": (12, 20),
        "store.in_transaction": (12, 20),
        "store.after_apply": (12, 20),
    },
    "agent": {
        "agent.event_received": (1, 2),
        "agent.before_journal": (1, 6),
        "agent.journalled": (1, 6),
        "agent.before_verb": (1, 2),
        "agent.after_verb": (1, 2),
        "agent.read_back": (1, 2),
        "agent.before_report": (2, 4),
        "agent.after_report": (2, 4),
    },
}
"""Failpoints of each program, and which of the times they are reached lie within a failover.

The second engine commit is the first one that the operator's request does not wait for.
"""


@dataclass(frozen=True)
class RealKill:
    """A process, and where it kills itself."""

    victim: str
    failpoint: str

    def __str__(self) -> str:
        return f"{self.victim} at {self.failpoint}"


def every_place(random: Random) -> list[RealKill]:
    """Return each failpoint of each process once, at a time by chance."""
    return [
        RealKill(victim, f"{name}=kill@{random.randint(*times)}")
        for victim, program in (("hub", "hub"), ("tokyo/agent", "agent"), ("osaka/agent", "agent"))
        for name, times in BEGUN_BY_JOBS[program].items()
    ]


def _pid(folder: Path, victim: str) -> int:
    file = load_operator_file(Layout.at(folder).operator_file)
    if victim == "hub":
        return file.hub.pid
    return file.sites[victim.partition("/")[0]].agent.pid


async def _started(world: World, kill: RealKill) -> None:
    """Start the victim anew with its failpoint, which no other process gets.

    One that kills itself before it is ready is started again without.
    """
    await world.lab("kill", kill.victim, "--signal", "9")
    os.environ[VARIABLE] = kill.failpoint
    try:
        done = await asyncio.to_thread(lab, world.folder, "start", kill.victim)
    finally:
        del os.environ[VARIABLE]
    if done.returncode != 0:
        assert "ended before it was ready" in done.stderr, done.stderr
        await world.lab("start", kill.victim)


async def _begun(world: World, direction: Direction, kill: RealKill) -> tuple[str, bool]:
    """Return the job's name, and whether the hub has killed itself before it could say it."""
    try:
        return await begin(world, direction), False
    except AzureError:
        await world.lab("start", kill.victim)
    jobs = world.operator.recovery.replication_jobs
    async for job in jobs.list(*world.operator.scope):
        assert job.properties is not None
        failing_over = job.properties.scenario_name == "PlannedFailover"
        if failing_over and job.properties.state not in FINISHED_STATES:
            assert job.name is not None
            return job.name, True
    return await begin(world, direction), True


async def _followed(world: World, name: str) -> models.Job:
    async def look() -> models.Job | None:
        try:
            job = await world.operator.recovery.replication_jobs.get(*world.operator.scope, name)
        except AzureError:
            return None  # the hub is being killed or starts again
        assert job.properties is not None
        return job if job.properties.state in FINISHED_STATES else None

    return await wait_for(f"the end of job {name}", look, JOB_SECONDS_MAX)


async def fail_over_through(world: World, direction: Direction, kill: RealKill) -> bool:
    """Fail over while a process kills itself; return whether it did before the job's end.

    The failover succeeds in any case, nothing happens twice, and never two copies run.
    """
    source, target = ("tokyo", "osaka")
    if direction is Direction.RECOVERY_TO_PRIMARY:
        source, target = target, source
    before = int((await world.machine(source))["epoch"])
    await _started(world, kill)
    pid = _pid(world.folder, kill.victim)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(watch(world, stop))
        name, was_killed = await _begun(world, direction, kill)

        async def gone_or_over() -> str | None:
            facts = process_facts(pid)
            if facts is None or facts.state in {"Z", "X"}:
                return "killed"
            job = await world.operator.recovery.replication_jobs.get(*world.operator.scope, name)
            assert job.properties is not None
            return "over" if job.properties.state in FINISHED_STATES else None

        async def look() -> str | None:
            try:
                return await gone_or_over()
            except AzureError:
                return None

        fate = "killed before"
        if not was_killed:
            fate = await wait_for(f"{kill} to kill itself", look, KILL_SECONDS_MAX)
        if fate == "killed":
            await world.lab("start", kill.victim)
        job = await _followed(world, name)
        stop.set()
    assert job.properties is not None
    assert job.properties.state == "Succeeded", f"{kill}: {failure_text(job)}"
    assert (await world.machine(source))["run_state"] == "Off", kill
    taken_over = await world.machine(target)
    assert taken_over["run_state"] == "Running", kill
    assert taken_over["epoch"] == before + 1, kill
    assert_nothing_happened_twice(await world.sites[target].effects(), name)
    assert_never_two(world.seen)
    if fate == "over":
        await world.lab("kill", kill.victim, "--signal", "9")
        await world.lab("start", kill.victim)
    await commit_and_reverse(world, direction)
    return fate != "over"
