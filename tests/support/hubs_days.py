"""Bad days of two hubs on one PostgreSQL: failovers, and something that breaks at each verb.

A breakage finds every job waiting at a verb that its site holds, and `holder` with all the leases.
It breaks something, lets the verb go in the middle of it, and mends what it broke; whoever then has
the jobs goes on with them until the next verb is held.
"""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from certs.tls import client_context
from lab.waiting import wait_for
from tests.support.busy_estate import assert_every_effect_once
from tests.support.hub_process import HubProcess
from tests.support.hubs_world import FAILOVER_VERBS, HubsWorld, hubs_world
from tests.support.postgres_server import PostgresServer
from tests.support.real_hub import Answer, send
from tests.support.relay import Relay

TAKEN_UP_SECONDS_MAX: Final = 240.0

Breakage = Callable[["Days"], Awaitable[None]]


@dataclass
class Days:
    """The world, the database, and which hub has the jobs now."""

    world: HubsWorld
    server: PostgresServer
    database: str
    wires: Mapping[str, Relay]
    """How each hub reaches the database, by its name."""

    lease_seconds: float

    holder: HubProcess
    other: HubProcess
    next_verb: str | None = None
    may_end: bool = False
    """Whether the last verb was let go: jobs may have ended, and then nobody holds them."""

    @property
    def machine_count(self) -> int:
        """How many machines fail over each day."""
        return len(self.world.items)

    def go_to(self, hub: HubProcess) -> None:
        """Have operators and both agents reach this hub."""
        self.world.doors.lead_to(hub)
        self.world.connect(hub)

    async def spend(self, breakages: Sequence[Breakage]) -> None:
        """Fail every machine over, with one breakage at each verb; all ends as undisturbed."""
        self.go_to(self.holder)
        verbs = dict(zip(FAILOVER_VERBS, breakages, strict=True))
        await self._hold(FAILOVER_VERBS[0])
        jobs = await self.world.begin_failovers()
        for verb, after in zip(FAILOVER_VERBS, (*FAILOVER_VERBS[1:], None), strict=True):
            await self.world.held(verb, self._site(verb), self.machine_count)
            self.next_verb, self.may_end = after, False
            await verbs[verb](self)
        await self.world.ended(jobs)
        effects = await self.world.sites.effects()
        for job in jobs:
            assert_every_effect_once(effects, job, FAILOVER_VERBS)
        assert await self._leases() == {}

    async def let_go(self) -> None:
        """Let the present verb go, and hold the next one."""
        self.may_end = self.next_verb is None
        for site in ("tokyo", "osaka"):
            if self.next_verb is None or self._site(self.next_verb) != site:
                await self.world.let_go(site)
            else:
                await self.world.hold(self.next_verb, site)

    async def handed_over(self) -> None:
        """Return when the other hub has all the jobs; it is the holder from now on."""
        hub_id = (await self.health(self.other))["hub_id"]

        async def look() -> bool | None:
            return True if await self._leases() == {hub_id: self.machine_count} else None

        if not self.may_end:
            await wait_for(f"{self.other.name} to hold the jobs", look, TAKEN_UP_SECONDS_MAX)
        self.holder, self.other = self.other, self.holder

    async def until_idle(self, hub: HubProcess) -> None:
        """Return when a hub has seen that it holds no job any more."""

        async def look() -> bool | None:
            return True if (await self.health(hub))["held_jobs"] == 0 else None

        await wait_for(f"{hub.name} to hold nothing", look, TAKEN_UP_SECONDS_MAX)

    async def health(self, hub: HubProcess) -> dict[str, Any]:
        """Return what a hub says of itself."""
        content: dict[str, Any] = (await self.ask(hub, "GET", "/health")).content
        return content

    async def ask(self, hub: HubProcess, method: str, path: str) -> Answer:
        """Send this hub an operator's request."""
        root = client_context((hub.settings.trust_directory / "root.pem").read_text())
        place = (hub.settings.operator.port, root)
        token = (self.world.folder / "operator.token").read_text()
        bearer = {"Authorization": f"Bearer {token}"}
        return await asyncio.to_thread(send, place, method, path, b"", bearer)

    def taken(self) -> tuple[Counter[str], int, Counter[str]]:
        """Return how often each command was taken in, and how many were doubled or refused."""
        accepted = Counter(
            line["command_id"] for line in self.world.receipts("accepted") if line["command_id"]
        )
        refused = Counter(line["reason"] for line in self.world.receipts("refused"))
        return accepted, len(self.world.receipts("duplicate")), refused

    async def _hold(self, verb: str) -> None:
        await self.world.hold(verb, self._site(verb))

    def _site(self, verb: str) -> str:
        is_at_source = verb in {"shut_down", "prepare_failover"}
        return self.world.source if is_at_source else self.world.target

    async def _leases(self) -> dict[str, int]:
        question = "SELECT owner, count(*) FROM job_lease GROUP BY owner"
        rows = await asyncio.to_thread(self.server.run, question, self.database)
        return {row.split("|")[0]: int(row.split("|")[1]) for row in rows.splitlines()}


async def nothing(days: Days) -> None:
    """Break nothing."""
    await days.let_go()


async def crossed(days: Days) -> None:
    """Providers are connected to the hub that holds nothing."""
    days.world.connect(days.other)
    await days.let_go()


async def killed(days: Days) -> None:
    """The holder is killed with -9, and started again once the other has its jobs."""
    await days.holder.kill()
    days.go_to(days.other)
    await days.let_go()
    await days.handed_over()
    await days.other.start()


async def paused(days: Days) -> None:
    """The holder sleeps beyond its lease; reports are in its sockets when it wakes."""
    sleeper = days.holder
    sleeper.pause()
    await days.let_go()
    await asyncio.sleep(days.lease_seconds)
    days.go_to(days.other)
    await days.handed_over()
    sleeper.resume()
    await days.until_idle(sleeper)


async def restarted(days: Days) -> None:
    """Both hubs are ended and started as for an update, one after the other."""
    for _ in range(2):
        await days.holder.stop()
        days.go_to(days.other)
        await days.handed_over()
        await days.other.start()
    await days.let_go()


async def stopped(days: Days) -> None:
    """The holder is ended as an operator does, and started again."""
    await days.holder.stop()
    days.go_to(days.other)
    await days.let_go()
    await days.handed_over()
    await days.other.start()


async def database_crashed(days: Days) -> None:
    """The database server crashes while reports come in, and comes back."""
    await asyncio.to_thread(days.server.stop, signal.SIGQUIT)
    await days.let_go()
    for hub in (days.holder, days.other):
        refused = await days.ask(hub, "GET", "/hub/v1/vaults")
        assert (refused.code, refused.content["error"]["code"]) == (503, "ServiceUnavailable")
        assert (await days.health(hub))["state"] == "ok"
    await asyncio.to_thread(days.server.start)


async def connections_ended(days: Days) -> None:
    """Every connection to the database is ended by the server."""
    assert await asyncio.to_thread(days.server.end_connections, days.database) > 0
    await days.let_go()


async def cut_off(days: Days) -> None:
    """The holder is refused by the database beyond its lease, then reaches it again."""
    await _without_database(days, lambda wire: wire.lead_to(None))


async def silenced(days: Days) -> None:
    """No packet passes between holder and database beyond its lease; then all come at once."""
    await _without_database(days, lambda wire: wire.silence())


async def _without_database(days: Days, loosen: Callable[[Relay], None]) -> None:
    lost, wire = days.holder, days.wires[days.holder.name]
    loosen(wire)
    await days.let_go()
    await asyncio.sleep(days.lease_seconds)
    days.go_to(days.other)
    await days.handed_over()
    wire.speak()
    if wire.target is None:
        wire.lead_to(days.server.port)
    await days.until_idle(lost)


BREAKAGES: Final[Sequence[Breakage]] = (
    crossed,
    killed,
    paused,
    stopped,
    database_crashed,
    connections_ended,
    cut_off,
    silenced,
)
"""What a random day is made of."""


@asynccontextmanager
async def bad_days(
    folder: Path,
    ports: Callable[[], int],
    server: PostgresServer,
    *,
    machine_count: int,
    lease_seconds: float,
) -> AsyncIterator[Days]:
    """Open the world on a new database of a server, which the days may crash.

    A machine that is too busy to renew a short lease in time loses jobs to the other hub again and
    again: slow, not wrong.
    """
    database = server.create_database()
    async with Relay.opened(server.port) as first, Relay.opened(server.port) as second:
        wires = {"first": first, "second": second}
        further = {
            name: {
                "hub_name": name,
                "database": server.settings(database, folder / f"{name}.pw", wire.port),
                "jobs": {"lease_seconds": lease_seconds},
            }
            for name, wire in wires.items()
        }
        async with hubs_world(
            folder, ports, names=tuple(wires), further=further, machine_count=machine_count
        ) as world:
            holder, other = world.hubs
            yield Days(world, server, database, wires, lease_seconds, holder, other)
