import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from azure.mgmt.recoveryservicessiterecovery import models

from lab.held_start import HeldMachine, run_with_held_starts
from lab.management_client import ManagementClient
from lab.operator_client import FinishedJob, JobFailedError


class Site:
    """A site as the management port shows it: faults that hold starts until they are replaced."""

    def __init__(self) -> None:
        self._faults: list[dict[str, Any]] = []
        self._changed = asyncio.Event()
        self.replaced: list[int] = []

    async def replace_faults(self, faults: list[dict[str, Any]]) -> None:
        """Set these faults; what was held goes on."""
        self.replaced.append(len(faults))
        self._faults = [{**fault, "waiting": 0} for fault in faults]
        self._changed.set()
        self._changed = asyncio.Event()

    async def faults(self) -> list[dict[str, Any]]:
        """Return the faults with their counters."""
        return self._faults

    async def start(self, key: str | None) -> None:
        """A start as the fabric does it: held while a fault says so."""
        for fault in self._faults:
            if fault["machine"] == key:
                fault["waiting"] += 1
                await self._changed.wait()


def machine(
    site: Site, name: str, inspect: Callable[[], Awaitable[str]], *, fails: bool = False
) -> HeldMachine[str]:
    async def operation() -> FinishedJob:
        loop = asyncio.get_running_loop()
        started = loop.time()
        if fails:
            raise JobFailedError("the source does not answer")
        await site.start(name)
        return FinishedJob(f"job of {name}", loop.time() - started, models.Job())

    return HeldMachine(name, name, operation, inspect)


def client(site: Site) -> ManagementClient:
    return cast("ManagementClient", site)


async def test_each_copy_is_inspected_before_any_start_goes_on() -> None:
    site = Site()
    order: list[str] = []

    async def inspect(name: str, seconds: float) -> str:
        await asyncio.sleep(seconds)
        order.append(name)
        assert site.replaced == [2]
        return f"bytes of {name}"

    held = await run_with_held_starts(
        client(site),
        [
            machine(site, "web01", lambda: inspect("web01", 0.2)),
            machine(site, "sql01", lambda: inspect("sql01", 0.0)),
        ],
    )
    assert order == ["sql01", "web01"]
    assert held["web01"].inspection == "bytes of web01"
    assert held["sql01"].job.name == "job of sql01"
    assert site.replaced[-1] == 0


async def test_held_time_is_no_part_of_an_operations_seconds() -> None:
    site = Site()

    async def inspect() -> str:
        await asyncio.sleep(0.5)
        return ""

    held = await run_with_held_starts(client(site), [machine(site, "web01", inspect)])
    assert held["web01"].job.seconds >= 0.5
    assert 0 <= held["web01"].seconds < held["web01"].job.seconds - 0.4


async def test_no_start_stays_held_when_something_fails() -> None:
    site = Site()

    async def inspect() -> str:
        return ""

    with pytest.raises(ExceptionGroup) as caught:
        await run_with_held_starts(
            client(site),
            [machine(site, "web01", inspect, fails=True), machine(site, "sql01", inspect)],
        )
    assert caught.group_contains(JobFailedError)
    assert site.replaced[-1] == 0


async def test_no_start_stays_held_when_an_inspection_fails() -> None:
    site = Site()

    async def inspect() -> str:
        raise OSError("the image cannot be read")

    with pytest.raises(ExceptionGroup) as caught:
        await run_with_held_starts(client(site), [machine(site, "web01", inspect)])
    assert caught.group_contains(OSError)
    assert site.replaced[-1] == 0
