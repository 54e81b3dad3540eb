"""Two real hubs on a real PostgreSQL: days on which anything breaks in any order, by seed.

SITE_RECOVERY_SEED=N repeats one day's order alone.
"""

import os
import random
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio

from tests.support.hubs_days import BREAKAGES, Days, bad_days
from tests.support.hubs_world import FAILOVER_VERBS
from tests.support.postgres_server import PostgresServer, running_server

MACHINES = 5
LEASE_SECONDS = 6.0
DAYS = 12
SEED = os.environ.get("SITE_RECOVERY_SEED")
SEEDS = range(DAYS) if SEED is None else [int(SEED)]

pytestmark = [
    pytest.mark.needs("postgresql"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of these tests alone: they crash it."""
    with running_server() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def days(
    tmp_path_factory: pytest.TempPathFactory, server: PostgresServer, ports: Callable[[], int]
) -> AsyncIterator[Days]:
    folder = tmp_path_factory.mktemp("hubs")
    async with bad_days(
        folder, ports, server, machine_count=MACHINES, lease_seconds=LEASE_SECONDS
    ) as opened:
        yield opened


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_day_on_which_anything_breaks(
    days: Days, seed: int, tell: Callable[[str], None]
) -> None:
    chance = random.Random(seed)  # noqa: S311 -- an order that can be repeated
    chosen = [chance.choice(BREAKAGES) for _ in FAILOVER_VERBS]
    tell(f"seed {seed}: {', '.join(each.__name__ for each in chosen)}")
    await days.spend(chosen)
    await days.world.settle()
    accepted, _, refused = days.taken()
    assert max(accepted.values()) == 1, accepted.most_common(3)
    assert set(refused) <= {"lower_fence", "lower_epoch"}, refused
