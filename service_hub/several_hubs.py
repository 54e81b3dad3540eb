"""Part of the composition root: what hubs of one database tell each other.

Every hint may be lost: what it says is found by a poll as well. Nobody's word is taken for more
than "look now".
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import structlog

from service_hub.channel.delivery import Delivery
from service_hub.channel.wakeups import Wakeups
from service_hub.domain.records import ProviderContact
from service_hub.engine.runner import Engine
from service_hub.ports.changes import Change, Ring
from service_hub.ports.channel import Connections, PresenceSink
from service_hub.ports.stores import Bell, Committer, Reader
from wire_contract.events import Presence

WATCH_SECONDS: Final = 5.0
"""How often it is looked whether those that are connected may be."""

LISTEN_PAUSE_SECONDS: Final = 1.0
TOLD_AT_ONCE: Final = 100
WAITING_MAX: Final = 10_000
"""Hints that may wait to be told; more are dropped, since each is found by a poll too."""

KICK: Final = "kick"
ARRIVED: Final = "arrived"

log = structlog.get_logger(__name__)


class Told:
    """Hints to the other hubs, told with the next commit of their own; never blocks."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._waiting: asyncio.Queue[Ring] = asyncio.Queue(WAITING_MAX)

    def tell(self, topic: str, key: str) -> None:
        """Tell it soon."""
        if not self._waiting.full():
            self._waiting.put_nowait(Ring(topic, key))

    async def run(self) -> None:
        """Tell what was asked until cancelled."""
        while True:
            rings = [await self._waiting.get()]
            while len(rings) < TOLD_AT_ONCE and not self._waiting.empty():
                rings.append(self._waiting.get_nowait())
            try:
                await self._committer.commit(Change(rings=rings))
            except Exception as error:  # noqa: BLE001 -- a hint only: polls find it
                log.warning("hint_not_told", count=len(rings), cause=str(error))


class KickedEverywhere:
    """The Connections of one hub of several: who is put out here is put out at each."""

    def __init__(self, own: Connections, told: Told) -> None:
        self._own = own
        self._told = told

    def kick(self, provider_id: str) -> None:
        """End all of one provider's connections, wherever they are."""
        self._own.kick(provider_id)
        self._told.tell(KICK, provider_id)


class AnnouncedPresence:
    """A PresenceSink that tells the other hubs who came here: they drop what they have of him."""

    def __init__(self, own: PresenceSink, told: Told, hub_id: str) -> None:
        self._own = own
        self._told = told
        self._hub_id = hub_id

    async def presence(self, provider_id: str, presence: Presence) -> None:
        """Note it, and announce who has come."""
        await self._own.presence(provider_id, presence)
        if presence.state == "online":
            self._told.tell(ARRIVED, f"{provider_id} {self._hub_id}")


class Neighbours:
    """Hears the other hubs, and looks by itself for what they may have told in vain.

    `own` is this hub's listener, `delivery` all ways to providers.
    """

    def __init__(
        self,
        *,
        hub_id: str,
        bell: Bell,
        reader: Reader,
        engine: Engine,
        wakeups: Wakeups,
        own: Delivery,
        delivery: Delivery,
    ) -> None:
        self._hub_id = hub_id
        self._bell = bell
        self._reader = reader
        self._engine = engine
        self._wakeups = wakeups
        self._own = own
        self._delivery = delivery

    async def listen(self) -> None:
        """Do what the others tell, until cancelled."""
        while True:
            try:
                async for ring in self._bell.listen():
                    self.hear(ring)
            except Exception as error:  # noqa: BLE001 -- listened again; polls go on meanwhile
                log.warning("bell_broke_off", cause=str(error) or repr(error))
            await asyncio.sleep(LISTEN_PAUSE_SECONDS)

    def hear(self, ring: Ring) -> None:
        """Do what one hint asks for; unknown ones are of a newer hub."""
        match ring.topic:
            case "outbox":
                self._wakeups.wake([ring.key])
            case "inbox":
                self._engine.message_for(ring.key)
            case "jobs":
                self._engine.leases_freed()
            case "load":
                self._engine.spread.heard(ring.key)
            case "kick":
                self._delivery.kick(ring.key)
            case "arrived":
                provider_id, _, hub_id = ring.key.partition(" ")
                # Only of the own listener: a broker's connections are everybody's.
                if hub_id != self._hub_id and self._own.connected(provider_id) is not None:
                    log.info("provider_moved", provider_id=provider_id, hub_id=hub_id)
                    self._own.kick(provider_id)
            case _:
                log.debug("hint_unknown", topic=ring.topic)

    async def watch(self) -> None:
        """Put out who was revoked or deleted at another hub, until cancelled."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                await self._look(list(self._delivery.connections()))
            except Exception as error:  # noqa: BLE001 -- looked again at the next turn
                log.warning("connections_not_looked_at", cause=str(error) or repr(error))

    async def _look(self, provider_ids: Sequence[str]) -> None:
        found = await asyncio.gather(
            *(self._reader.get(ProviderContact, each) for each in provider_ids)
        )
        for provider_id, contact in zip(provider_ids, found, strict=True):
            if contact is not None and contact.record.cut_off_at is not None:
                log.info("provider_put_out", provider_id=provider_id, cause="revoked elsewhere")
                self._delivery.kick(provider_id)


@asynccontextmanager
async def hearing(neighbours: Neighbours, told: Told) -> AsyncIterator[None]:
    """Hear, tell and look while the block runs."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(each)
            for each in (neighbours.listen(), neighbours.watch(), told.run())
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
