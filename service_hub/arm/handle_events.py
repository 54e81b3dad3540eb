"""Events: looked at, newest first; nobody changes them."""

from service_hub.arm.api import ArmApi
from service_hub.arm.calls import Answer, Call
from service_hub.arm.event_filter import read_filter
from service_hub.arm.paging import asked_of_events, page_of_events
from service_hub.arm.render_events import event_body


class EventHandlers:
    """What operators ask of events."""

    def __init__(self, api: ArmApi) -> None:
        self._api = api

    async def get(self, call: Call) -> Answer:
        """Answer with one event."""
        vault = await self._api.vault(call)
        event = await self._api.events.find(vault, call.folded("event"))
        return Answer(body=event_body(vault, event, await self._api.events.fabric_names(vault)))

    async def list(self, call: Call) -> Answer:
        """Answer with one page of the events that `$filter` asks for, the newest first."""
        vault = await self._api.vault(call)
        after, limit = asked_of_events(call)
        query = {key.lower(): value for key, value in call.query.items()}
        wanted = read_filter(query.get("$filter"))
        found = await self._api.events.list(vault, wanted, after, limit)
        names = await self._api.events.fabric_names(vault)
        bodies = [event_body(vault, each, names) for each in found.events]
        return page_of_events(call, bodies, found.last, self._api.public_url)
