"""SIGKILL at every failpoint of every process of an estate, failover after failover."""

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.support.failpoint_kills import every_place, fail_over_through
from tests.support.lab_world import opened_world, raised_estate
from wire_contract.vocabulary import Direction

pytestmark = [pytest.mark.needs("mkfs.ext4"), pytest.mark.timeout(1800)]

SEED = int(os.environ.get("KILL_MATRIX_SEED", "0")) or Random().randrange(1, 10**6)  # noqa: S311
MISSED_MAX = 6
"""Kills that may come too late for the job: what a start takes differs."""


async def test_every_failpoint_of_every_process_kills_it_and_the_failover_ends(
    tmp_path: Path, tell: Callable[[str], None]
) -> None:
    places = every_place(Random(SEED))  # noqa: S311 -- a choice that can be repeated
    ways = itertools.cycle((Direction.PRIMARY_TO_RECOVERY, Direction.RECOVERY_TO_PRIMARY))
    missed: list[str] = []
    with raised_estate(tmp_path) as folder:
        async with opened_world(folder) as world:
            for way, kill in zip(ways, places, strict=False):
                if not await fail_over_through(world, way, kill):
                    missed.append(str(kill))
    tell(f"real kills by seed {SEED}: {len(places)}, after the job's end: {missed}")
    assert len(missed) <= MISSED_MAX, missed
