"""SIGKILL at failpoints on real processes: a hub there, an agent on the way back."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from tests.support.failpoint_kills import every_place, fail_over_through
from tests.support.lab_world import opened_world, raised_estate
from wire_contract.vocabulary import Direction

pytestmark = [pytest.mark.needs("mkfs.ext4"), pytest.mark.timeout(600)]

SEED = int(os.environ.get("KILL_MATRIX_SEED", "0")) or Random().randrange(1, 10**6)  # noqa: S311


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with raised_estate(tmp_path_factory.mktemp("failpoints")) as path:
        yield path


async def test_real_processes_killed_at_failpoints_finish_a_failover_and_the_way_back(
    folder: Path, tell: Callable[[str], None]
) -> None:
    places = every_place(Random(SEED))  # noqa: S311 -- a choice that can be repeated
    chosen = Random(SEED)  # noqa: S311 -- as above
    kills = [
        chosen.choice([each for each in places if each.victim == "hub"]),
        chosen.choice([each for each in places if each.victim == "osaka/agent"]),
    ]
    ways = (Direction.PRIMARY_TO_RECOVERY, Direction.RECOVERY_TO_PRIMARY)
    async with opened_world(folder) as world:
        killed = [
            await fail_over_through(world, way, kill) for way, kill in zip(ways, kills, strict=True)
        ]
    words = "; ".join(map(str, kills))
    tell(f"real kills by seed {SEED}: {words}: {sum(killed)} of {len(kills)} before the job's end")
