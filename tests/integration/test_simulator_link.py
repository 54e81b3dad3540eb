"""The line between two sites, cut and healed by the laboratory."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.simulator_estate import MACHINE, REPLICA, Estate, make_estate
from tests.support.simulator_steps import protect
from vmm_simulator.hyperv.replication_link import ReplicationLink

LINK = "/link"
SECONDS_MAX = 30.0


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    return make_estate(tmp_path)


async def until(what: str, look: Any) -> None:
    """Return once a condition holds; TimeoutError names it."""
    try:
        async with asyncio.timeout(SECONDS_MAX):
            while not await look():
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise TimeoutError(f"this did not happen in {SECONDS_MAX} s: {what}") from None


async def test_replication_stands_while_the_link_is_cut_and_goes_on_by_itself(
    estate: Estate,
) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        assert await tokyo.manage("GET", LINK) == (200, {"up": True})
        assert await tokyo.manage("PUT", LINK, {"up": False}) == (200, {"up": False})

        async def stands() -> bool:
            # What was under way is cut off in the middle first; the next cycle knows why.
            return "link" in str((await tokyo.machine(MACHINE))["replication"]["last_error"])

        await until("the source says that its line is cut", stands)
        before = (await osaka.machine(REPLICA))["replication"]["last_cut"]
        # Saying it again changes nothing; the other site's own line is up.
        assert await tokyo.manage("PUT", LINK, {"up": False}) == (200, {"up": False})
        assert await osaka.manage("GET", LINK) == (200, {"up": True})
        assert await tokyo.manage("PUT", LINK, {"up": True}) == (200, {"up": True})

        async def goes_on() -> bool:
            seen = (await osaka.machine(REPLICA))["replication"]["last_cut"]
            return bool(seen > before)

        await until("the replica takes further change sets", goes_on)


async def test_a_link_is_up_or_not(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        for body in ({}, {"up": "perhaps"}, {"up": True, "down": False}):
            assert (await tokyo.manage("PUT", LINK, body))[0] == 400


class Line:
    """A connection that notes that it was broken off."""

    def __init__(self) -> None:
        self.broken = False

    def abort(self) -> None:
        """Note it."""
        self.broken = True


def test_what_is_under_way_breaks_off_and_what_has_ended_is_left_alone() -> None:
    link, ended, open_one = ReplicationLink(), Line(), Line()
    with link.carrying(ended):
        link.require()
    with link.carrying(open_one):
        link.cut()
        assert open_one.broken
        assert not ended.broken
        with pytest.raises(ConnectionError, match="cut"), link.carrying(Line()):
            pass
    link.heal()
    link.require()
