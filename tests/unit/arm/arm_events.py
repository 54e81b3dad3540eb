"""Events without a store: what the surface shows of them."""

from collections.abc import Mapping
from dataclasses import dataclass

from service_hub.domain.errors import NotFoundError
from service_hub.domain.records import Vault
from service_hub.domain.replication_events import ReplicationEvent
from service_hub.ports.stores import EventPage, EventPlace
from tests.unit.arm.arm_hub import MemoryHub


@dataclass
class MemoryEvents:
    """EventUseCases over the hub's list; a filter is kept in `hub.event_filters`."""

    hub: MemoryHub

    async def list(
        self, vault: Vault, wanted: Mapping[str, str], after: EventPlace | None, limit: int
    ) -> EventPage:
        """Return some, newest first."""
        del vault
        self.hub.event_filters.append(dict(wanted))
        placed = [(EventPlace(number, e.id), e) for number, e in enumerate(self.hub.events)][::-1]
        behind = [each for each in placed if after is None or each[0] < after]
        shown = behind[:limit]
        return EventPage(
            [event for _, event in shown], shown[-1][0] if len(behind) > limit else None
        )

    async def find(self, vault: Vault, event_id: str) -> ReplicationEvent:
        """Return one."""
        del vault
        for event in self.hub.events:
            if event.id == event_id:
                return event
        raise NotFoundError(event_id)

    async def fabric_names(self, vault: Vault) -> Mapping[str, str]:
        """Return none but one."""
        del vault
        return {"tokyo-provider": "a" * 64}
