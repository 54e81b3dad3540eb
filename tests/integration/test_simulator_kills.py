"""The simulator kills itself, as kill -9 does, at every step of transfer and apply, at either end.

Real programs, one after another over the same files: nothing that was acknowledged is lost, and
replication goes on to the same bytes on both ends.
"""

import asyncio
import contextlib
import signal
from pathlib import Path

import aiohttp
import pytest

from service_shell.failpoints import POINTS
from tests.support.real_guest_estate import real_guest_estate
from tests.support.simulator_estate import (
    MACHINE,
    REPLICA,
    Estate,
    RunningSite,
    SiteProcess,
)
from tests.support.simulator_steps import digest, protect
from wire_contract.vocabulary import Verb

pytestmark = [pytest.mark.needs("mkfs.ext4", "debugfs", "tune2fs"), pytest.mark.timeout(300)]

AT_THE_SOURCE = ("before_cut", "cut", "before_send", "sent", "acknowledged")
AT_THE_REPLICA = ("opened", "received", "committed", "noted", "answered", "applied")
KILL_SECONDS_MAX = 60


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    """An estate whose machine has real file systems, so that the real guest runs on them."""
    return real_guest_estate(tmp_path)


async def confirmed(tokyo: RunningSite) -> None:
    """Let the source's guest run: its copy is the active one."""
    word = {"authoritative": True, "item": MACHINE}
    await tokyo.done(Verb.CONFIRM_EPOCH, MACHINE, word)


async def killed_at(program: SiteProcess, point: str) -> None:
    """Start a program anew with a failpoint; return once it has killed itself there."""
    await program.kill()
    site = await program.start(f"simulator.{point}=kill@2")
    if program.name == "tokyo":
        with contextlib.suppress(aiohttp.ClientError):
            # It may be over before this has come; then it was over while nothing was written.
            await confirmed(site)
    assert program.running is not None
    code = await asyncio.wait_for(program.running.wait(), KILL_SECONDS_MAX)
    assert code == -signal.SIGKILL, point


def test_every_failpoint_of_the_simulator_is_gone_through() -> None:
    places = {f"simulator.{each}" for each in (*AT_THE_SOURCE, *AT_THE_REPLICA)}
    assert places == {each for each in POINTS if each.startswith("simulator.")}


async def test_a_kill_at_every_step_at_either_end_loses_nothing_that_was_acknowledged(
    estate: Estate,
) -> None:
    async with estate.process("tokyo") as source, estate.process("osaka") as replica:
        tokyo, osaka = await source.start(), await replica.start()
        await protect(estate, tokyo, osaka)
        held = 0
        for point in AT_THE_SOURCE:
            await killed_at(source, point)
            view = (await osaka.machine(REPLICA))["replication"]
            assert view["last_cut_record"] >= held, point
            held = view["last_cut_record"]
        tokyo = await source.start()
        await confirmed(tokyo)
        for point in AT_THE_REPLICA:
            await killed_at(replica, point)
            view = (await tokyo.machine(MACHINE))["replication"]
            assert view["last_cut_record"] >= held, point
            held = view["last_cut_record"]
        osaka = await replica.start()
        # A cut with newer records goes over, then the rest, and both are the same.
        await osaka.until(REPLICA, lambda each: each["replication"]["last_cut_record"] > held)
        await tokyo.done(Verb.SHUT_DOWN, MACHINE, {"seconds": 30})
        cut = await tokyo.done(Verb.PREPARE_FAILOVER, MACHINE)
        assert cut["last_cut"] > 0
        planned = {"planned": True, "expected_cut": cut["last_cut"], "recovery_point": None}
        await osaka.done(Verb.FAIL_OVER, REPLICA, planned, epoch=2)
        images = [Path(disk["path"]) for disk in (await osaka.machine(REPLICA))["disks"]]
        assert digest([each.read_bytes() for each in images]) == digest(
            [each.read_bytes() for each in estate.images]
        )
