"""The laboratory's control of a site's replication link, on the management port."""

from collections.abc import Iterable
from typing import Final

import structlog
from aiohttp import web

from vmm_simulator.https import parsed
from vmm_simulator.hyperv.replication_link import ReplicationLink
from wire_contract.model import WireModel

log = structlog.get_logger(__name__)

LINK: Final = "/link"


class LinkState(WireModel):
    """Body of `PUT /link`, and the answer: whether what hosts send to other sites gets there."""

    up: bool


class LinkControl:
    """Cuts the link and heals it; asking for what is so already changes nothing."""

    def __init__(self, link: ReplicationLink) -> None:
        self._link = link

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the routes of the management port."""
        yield web.get(LINK, self.show)
        yield web.put(LINK, self.change)

    async def show(self, request: web.Request) -> web.Response:
        """Whether the link is up."""
        del request
        return self._answer()

    async def change(self, request: web.Request) -> web.Response:
        """Cut the link, which breaks off transfers under way, or heal it."""
        wanted = await parsed(request, LinkState)
        if wanted.up != self._link.up:
            log.warning("replication_link_changes", up=wanted.up)
            (self._link.heal if wanted.up else self._link.cut)()
        return self._answer()

    def _answer(self) -> web.Response:
        return web.json_response(LinkState(up=self._link.up).model_dump())
