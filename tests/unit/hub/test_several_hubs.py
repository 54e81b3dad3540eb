"""What hubs of one database tell each other, and that each hint is a hint only."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from service_hub import several_hubs
from service_hub.channel.delivery import Publication
from service_hub.channel.wakeups import Wakeups
from service_hub.domain.errors import StaleVersionError
from service_hub.domain.records import ProviderContact
from service_hub.engine.runner import Engine
from service_hub.ports.changes import NEW, Change, Ring, Save
from service_hub.several_hubs import (
    AnnouncedPresence,
    KickedEverywhere,
    Neighbours,
    Told,
    hearing,
)
from tests.support.engine_world import BEGIN, TOKYO, until
from tests.support.played_store import PlayedStore
from wire_contract.events import Presence

OSAKA = "osaka-provider"


@dataclass
class Rung:
    """A committer that keeps the rings, and can fail."""

    rings: list[Ring] = field(default_factory=list)
    failure: Exception | None = None
    commits: int = 0

    async def commit(self, change: Change) -> int:
        """Keep the rings of a change."""
        self.commits += 1
        if self.failure is not None:
            raise self.failure
        self.rings += change.rings
        return self.commits

    async def commit_all(self, changes: Sequence[Change]) -> list[int | StaleVersionError]:
        """Commit one by one."""
        return [await self.commit(change) for change in changes]


class Connected:
    """A Delivery of which only who is connected matters."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)
        self.kicked: list[str] = []

    def connections(self) -> Mapping[str, int]:
        """Return who is connected."""
        return dict.fromkeys(self.names, 1)

    def connected(self, provider_id: str) -> int | None:
        """Return whether it is."""
        return 1 if provider_id in self.names else None

    def publish(self, provider_id: str, payload: bytes) -> Publication:
        """Nothing is published here."""
        raise NotImplementedError

    def hint(self, provider_id: str) -> bool:
        """Nobody is hinted here."""
        raise NotImplementedError

    def kick(self, provider_id: str) -> None:
        """End its connection."""
        self.kicked.append(provider_id)
        self.names.discard(provider_id)


@dataclass
class Heard:
    """What an engine was told."""

    messages: list[str] = field(default_factory=list)
    freed: int = 0

    def message_for(self, job_id: str) -> None:
        """Note it."""
        self.messages.append(job_id)

    def leases_freed(self) -> None:
        """Note it."""
        self.freed += 1


class PlayedBell:
    """Rings as a test wants; the first listening may break off."""

    def __init__(self, breaks_off: int = 0) -> None:
        self.rings: asyncio.Queue[Ring] = asyncio.Queue()
        self.breaks_off = breaks_off
        self.listenings = 0

    async def listen(self) -> AsyncIterator[Ring]:
        """Yield what is rung."""
        self.listenings += 1
        if self.breaks_off:
            self.breaks_off -= 1
            raise ConnectionError("the server restarts")
        while True:
            yield await self.rings.get()


@dataclass
class Scene:
    """A hub among others."""

    neighbours: Neighbours
    bell: PlayedBell
    store: PlayedStore
    engine: Heard
    wakeups: Wakeups
    own: Connected
    delivery: Connected
    committer: Rung
    told: Told


@asynccontextmanager
async def scene(bell: PlayedBell | None = None) -> AsyncIterator[Scene]:
    bell, store, engine = bell or PlayedBell(), PlayedStore(), Heard()
    wakeups, own, delivery = Wakeups(), Connected(TOKYO, OSAKA), Connected(TOKYO, OSAKA)
    committer = Rung()
    told = Told(committer)
    neighbours = Neighbours(
        hub_id="this hub",
        bell=bell,
        reader=store,
        engine=cast("Engine", engine),
        wakeups=wakeups,
        own=own,
        delivery=delivery,
    )
    async with hearing(neighbours, told):
        yield Scene(neighbours, bell, store, engine, wakeups, own, delivery, committer, told)


async def rung(each: Scene, ring: Ring, holds: Callable[[], bool]) -> None:
    each.bell.rings.put_nowait(ring)
    await until(holds)


async def test_each_hint_has_its_own_part_look() -> None:
    async with scene() as hub:
        await rung(hub, Ring("inbox", "job"), lambda: hub.engine.messages == ["job"])
        await rung(hub, Ring("jobs", ""), lambda: hub.engine.freed == 1)
        await rung(hub, Ring("kick", OSAKA), lambda: hub.delivery.kicked == [OSAKA])
        hub.bell.rings.put_nowait(Ring("outbox", TOKYO))
        assert (await hub.wakeups.take(5.0)).provider_ids == {TOKYO}
        await rung(hub, Ring("of a newer hub", "x"), hub.bell.rings.empty)


async def test_who_comes_to_another_hub_is_dropped_here_and_nowhere_else() -> None:
    async with scene() as hub:
        hub.bell.rings.put_nowait(Ring("arrived", f"{TOKYO} this hub"))
        hub.bell.rings.put_nowait(Ring("arrived", "a stranger that hub"))
        hub.bell.rings.put_nowait(Ring("arrived", "no hub"))
        await rung(hub, Ring("arrived", f"{OSAKA} that hub"), lambda: bool(hub.own.kicked))
        assert hub.own.kicked == [OSAKA]
        assert hub.delivery.kicked == []


async def test_a_bell_that_breaks_off_is_listened_to_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(several_hubs, "LISTEN_PAUSE_SECONDS", 0.01)
    async with scene(PlayedBell(breaks_off=2)) as hub:
        await rung(hub, Ring("jobs", ""), lambda: hub.engine.freed == 1)
        assert hub.bell.listenings == 3


async def test_who_was_revoked_elsewhere_is_put_out_without_any_hint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(several_hubs, "WATCH_SECONDS", 0.01)
    async with scene() as hub:
        for name, cut_off_at in ((TOKYO, None), (OSAKA, BEGIN)):
            contact = ProviderContact(
                id=name, vault_id="vault", last_contact_at=BEGIN, cut_off_at=cut_off_at
            )
            await hub.store.apply([Change(saves=(Save(contact, NEW),))])
        await until(lambda: bool(hub.delivery.kicked))
        hub.store.fail = OSError("away")
        await asyncio.sleep(0.05)
        hub.store.fail = None
        assert set(hub.delivery.kicked) == {OSAKA}
        assert hub.delivery.names == {TOKYO}


async def test_who_is_put_out_here_is_put_out_everywhere() -> None:
    async with scene() as hub:
        connections = KickedEverywhere(hub.delivery, hub.told)
        connections.kick(OSAKA)
        assert hub.delivery.kicked == [OSAKA]
        await until(lambda: hub.committer.rings == [Ring("kick", OSAKA)])


async def test_many_arrivals_are_told_in_few_commits_and_a_failure_ends_nothing() -> None:
    presences: list[Any] = []

    class Noting:
        async def presence(self, provider_id: str, presence: Presence) -> None:
            presences.append((provider_id, presence.state))

    async with scene() as hub:
        hub.committer.failure = OSError("the disk is full")
        announced = AnnouncedPresence(Noting(), hub.told, "this hub")
        online = Presence(state="online", boot_id="b", session=1)
        await announced.presence(TOKYO, online)
        await until(lambda: hub.committer.commits == 1)
        hub.committer.failure = None
        for number in range(250):
            await announced.presence(f"p{number}", online)
        await announced.presence(OSAKA, Presence(state="offline", boot_id="b", session=1))
        await until(lambda: len(hub.committer.rings) == 250)
        assert hub.committer.commits <= 5
        assert hub.committer.rings[0] == Ring("arrived", "p0 this hub")
        assert presences[-1] == (OSAKA, "offline")
