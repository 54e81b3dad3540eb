"""The hub's side of one measurement, in a process of its own: real engine, committer and store.

    hub_process.py ORDER

ORDER is a JSON object; what was found is printed as one. Providers are played in the same loop;
what they need of the processor is measured apart (played_providers.py).
"""

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.engine.databases import opened
from benchmarks.engine.played_providers import PlayedProviders
from benchmarks.engine.workload import (
    CHECKED_KEY,
    PLAIN_KEY,
    TASKS,
    Plan,
    answer_seconds,
    job_id,
    provider_ids,
)
from service_hub.domain.jobs import Job, JobState
from service_hub.domain.records import OutboxEvent, ProviderStream
from service_hub.engine.committer import GroupCommitter
from service_hub.engine.portions import in_portions
from service_hub.engine.runner import Engine, Terms
from service_hub.engine.tenure import LEASE_SECONDS
from service_hub.ports.changes import Change
from service_hub.store.record_store import RecordStore
from service_shell.clock import SystemClock
from service_shell.configuration import LogSettings
from service_shell.logs import configure_logging
from service_shell.program import run_program

STORED_AT_ONCE: Final = 500
"""Records of the ground in one transaction."""

PLAN_SECONDS_MAX: Final = 300.0
TAKE_UP_SECONDS_MAX: Final = 120.0
KB: Final = 1024


class NoDelivery:
    """The way to the providers, which the channel's benchmark measures."""

    def wake(self, provider_ids: object, stored: object = None) -> None:
        """Nothing: who is played has its events already."""


class NothingAgainst:
    """The hub's own checks, and the leases of providers: nothing to say against anything."""

    async def check(self, job: Job, task_id: str) -> None:
        """Return nothing."""
        del job, task_id

    async def connected(self, provider_id: str) -> bool:
        """Return that it is there."""
        del provider_id
        return True


class Interrupted(NothingAgainst):
    """Every second check is under way when the hub is killed: it has no answer yet."""

    async def check(self, job: Job, task_id: str) -> None:
        """Return nothing, for every second job never."""
        del task_id
        if int(job.id[-1], 16) % 2:
            await asyncio.Event().wait()


@dataclass(slots=True)
class HubSide:
    """What a measurement works with."""

    store: RecordStore
    played: PlayedProviders
    committer: GroupCommitter
    engine: Engine
    plan: Plan


@asynccontextmanager
async def hub_side(order: dict[str, Any], *, answers: bool) -> AsyncIterator[HubSide]:
    """Run the hub's side; `answers` False: nobody ever answers."""
    clock = SystemClock()
    numbers = {job_id(each): each for each in range(order["items"])} if answers else {}

    def answers_of(job: str) -> dict[str, float] | None:
        return answer_seconds(numbers[job]) if job in numbers else None

    plan = Plan(clock.now(), CHECKED_KEY if order.get("checks") else PLAIN_KEY)
    lease_seconds = order.get("lease_seconds", LEASE_SECONDS)
    database = opened(
        order["database"],
        lease_seconds=lease_seconds,
        frees_leases=order["what"] == "take_up",
    )
    async with database as store, asyncio.TaskGroup() as group:
        if order["what"] != "take_up":
            await _lay_ground(store, plan, order["items"])
        played = PlayedProviders(
            store,
            clock,
            streams=await _streams(store),
            answers=answers_of,
            group=group,
        )
        committer = GroupCommitter(played, NoDelivery())
        async with committer.running():
            engine = Engine(
                reader=store,
                committer=committer,
                checker=Interrupted() if order["what"] == "prepare" else NothingAgainst(),
                liveness=NothingAgainst(),
                clock=clock,
                leases=store,
                boottime=lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
                terms=Terms(lease_seconds=lease_seconds, shared="file" not in order["database"]),
            )
            played.answer_to(engine)
            async with engine.running():
                reports = group.create_task(played.report_receipts(committer))
                yield HubSide(store, played, committer, engine, plan)
                reports.cancel()


async def _lay_ground(store: RecordStore, plan: Plan, items: int) -> None:
    saves = list(plan.free_items(items))
    for start in range(0, len(saves), STORED_AT_ONCE):
        await store.apply([Change(saves=saves[start : start + STORED_AT_ONCE])])


async def _streams(store: RecordStore) -> dict[str, str]:
    streams = {}
    for provider_id in provider_ids():
        found = await store.get(ProviderStream, provider_id)
        assert found is not None, "the ground is laid"
        streams[provider_id] = found.record.stream
    return streams


async def _start_all(hub: HubSide, items: int) -> None:
    """Start all jobs as the engine starts those of a large plan, by the same function."""
    clock = SystemClock()

    async def start(numbers: Sequence[int]) -> None:
        made = time.thread_time()
        begins = [hub.plan.begin(number) for number in numbers]
        saves = tuple(save for begin in begins for save in begin.saves(clock.now()))
        hub.played.own_seconds += time.thread_time() - made
        await hub.engine.start_all([begin.job for begin in begins], Change(saves=saves))

    await in_portions(range(items), start)


async def run_plan(order: dict[str, Any]) -> dict[str, Any]:
    """Run the whole plan; return how long it took and what it needed."""
    items = order["items"]
    async with hub_side(order, answers=True) as hub:
        gc.collect()
        memory = _count_the_peak_from_here()
        began, processor = time.monotonic(), time.process_time()
        await _start_all(hub, items)
        started = time.monotonic()
        async with asyncio.timeout(PLAN_SECONDS_MAX):
            await hub.played.have_ended(items)
        ended, used = time.monotonic(), time.process_time()
        peak = _memory_bytes("VmHWM")
        await hub.played.settle(hub.committer)
        await _check_the_end(hub, items)
        return {
            "seconds": ended - began,
            "starting_seconds": started - began,
            "processor_seconds": used - processor,
            "played_seconds": hub.played.own_seconds,
            "memory_bytes": peak - memory,
        }


async def _check_the_end(hub: HubSide, items: int) -> None:
    """See that what is durable is what was measured: every job done, every command received."""
    succeeded = await hub.store.find(Job, state=JobState.SUCCEEDED.value)
    assert len(succeeded) == items, f"{len(succeeded)} jobs are stored as succeeded"
    assert hub.played.commands == items * len(TASKS), f"{hub.played.commands} commands"
    waiting = await hub.store.find(OutboxEvent)
    assert not waiting, f"{len(waiting)} events have no receipt"


async def wait_long(order: dict[str, Any]) -> dict[str, Any]:
    """Let jobs wait for answers that do not come; return what that needs of one core."""
    async with hub_side(order, answers=False) as hub:
        await _start_all(hub, order["items"])
        await hub.played.settle(hub.committer)
        await asyncio.sleep(order["settle_seconds"])
        began, processor = time.monotonic(), time.process_time()
        await asyncio.sleep(order["seconds"])
        used, elapsed = time.process_time() - processor, time.monotonic() - began
        _end_now({"share": used / elapsed})
    raise AssertionError("the process has ended")


async def prepare(order: dict[str, Any]) -> dict[str, Any]:
    """Leave unfinished jobs behind, as a hub does that is killed."""
    async with hub_side(order, answers=False) as hub:
        await _start_all(hub, order["items"])
        _end_now({"commands": hub.played.commands})
    raise AssertionError("the process has ended")


async def take_up(order: dict[str, Any]) -> dict[str, Any]:
    """Start on what another process left; return how long the first command took."""
    opened_at = time.monotonic()
    async with hub_side(order, answers=False) as hub:
        ready = time.monotonic()
        async with asyncio.timeout(TAKE_UP_SECONDS_MAX):
            first = await hub.played.first_command
        _end_now(
            {
                "from_process": first - order["spawned"],
                "from_opening": first - opened_at,
                "ready": ready - opened_at,
            }
        )
    raise AssertionError("the process has ended")


def _end_now(told: dict[str, Any]) -> None:
    """Say what was found and end without any tidying, as a killed process does."""
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    os._exit(0)


def _count_the_peak_from_here() -> int:
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): the peak is the present size then
    return _memory_bytes("VmRSS")


def _memory_bytes(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * KB


MEASUREMENTS: Final = {
    "plan": run_plan,
    "wait": wait_long,
    "prepare": prepare,
    "take_up": take_up,
}


def main(order: dict[str, Any]) -> int:
    """Measure what is ordered and print it."""
    configure_logging(LogSettings(file=Path(order["log"])), "service-hub")

    async def measured(_stop: asyncio.Event) -> None:
        told = await MEASUREMENTS[order["what"]](order)
        sys.stdout.write(json.dumps(told) + "\n")

    return run_program(measured, require_uvloop=True)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
