"""Events of a vault: read page by page, forgotten when they are old; who falls silent is told."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import structlog

from service_hub.domain.asked_moments import asked_moment
from service_hub.domain.copy_events import lost_event_id, provider_lost
from service_hub.domain.errors import InvalidRequestError, NotFoundError, StaleVersionError
from service_hub.domain.records import Provider, ProviderContact, Vault
from service_hub.domain.replication_events import ReplicationEvent
from service_hub.domain.servers import title_of
from service_hub.ports.changes import NEW, Change, Delete, Save
from service_hub.ports.running import Liveness
from service_hub.ports.stores import (
    Committer,
    EventLists,
    EventPage,
    EventPlace,
    Reader,
    WantedEvents,
)
from service_hub.ports.surroundings import Clock

FORGOTTEN_AT_ONCE: Final = 500
FORGOTTEN_ROUNDS_MAX: Final = 1000
"""Of one turn of the chore; what is left is found by the next."""

_EQUAL: Final = {
    "eventcode": "code",
    "severity": "severity",
    "eventtype": "event_type",
    "affectedobjectfriendlyname": "affected_name",
    "affectedobjectcorrelationid": "affected_id",
}
"""The dialect's names (EventQueryParameter) and the columns that they ask."""

log = structlog.get_logger(__name__)


class EventService:
    """The EventUseCases of the hub's ports."""

    def __init__(self, *, reader: Reader, lists: EventLists) -> None:
        self._reader = reader
        self._lists = lists

    async def list(
        self, vault: Vault, wanted: Mapping[str, str], after: EventPlace | None, limit: int
    ) -> EventPage:
        """Return one page, newest first; InvalidRequestError where a name is unknown."""
        equal = {_EQUAL[name]: text for name, text in wanted.items() if name in _EQUAL}
        others = wanted.keys() - _EQUAL.keys() - {"fabricname", "starttime", "endtime"}
        if others:
            raise InvalidRequestError(
                f"Events can't be filtered by '{min(others)}'. Use EventCode, Severity, EventType,"
                " FabricName, AffectedObjectFriendlyName, AffectedObjectCorrelationId, StartTime"
                " or EndTime.",
                "$filter",
            )
        providers = None
        if "fabricname" in wanted:
            providers = await self._providers_named(vault, wanted["fabricname"])
        asked = WantedEvents(
            vault.id,
            equal,
            providers,
            asked_moment(wanted, "starttime"),
            asked_moment(wanted, "endtime"),
        )
        return await self._lists.listed_events(asked, after, limit)

    async def find(self, vault: Vault, event_id: str) -> ReplicationEvent:
        """Return one; NotFoundError."""
        found = await self._reader.get(ReplicationEvent, event_id.lower())
        if found is None or found.record.vault_id != vault.id:
            raise NotFoundError(event_id)
        return found.record

    async def fabric_names(self, vault: Vault) -> Mapping[str, str]:
        """Return the ARM names of the vault's servers by provider."""
        found = await self._reader.find(Provider, vault_id=vault.id)
        return {each.record.id: each.record.fabric_name for each in found}

    async def _providers_named(self, vault: Vault, name: str) -> tuple[str, ...]:
        found = await self._reader.find(Provider, vault_id=vault.id)
        wanted = name.lower()
        return tuple(
            each.record.id
            for each in found
            if wanted in {each.record.fabric_name.lower(), title_of(each.record).lower()}
        )


class EventPruning:
    """Forgets events that are old; every hub of a database may, also at one time."""

    def __init__(
        self, *, lists: EventLists, committer: Committer, clock: Clock, kept: timedelta
    ) -> None:
        self._lists = lists
        self._committer = committer
        self._clock = clock
        self._kept = kept

    async def prune(self) -> int:
        """Forget what is old enough, portion by portion; return how many."""
        before, count = self._clock.now() - self._kept, 0
        for _ in range(FORGOTTEN_ROUNDS_MAX):
            found = await self._lists.old_events(before, FORGOTTEN_AT_ONCE)
            if not found:
                break
            deletes = [Delete(ReplicationEvent, each) for each in found]
            await self._committer.commit(Change(deletes=deletes))
            count += len(found)
        return count


class LostProviders:
    """Tells of each server that falls silent, once per silence, whichever hub notices it first."""

    def __init__(
        self, *, reader: Reader, committer: Committer, clock: Clock, liveness: Liveness
    ) -> None:
        self._reader = reader
        self._committer = committer
        self._clock = clock
        self._liveness = liveness

    async def look(self) -> int:
        """Store an event for each server whose lease has run out; return how many are new."""
        count = 0
        for vault in await self._reader.find(Vault):
            for found in await self._reader.find(Provider, vault_id=vault.record.id):
                count += await self._look_at(found.record)
        return count

    async def _look_at(self, provider: Provider) -> int:
        contact = await self._reader.get(ProviderContact, provider.id)
        if contact is None or provider.registered_at is None:
            return 0
        if contact.record.cut_off_at is not None or await self._liveness.connected(provider.id):
            # Whose certificates an operator revoked is no surprise: an alert says that already.
            return 0
        last = contact.record.last_contact_at
        if await self._reader.get(ReplicationEvent, lost_event_id(provider.id, last)) is not None:
            return 0
        event = provider_lost(provider, last, self._clock.now())
        try:
            # With the contact as it was read: who is heard in this moment is not lost.
            heard = Save(contact.record, contact.version)
            await self._committer.commit(Change(saves=(heard, Save(event, NEW))))
        except StaleVersionError:
            return 0
        log.warning("provider_lost", provider_id=provider.id, last_contact_at=last.isoformat())
        return 1
