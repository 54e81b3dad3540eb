"""Two real hubs on one real PostgreSQL, two real sites with real agents, two bad days.

Every job succeeds, every effect is in the fabrics' durable ledgers exactly once, and no agent took
a command twice. tests/long has more days, in random order.
"""

from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio

from tests.support import hubs_days
from tests.support.hubs_days import Days, bad_days
from tests.support.postgres_server import PostgresServer, running_server

MACHINES = 3
LEASE_SECONDS = 3.0

pytestmark = [
    pytest.mark.needs("postgresql"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(240),
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


async def test_killed_paused_crashed_and_updated_in_the_middle_of_failovers(days: Days) -> None:
    await days.spend(
        (
            hubs_days.killed,
            hubs_days.paused,
            hubs_days.database_crashed,
            hubs_days.restarted,
        )
    )
    await days.world.settle()


async def test_silent_cut_and_crossed_in_the_middle_of_failing_back(
    days: Days,
) -> None:
    await days.spend(
        (
            hubs_days.silenced,
            hubs_days.connections_ended,
            hubs_days.crossed,
            hubs_days.nothing,
        )
    )


async def test_any_hub_answers_any_request(days: Days) -> None:
    scope, jobs = days.world.operator.scope, days.world.operator.recovery.replication_jobs
    lists = []
    for hub in (days.holder, days.other):
        days.go_to(hub)
        lists.append([(each.name, each.properties) async for each in jobs.list(*scope)])
    assert lists[0] == lists[1]
    assert len(lists[0]) > 2 * MACHINES


async def test_no_command_was_taken_twice(days: Days, tell: Callable[[str], None]) -> None:
    accepted, doubled, refused = days.taken()
    assert accepted
    assert max(accepted.values()) == 1, accepted.most_common(3)
    assert set(refused) <= {"lower_fence", "lower_epoch"}, refused
    tell(f"two hubs: {len(accepted)} commands, {doubled} doubled, {refused.total()} refused")
