"""Holds the start of machines at a site, so that their disks can be read before a guest writes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from lab.management_client import ManagementClient
from lab.operator_client import FinishedJob
from lab.waiting import wait_for
from wire_contract.vocabulary import FaultKind, Verb

HELD_SECONDS_MAX: Final = 120.0

Inspection = TypeVar("Inspection")


@dataclass(frozen=True, slots=True)
class HeldJob(Generic[Inspection]):
    """A job whose start task was held: `seconds` leaves the held time out."""

    job: FinishedJob
    seconds: float
    inspection: Inspection


@dataclass(frozen=True, slots=True)
class HeldMachine(Generic[Inspection]):
    """One machine: its key in the faults (None: any), its operation, and what to look at."""

    name: str
    fault_key: str | None
    operation: Callable[[], Awaitable[FinishedJob]]
    inspect: Callable[[], Awaitable[Inspection]]


async def run_with_held_starts(
    site: ManagementClient, machines: Sequence[HeldMachine[Inspection]]
) -> dict[str, HeldJob[Inspection]]:
    """Run all operations together; each copy is inspected while its start is held.

    No start is let go before every copy was inspected; whatever happens, none stays held.
    """
    loop = asyncio.get_running_loop()
    keys = [each.fault_key for each in machines]
    async with _holding(site, keys) as release, asyncio.TaskGroup() as group:
        jobs = {each.name: group.create_task(_await(each.operation())) for each in machines}
        looks = {each.name: group.create_task(_look(site, each)) for each in machines}
        inspections = {name: await look for name, look in looks.items()}
        await release()
        released_at = loop.time()
    return {
        name: HeldJob(
            job.result(),
            max(0.0, job.result().seconds - (released_at - inspections[name][0])),
            inspections[name][1],
        )
        for name, job in jobs.items()
    }


@contextlib.asynccontextmanager
async def _holding(
    site: ManagementClient, keys: Sequence[str | None]
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    faults = [
        {"verb": Verb.START.value, "machine": key, "kind": FaultKind.HOLD.value} for key in keys
    ]

    async def release() -> None:
        await site.replace_faults([])

    await site.replace_faults(faults)
    try:
        yield release
    finally:
        await release()


async def _look(
    site: ManagementClient, machine: HeldMachine[Inspection]
) -> tuple[float, Inspection]:
    """Return when the start was seen to be held, and what the inspection found."""

    async def held() -> bool | None:
        waiting = [
            fault["waiting"]
            for fault in await site.faults()
            if fault["verb"] == Verb.START.value and fault["machine"] == machine.fault_key
        ]
        return True if any(waiting) else None

    await wait_for(f"the held start of {machine.name}", held, HELD_SECONDS_MAX)
    held_since = asyncio.get_running_loop().time()
    return held_since, await machine.inspect()


async def _await(operation: Awaitable[FinishedJob]) -> FinishedJob:
    return await operation
