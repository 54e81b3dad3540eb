"""Makes events of what providers show of protected copies, stored with the view that shows it."""

from collections.abc import Iterable, Mapping

from service_hub.domain.copy_events import events_of_observation, may_tell, placed, tells_something
from service_hub.domain.records import (
    FabricInventory,
    MachineObservation,
    ProtectedItem,
    Provider,
)
from service_hub.domain.replication_events import ReplicationEvent
from service_hub.domain.servers import title_of
from service_hub.ports.changes import Save, Versioned
from service_hub.ports.stores import WideReader
from wire_contract.vmm_interface import MachineView
from wire_contract.vocabulary import Side


class Witnessing:
    """Compares a new view of a copy with the one before; rare is what tells something."""

    def __init__(self, *, reader: WideReader) -> None:
        self._reader = reader

    async def told_by(self, observations: Iterable[MachineObservation]) -> list[Save]:
        """Return the events that these views tell, to be stored together with them."""
        shown = {each.id: each for each in observations if each.machine.protected_item is not None}
        if not shown:
            return []
        present = await self._reader.get_many(MachineObservation, list(shown))
        pairs = [(_record(present.get(place)), after) for place, after in shown.items()]
        asked = [
            (before, after)
            for before, after in pairs
            if tells_something(_view(before), after.machine, after.observed_at)
        ]
        names = {each.machine.protected_item for _, each in asked} - {None}
        items = await self._reader.get_many(ProtectedItem, [each for each in names if each])
        saves: list[Save] = []
        for before, after in asked:
            found = items.get(after.machine.protected_item or "")
            if found is not None:
                saves += await self._of_copy(found.record, before, after)
        return saves

    async def _of_copy(
        self, item: ProtectedItem, before: MachineObservation | None, after: MachineObservation
    ) -> list[Save]:
        side = _side_of(item, after)
        if side is None or not may_tell(item, side, before, after):
            return []
        other = f"{item.provider_at(side.other)}/{item.machine_at(side.other)}"
        holder = _record(await self._reader.get(MachineObservation, other))
        events = events_of_observation(item, side, before, after, _view(holder))
        return [Save(each, None) for each in await self._named(events, item, side)]

    async def _named(
        self, events: list[ReplicationEvent], item: ProtectedItem, side: Side
    ) -> list[ReplicationEvent]:
        if not events:
            return []
        servers: dict[str, str] = {}
        clouds: dict[str, str] = {}
        for end in Side:
            provider = await self._reader.get(Provider, item.provider_at(end))
            if provider is not None:
                servers[provider.record.id] = title_of(provider.record)
            inventory = await self._reader.get(FabricInventory, item.provider_at(end))
            known = () if inventory is None else inventory.record.view.clouds
            clouds |= {cloud.cloud_id: cloud.friendly_name for cloud in known}
        return [placed(each, item, side, servers, clouds) for each in events]


def _record(found: Versioned[MachineObservation] | None) -> MachineObservation | None:
    return None if found is None else found.record


def _view(seen: MachineObservation | None) -> MachineView | None:
    return None if seen is None else seen.machine


def _side_of(item: ProtectedItem, seen: MachineObservation) -> Side | None:
    ends: Mapping[str, Side] = {
        f"{item.provider_at(side)}/{item.machine_at(side)}": side for side in Side
    }
    return ends.get(seen.id)
