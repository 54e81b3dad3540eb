"""An estate of real programs whose machines are protected, and plans that fail some of them over.

Hub, agents and VMM servers are the programs as they are shipped, each in a process of its own, over
their real listeners and stores. What a VMM server takes for a verb is a delay of the simulator's.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from azure.core.polling import AsyncLROPoller
from azure.mgmt.recoveryservicessiterecovery import models
from rich.console import Console

from benchmarks.channel.processes import NotMeasuredError
from benchmarks.failover.estate import PRIMARY, RECOVERY, estate_of, machine_name
from lab.addresses import ClaimedNetwork, claim_network
from lab.builder import EstateBuilder
from lab.console import StoryConsole
from lab.estate_record import EstateRecord, save_record
from lab.item_operations import PROVIDER, Place, create_policy, pair_clouds
from lab.layout import Layout
from lab.management_client import ManagementClient
from lab.operator_client import JobPlace, Operator, failure_text
from lab.processes import Launcher, exclusive
from lab.story import open_estate
from lab.teardown import clear_for_new, end_estate
from lab.waiting import wait_for
from service_shell.clock import SystemClock

POLICY_SECONDS: Final = 900
ENABLING_AT_A_TIME: Final = 16
PROTECTED_SECONDS_MAX: Final = 1200.0
PLAN_SECONDS_MAX: Final = 900.0
LOOK_SECONDS: Final = 2.0
MACHINES_PER_LOOK_SECOND: Final = 250
"""A look at all items is work for the hub: for many machines it is taken less often."""

TICKS: Final = os.sysconf("SC_CLK_TCK")

Delays = Mapping[str, float]
"""Seconds that a verb takes beside what the simulator itself does, by verb."""


@dataclass(frozen=True, slots=True)
class PlanRun:
    """One failover of a plan: from the request to the end of its job.

    `recoveries` are the seconds from the request until each machine was seen to run at the other
    site; `processor` the CPU seconds by program.
    """

    seconds: float
    recoveries: Sequence[float]
    processor: Mapping[str, float]


@dataclass(slots=True)
class FailoverWorld:
    """An estate whose machines are protected bit by bit, and failed over by plans."""

    builder: EstateBuilder
    operator: Operator
    management: Mapping[str, ManagementClient]
    places: Mapping[str, Place]
    say: Callable[[str], None]
    policy: str = ""
    machines: list[str] = field(default_factory=list)
    plans: int = 0
    failed_over: str | None = None
    """The plan whose failover was not taken back yet."""

    async def pair(self) -> None:
        """Pair the two clouds under the policy that all machines get."""
        self.policy = await create_policy(self.operator, "bench", POLICY_SECONDS)
        await pair_clouds(self.operator, self.places[PRIMARY], self.places[RECOVERY], self.policy)

    async def protect(self, machines: int) -> None:
        """Protect machines until there are so many; return when each of them is."""
        names = [
            self.builder.estate.identity(PRIMARY, "machine", machine_name(number))
            for number in range(len(self.machines), machines)
        ]
        room = asyncio.Semaphore(ENABLING_AT_A_TIME)

        async def enable(name: str) -> None:
            async with room:
                await self._enable(name, self.policy)

        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(enable(name))

        await self._all_protected("all machines to be protected", machines)
        self.machines += names

    async def _all_protected(self, what: str, machines: int) -> None:
        async def look() -> bool | None:
            count = await self._protected()
            if count < machines:
                self.say(f"    {count} of {machines} are protected")
            return True if count == machines else None

        await wait_for(what, look, PROTECTED_SECONDS_MAX, look_seconds(machines))

    async def _enable(self, name: str, policy: str) -> None:
        place = self.places[PRIMARY]
        content = models.EnableProtectionInput(
            properties=models.EnableProtectionInputProperties(
                policy_id=policy,
                protectable_item_id=f"{place.arm_id}/replicationProtectableItems/{name}",
                provider_specific_details=models.EnableProtectionProviderSpecificInput(
                    instance_type=PROVIDER
                ),
            )
        )
        await self.operator.recovery.replication_protected_items.begin_create(
            *self.operator.scope, place.fabric, place.container, name, content, polling=False
        )

    async def _protected(self) -> int:
        items = self.operator.recovery.replication_protected_items
        count = 0
        async for each in items.list(*self.operator.scope):
            assert each.properties is not None, "every item has them"
            state = each.properties.protection_state
            if state and state.endswith("Failed"):
                raise NotMeasuredError(f"{each.name} could not be protected: {state}")
            # An item that something holds allows nothing.
            count += state == "Protected" and bool(each.properties.allowed_operations)
        return count

    async def _delay(self, delays: Delays) -> None:
        """Have the VMM servers take so long for these verbs, on every machine."""
        faults = [
            {"verb": verb, "machine": None, "kind": "slow", "seconds": seconds}
            for verb, seconds in delays.items()
        ]
        for site in self.management.values():
            await site.replace_faults(faults)

    async def fail_over(
        self, machines: int, expected_seconds: float, *, planned: bool, delays: Delays
    ) -> PlanRun:
        """Fail the first machines over as one plan of one group; NotMeasuredError.

        Nobody looks at the plan before the seconds are over that it takes at least.
        """
        chosen = self.machines[:machines]
        if len(chosen) < machines:
            raise NotMeasuredError(f"there are {len(chosen)} machines, not {machines}")
        self.plans += 1
        name = f"plan{self.plans}"
        await self._save(name, chosen)
        begin = self._planned(name) if planned else self._unplanned(name)
        await self._delay(delays)
        before, place, asked_at = self._processor(), JobPlace(), self.builder.clock.now()
        poller = await begin(raw_response_hook=place.note)
        await asyncio.sleep(expected_seconds)
        job = await self._ended(poller, place.name(name))
        used = {part: seconds - before[part] for part, seconds in self._processor().items()}
        self.failed_over = name
        return plan_run(job, asked_at, used, machines, expected_seconds)

    async def take_back(self) -> bool:
        """Cancel the last failover, without delays; whether there was one.

        All machines are then protected as before, so that all runs begin alike.
        """
        name, self.failed_over = self.failed_over, None
        if name is None:
            return False
        await self._delay({})
        place, plans = JobPlace(), self.operator.recovery.replication_recovery_plans
        poller = await plans.begin_failover_cancel(
            *self.operator.scope, name, raw_response_hook=place.note
        )
        await self._ended(poller, place.name(name))
        await self._all_protected("all to be taken back", len(self.machines))
        return True

    async def _ended(self, poller: AsyncLROPoller[Any], name: str) -> models.Job:
        """Return the plan's job once it has ended.

        The SDK asks for the operation's state as it does for anybody who waits; only the ended job
        is read with all its children.
        """
        async with asyncio.timeout(PLAN_SECONDS_MAX):
            await poller.wait()
            job = await self.operator.recovery.replication_jobs.get(*self.operator.scope, name)
        if job.properties is None or job.properties.state != "Succeeded":
            raise NotMeasuredError(failure_text(job))
        return job

    async def _save(self, name: str, chosen: Sequence[str]) -> None:
        place = self.places[PRIMARY].arm_id
        group = models.RecoveryPlanGroup(
            group_type="Boot",
            replication_protected_items=[
                models.RecoveryPlanProtectedItem(
                    id=f"{place}/replicationProtectedItems/{each}", virtual_machine_id=each
                )
                for each in chosen
            ],
            start_group_actions=[],
            end_group_actions=[],
        )
        root = f"{self.operator.vault_arm_id}/replicationFabrics"
        content = models.CreateRecoveryPlanInput(
            properties=models.CreateRecoveryPlanInputProperties(
                primary_fabric_id=f"{root}/{self.places[PRIMARY].fabric}",
                recovery_fabric_id=f"{root}/{self.places[RECOVERY].fabric}",
                failover_deployment_model="NotApplicable",
                groups=[group],
            )
        )
        plans = self.operator.recovery.replication_recovery_plans
        begin = partial(plans.begin_create, *self.operator.scope, name, content)
        await self.operator.run(f"saving {name}", begin)

    def _planned(self, name: str) -> Any:
        content = models.RecoveryPlanPlannedFailoverInput(
            properties=models.RecoveryPlanPlannedFailoverInputProperties(
                failover_direction="PrimaryToRecovery"
            )
        )
        plans = self.operator.recovery.replication_recovery_plans
        return partial(plans.begin_planned_failover, *self.operator.scope, name, content)

    def _unplanned(self, name: str) -> Any:
        content = models.RecoveryPlanUnplannedFailoverInput(
            properties=models.RecoveryPlanUnplannedFailoverInputProperties(
                failover_direction="PrimaryToRecovery", source_site_operations="NotRequired"
            )
        )
        plans = self.operator.recovery.replication_recovery_plans
        return partial(plans.begin_unplanned_failover, *self.operator.scope, name, content)

    def _processor(self) -> dict[str, float]:
        """Return the CPU seconds of each program so far, user and system, all threads."""
        used: dict[str, float] = {}
        for name, process in self.builder.record.processes.items():
            text = (Path("/proc") / str(process.pid) / "stat").read_text()
            fields = text[text.rindex(")") + 2 :].split()
            part = name.rpartition("/")[2]
            used[part] = used.get(part, 0.0) + (int(fields[11]) + int(fields[12])) / TICKS
        return used


def look_seconds(machines: int) -> float:
    """Return how often it is looked at so many machines."""
    return max(LOOK_SECONDS, machines / MACHINES_PER_LOOK_SECOND)


def plan_run(
    job: models.Job,
    asked_at: datetime,
    processor: Mapping[str, float],
    machines: int,
    expected_seconds: float,
) -> PlanRun:
    """Return what an ended job says of its machines; NotMeasuredError where that can't be so.

    Each machine has a job of its own, which lasts at least as long as what it waits for, one thing
    after the other: a shorter one was told before it was done, or was not made to wait.
    """
    assert job.properties is not None, "an ended job has them"
    children = [
        child
        for task in job.properties.tasks or ()
        if isinstance(task.group_task_custom_details, models.GroupTaskDetails)
        for child in task.group_task_custom_details.child_tasks or ()
    ]
    if len(children) != machines:
        raise NotMeasuredError(f"{len(children)} jobs of machines, not {machines}")
    recoveries = []
    for child in children:
        if child.start_time is None or child.end_time is None:
            raise NotMeasuredError(f"{child.name}: no time of its begin, or of its end")
        took = (child.end_time - child.start_time).total_seconds()
        if took < expected_seconds:
            raise NotMeasuredError(
                f"{child.name}: done in {took:.1f} s, which takes {expected_seconds:g} s at least"
            )
        recoveries.append((child.end_time - asked_at).total_seconds())
    return PlanRun(max(recoveries), recoveries, processor)


@contextlib.asynccontextmanager
async def failover_world(
    folder: Path, machines: int, say: Callable[[str], None]
) -> AsyncIterator[FailoverWorld]:
    """Raise an estate below a folder, with two paired clouds; nothing runs afterwards.

    `say` is told how far long waits are.
    """
    layout = Layout.at(folder)
    layout.root.mkdir(parents=True, exist_ok=True)
    with exclusive(layout):
        launcher = Launcher(layout, bound=True)
        await clear_for_new(layout, launcher)
        with _claimed() as network:
            record = EstateRecord(estate_file="bench-failover", kind="story", prefix=network.prefix)
            save_record(layout, record)
            builder = EstateBuilder(
                layout=layout,
                estate=estate_of(machines),
                launcher=launcher,
                console=StoryConsole(Console(quiet=True)),
                clock=SystemClock(),
                record=record,
                network=network,
                started_at=asyncio.get_running_loop().time(),
            )
            try:
                async with contextlib.AsyncExitStack() as stack:
                    world = await _opened(stack, builder, say)
                    await world.pair()
                    yield world
            finally:
                await end_estate(layout, launcher, builder.record)


async def _opened(
    stack: contextlib.AsyncExitStack, builder: EstateBuilder, say: Callable[[str], None]
) -> FailoverWorld:
    file = await open_estate(builder)
    operator = await stack.enter_async_context(builder.operator())
    management = {
        name: await stack.enter_async_context(
            ManagementClient(site.management_url, site.management_token, file.ca_file)
        )
        for name, site in file.sites.items()
    }
    places = {
        name: Place.of(operator, site.fabric, site.cloud) for name, site in file.sites.items()
    }
    return FailoverWorld(builder, operator, management, places, say)


@contextlib.contextmanager
def _claimed() -> Iterator[ClaimedNetwork]:
    network = claim_network()
    try:
        yield network
    finally:
        network.release()
