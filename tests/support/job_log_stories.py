"""Real runs of every scenario, whose job logs are kept as fixtures: the log of each release.

    python -m tests.support.job_log_stories 0.1.0 [STORY ...]

writes tests/fixtures/job_logs/0.1.0/STORY.json: each job of the story as it was stored at its end,
and its log, entry by entry. Record a release's logs when it is released and never change them
afterwards: later versions must replay them to exactly these jobs (tests/simulation).

Over 400 lines because every scenario has its story here.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from service_hub.domain.injections import InjectionKind
from service_hub.domain.jobs import (
    CancelRequested,
    Job,
    JobState,
    RestartRequested,
    Resumed,
    TaskRun,
)
from service_hub.domain.protection import Operation
from service_hub.domain.records import ReplicationPolicy
from service_hub.domain.scenarios import TaskSpec
from service_hub.injection_ports import InjectionRequest, Injector
from service_hub.ports.changes import Change, Save
from tests.support.hub_stories import (
    Answer,
    ask,
    completed,
    observe,
    paired,
    protected,
    until_done,
    well,
)
from tests.support.hub_world import MACHINE_ID, HubWorld, hub_world, inventory
from tests.support.injecting import FABRIC, injecting
from tests.support.job_log_plans import saved, tested
from tests.support.kill_stories import DRILL
from tests.support.mapped_estate import furnish, observed
from tests.support.site_views import with_host_added
from wire_contract.events import Assignment
from wire_contract.reports import Heartbeat, ProviderError, ReportBatch, TaskProgress
from wire_contract.vocabulary import ReplicationState, Verb

FOLDER: Final = Path(__file__).resolve().parents[1] / "fixtures/job_logs"
LEASE: Final = timedelta(minutes=5)
FOR_GOOD: Final = 32768
PASSING: Final = 32774
STEPS_MAX: Final = 2000
FULL_STORY: Final = "planned"
"""The one story whose preparing jobs are kept."""

PREPARING: Final = frozenset(
    {"create_policy", "pair_clouds", "enable", "complete_primary", "complete_recovery"}
)

Story = Callable[[HubWorld], Awaitable[None]]


async def _failing(world: HubWorld, operation: Operation, verb: Verb, code: int, times: int) -> str:
    """Run an operation whose verb fails so many times; the job's id."""
    left = [times]

    def answer(assignment: Assignment) -> ProviderError | None:
        if assignment.verb != verb.value or not left[0]:
            return well(assignment)
        left[0] -= 1
        return ProviderError(code=code, message="no")

    job_id = await ask(world, operation)
    await _done(world, job_id, answer)
    return job_id


async def _done(world: HubWorld, job_id: str, answer: Answer = well) -> None:
    """Answer until the job has ended; pauses between attempts are over at once."""

    async def push() -> None:
        while True:
            await asyncio.sleep(0.2)
            world.clock.time += timedelta(seconds=10)

    pushing = asyncio.ensure_future(push())
    try:
        await until_done(world, job_id, answer)
    finally:
        pushing.cancel()


async def _next(world: HubWorld, job_id: str, site: str) -> Assignment:
    for _ in range(STEPS_MAX):
        mine = [each for each in await world.assignments(site) if each.job == job_id]
        if mine:
            return mine[-1]
        await asyncio.sleep(0.01)
    raise AssertionError(f"{site} was asked for nothing")


async def _planned(world: HubWorld) -> None:
    await protected(world)
    await _done(world, await ask(world, Operation.PLANNED_FAILOVER))
    await _done(world, await ask(world, Operation.COMMIT))
    await _done(world, await ask(world, Operation.REVERSE_REPLICATE))


async def _unplanned(world: HubWorld) -> None:
    await protected(world)
    await _done(world, await ask(world, Operation.UNPLANNED_FAILOVER))
    await _done(world, await ask(world, Operation.REVERSE_REPLICATE))
    await completed(world)


async def _points(world: HubWorld) -> None:
    """Other recovery points, and failovers of both kinds that are cancelled."""
    await protected(world)
    await _done(world, await ask(world, Operation.PLANNED_FAILOVER))
    await _done(world, await ask(world, Operation.CANCEL_FAILOVER))
    await _done(world, await ask(world, Operation.UNPLANNED_FAILOVER, recovery_point="p1"))
    await _done(world, await ask(world, Operation.CHANGE_RECOVERY_POINT, recovery_point="p2"))
    await _done(world, await ask(world, Operation.CANCEL_FAILOVER))


async def _overridden(world: HubWorld) -> None:
    """The former source starts again by an operator's word: before a commit, and after one."""
    await protected(world)
    why = "the other site burns"
    for committed in (False, True):
        await _done(world, await ask(world, Operation.UNPLANNED_FAILOVER))
        if committed:
            await _done(world, await ask(world, Operation.COMMIT))
        await _done(world, await ask(world, Operation.OVERRIDE_FENCE, comments=why))


async def _self_fenced(world: HubWorld) -> None:
    """An unplanned failover that waits until its source has stopped by itself."""
    await protected(world)
    (policy,) = await world.store.find(ReplicationPolicy, vault_id=world.vault.id)
    changed = policy.record.model_copy(update={"self_fence_seconds": 180})
    await world.committer.commit(Change(saves=(Save(changed, policy.version),)))
    await _done(world, await ask(world, Operation.UNPLANNED_FAILOVER))


async def _kept(world: HubWorld) -> None:
    """The former source holds more than the copy that runs: refused, then set aside."""
    await protected(world)
    world.clock.time += timedelta(seconds=10)
    await _done(world, await ask(world, Operation.UNPLANNED_FAILOVER))
    await _done(world, await ask(world, Operation.REVERSE_REPLICATE))
    await _done(world, await ask(world, Operation.REVERSE_REPLICATE, source_changes="Keep"))
    await completed(world)


async def _drilled(world: HubWorld) -> None:
    """A test with a network of its own."""
    await protected(world)
    arguments: dict[str, Any] = {"drill": DRILL}
    operation = Operation.TEST_FAILOVER.value
    job = await world.protection.request(
        world.vault, MACHINE_ID, operation, arguments, world.identity()
    )
    await _done(world, job.id)
    await _done(world, await ask(world, Operation.TEST_FAILOVER_CLEANUP))


async def _tested(world: HubWorld) -> None:
    await protected(world)
    await _done(world, await ask(world, Operation.TEST_FAILOVER))
    await ask(world, Operation.PLANNED_FAILOVER)  # refused while a test is open
    job = await world.servers.remove(world.vault, "tokyo-fabric", world.identity())
    await _done(world, job.id)  # its check finds the protected machine
    await _done(world, await ask(world, Operation.TEST_FAILOVER_CLEANUP))


async def _undone_and_restarted(world: HubWorld) -> None:
    await protected(world)
    job_id = await _failing(world, Operation.PLANNED_FAILOVER, Verb.FAIL_OVER, FOR_GOOD, 1)
    item = await world.item()
    restart = RestartRequested(world.clock.now(), "anna", item.epoch, item.state)
    await world.engine.feed(job_id, restart)
    await _done(world, job_id)


async def _unproven(world: HubWorld) -> None:
    """A success without its facts is a failure; told with them, the job goes on."""
    await protected(world)
    told = world.results.pop(Verb.PREPARE_FAILOVER)
    job_id = await ask(world, Operation.PLANNED_FAILOVER)
    await _done(world, job_id)
    world.results[Verb.PREPARE_FAILOVER] = told
    item = await world.item()
    restart = RestartRequested(world.clock.now(), "anna", item.epoch, item.state)
    await world.engine.feed(job_id, restart)
    await _done(world, job_id)


async def _tried_again(world: HubWorld) -> None:
    await protected(world)
    await _failing(world, Operation.PLANNED_FAILOVER, Verb.SHUT_DOWN, PASSING, 1)


async def _cancelled(world: HubWorld) -> None:
    await protected(world)
    job_id = await ask(world, Operation.PLANNED_FAILOVER)
    await world.outcome("tokyo", await _next(world, job_id, "tokyo"))
    begun = await _next(world, job_id, "tokyo")
    report = TaskProgress(
        report_id=world.clock.new_id(),
        job=begun.job,
        task=begun.task,
        attempt=begun.attempt,
        percent=40.0,
        detail="40 of 100",
    )
    await world.reports.reports(
        world.providers["tokyo"], ReportBatch(journal_id="j", reports=(report,))
    )
    await world.engine.feed(job_id, CancelRequested(world.clock.now(), "anna", "not today"))
    await _done(world, job_id)


async def _late(world: HubWorld) -> None:
    """A site that is gone: given up by an unplanned failover, waited for by a commit."""
    await protected(world)
    world.clock.time += 2 * LEASE
    await world.heard_of("osaka")
    job_id = await ask(world, Operation.UNPLANNED_FAILOVER, source_operations_required=True)
    for _ in range(STEPS_MAX):
        if (await world.job(job_id)).finished:
            break
        for assignment in await world.assignments("osaka"):
            if assignment.job == job_id:
                await world.outcome("osaka", assignment)
        await asyncio.sleep(0.01)
    await world.heard_of("osaka")
    job_id = await ask(world, Operation.COMMIT)
    await _next(world, job_id, "osaka")
    for _ in range(STEPS_MAX):
        world.clock.time += timedelta(hours=2)
        if (await world.job(job_id)).finished:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the deadline was not noticed")


async def _taken_up(world: HubWorld) -> None:
    """Left unfinished: the hub is stopped and started again (`record`)."""
    await protected(world)
    await _next(world, await ask(world, Operation.PLANNED_FAILOVER), "tokyo")


async def _servers(world: HubWorld) -> None:
    await world.servers.registered(world.providers["tokyo"], Change())
    job = await world.servers.refresh(world.vault, "tokyo-fabric", world.identity())
    await _ended(world, job.id, inventory_of="tokyo")
    job = await world.servers.remove(world.vault, "tokyo-fabric", world.identity())
    await _done(world, job.id)
    again = await world.servers.remove(world.vault, "osaka-fabric", world.identity())
    refused = await world.servers.remove(world.vault, "osaka-fabric", world.identity())
    assert refused.finished
    await _done(world, again.id)


async def _ended(world: HubWorld, job_id: str, inventory_of: str) -> None:
    for _ in range(STEPS_MAX):
        if (await world.job(job_id)).finished:
            return
        if await world.refreshes(inventory_of):
            view = inventory(inventory_of)
            await world.reports.inventory(world.providers[inventory_of], view)
        await asyncio.sleep(0.01)
    raise AssertionError("the refresh did not end")


async def _settings(world: HubWorld) -> None:
    """A host is added to a pair, the pair is removed, its policy deleted."""
    await paired(world)
    await world.reports.inventory(world.providers["osaka"], with_host_added("osaka"))
    (added,) = [each for each in await jobs_of(world) if each.scenario_key == "configure_hosts"]
    await _done(world, added.id)
    change = {"recovery_points": 3}
    changed = await world.policies.change(world.vault, "p", change, world.identity())
    await _done(world, changed.id)
    refused = await world.policies.delete(world.vault, "p", world.identity())
    await _done(world, refused.id)
    cloud = ("tokyo-fabric", "tokyo-cloud")
    removed = await world.pairing.remove(world.vault, cloud, "m", world.identity())
    await asyncio.gather(
        _done(world, removed.id),
        *(_ended(world, removed.id, inventory_of=site) for site in ("tokyo", "osaka")),
    )
    deleted = await world.policies.delete(world.vault, "p", world.identity())
    await _done(world, deleted.id)


async def _purged(world: HubWorld) -> None:
    await paired(world)
    world.clock.time += 2 * LEASE
    await world.reports.heartbeat(
        world.providers["osaka"], Heartbeat(boot_id="osaka-boot", last=None)
    )
    await world.servers.purge(world.vault, "tokyo-fabric")
    (job,) = [each for each in await jobs_of(world) if each.scenario.name == "CloudUnPairing"]
    await _done(world, job.id)


async def _ended_protection(world: HubWorld) -> None:
    """Resynchronized, disabled at both ends; and, protected anew, removed by force."""
    await protected(world)
    await observe(world, "tokyo", ReplicationState.CRITICAL)
    await _done(world, await ask(world, Operation.REPAIR))
    await _done(world, await ask(world, Operation.DISABLE))
    job = await world.protection.enable(
        world.vault,
        container=("tokyo-fabric", "tokyo-cloud"),
        item_name=MACHINE_ID,
        machine_id=MACHINE_ID,
        policy_name="p",
        identity=world.identity(),
    )
    await _done(world, job.id)
    world.clock.time += 2 * LEASE
    await world.heard_of("osaka")
    job_id = await ask(world, Operation.PURGE)
    for _ in range(STEPS_MAX):
        if (await world.job(job_id)).finished:
            return
        for assignment in await world.assignments("osaka"):
            if assignment.job == job_id:
                await world.outcome("osaka", assignment)
        await asyncio.sleep(0.01)
    raise AssertionError("the protection was not removed")


async def _resumed(world: HubWorld) -> None:
    """A plan that is to begin in an hour, and then waits for a person."""
    specs = (TaskSpec("person", "n", "person", manual_action="check the network"),)
    plan = Job(
        id=world.clock.new_id(),
        vault_id="vault",
        scenario_key="commit",
        operation=None,
        target_object_id="vm-9",
        target_object_name="web09",
        activity_id=world.clock.new_id(),
        own_specs=specs,
        tasks=tuple(TaskRun(task_id=spec.task_id) for spec in specs),
        created_at=world.clock.now(),
        start_at=world.clock.now() + timedelta(hours=1),
        epoch=1,
    )
    await world.engine.start(plan, Change())
    world.clock.time += timedelta(hours=1)
    for _ in range(STEPS_MAX):
        if (await world.job(plan.id)).state is JobState.SUSPENDED:
            break
        await asyncio.sleep(0.01)
    await world.engine.feed(plan.id, Resumed(world.clock.now(), "anna", "it is right"))
    await _done(world, plan.id)


async def _injected(world: HubWorld) -> None:
    request = InjectionRequest(event=InjectionKind.SITE_OUTAGE, target=FABRIC, arguments={})
    for refusal in (None, "the site does not answer"):
        world.leaving.sites.refuses = refusal
        done = await injecting(world).inject(world.vault, request, Injector("anna", "Injector"))
        assert done.job_id is not None
        await _done(world, done.job_id)


async def _mapped(world: HubWorld) -> None:
    """Mappings made and removed, with a replica whose adapter follows."""
    await furnish(world)
    await protected(world)
    await observed(world)
    corp, fast = ("tokyo-fabric", "tokyo-corp"), ("tokyo-fabric", "tokyo-fast")
    job = await world.networks.map(
        world.vault,
        name="m",
        primary=corp,
        recovery=("osaka-fabric", "osaka-corp"),
        identity=world.identity(),
    )
    await _with_children(world, job.id)
    job = await world.storage.map(
        world.vault,
        name="s",
        primary=fast,
        recovery=("osaka-fabric", "osaka-fast"),
        identity=world.identity(),
    )
    await _done(world, job.id)
    job = await world.networks.unmap(world.vault, name="m", primary=corp, identity=world.identity())
    await _with_children(world, job.id)
    job = await world.storage.unmap(world.vault, name="s", primary=fast, identity=world.identity())
    await _done(world, job.id)


async def _with_children(world: HubWorld, job_id: str) -> None:
    """Answer for a job's children as they come, until it has ended."""
    for _ in range(STEPS_MAX):
        if (await world.job(job_id)).finished:
            return
        for found in await world.store.find(Job, parent_id=job_id):
            await _done(world, found.record.id)
        await asyncio.sleep(0.01)
    raise AssertionError("the job did not end")


STORIES: Final[Mapping[str, Story]] = {
    "injected": _injected,
    "planned": _planned,
    "unplanned": _unplanned,
    "points": _points,
    "overridden": _overridden,
    "self_fenced": _self_fenced,
    "kept": _kept,
    "drilled": _drilled,
    "tested": _tested,
    "undone_and_restarted": _undone_and_restarted,
    "unproven": _unproven,
    "tried_again": _tried_again,
    "cancelled": _cancelled,
    "late": _late,
    "taken_up": _taken_up,
    "servers": _servers,
    "purged": _purged,
    "settings": _settings,
    "resumed": _resumed,
    "ended_protection": _ended_protection,
    "mapped": _mapped,
    "saved": lambda world: saved(world, _done),
    "plan_tested": tested,
}


async def jobs_of(world: HubWorld) -> list[Job]:
    """Return every job of a world."""
    return [each.record for each in await world.store.find(Job)]


async def recorded(world: HubWorld, kept: Callable[[Job], bool]) -> list[dict[str, Any]]:
    """Return every job that is kept, as it is stored, with its log."""
    jobs = []
    for job in filter(kept, await jobs_of(world)):
        entries = await world.store.log_of(job.id)
        assert [each.number for each in entries] == list(range(len(entries)))
        log = [json.loads(each.event) for each in entries]
        jobs.append({"job": json.loads(job.model_dump_json()), "log": log})
    return jobs


async def record(name: str, folder: Path) -> list[dict[str, Any]]:
    """Run a story on a new database in a folder; its jobs, without those that only prepare it."""
    async with hub_world(folder, LEASE) as world:
        await STORIES[name](world)
    async with hub_world(folder, LEASE) as world:
        for job in await jobs_of(world):
            if not job.finished:
                await _done(world, job.id)
        return await recorded(
            world, lambda job: name == FULL_STORY or job.scenario_key not in PREPARING
        )


def main(version: str, *names: str) -> None:
    """Write the fixtures of a version: all of them, or those of these stories."""
    place = FOLDER / version
    place.mkdir(parents=True, exist_ok=True)
    for name in names or STORIES:
        with tempfile.TemporaryDirectory() as folder:
            jobs = asyncio.run(record(name, Path(folder)))
        lines = ",\n".join(json.dumps(each, sort_keys=True) for each in jobs)
        (place / f"{name}.json").write_text(f"[\n{lines}\n]\n")
        sys.stdout.write(f"{name}: {len(jobs)} jobs\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
