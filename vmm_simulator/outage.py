"""A site without power: every host is down, and the VMM server answers nobody.

The management port of a laboratory still answers, to look and to give the power back. A simulator
that is started anew has power.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

import structlog
from aiohttp import web

from vmm_simulator.commands import ConnectionVanishesError
from vmm_simulator.estate_control import EstateControl
from vmm_simulator.https import Handler, parsed
from vmm_simulator.problems import Code, RefusedError
from wire_contract.model import WireModel

log = structlog.get_logger(__name__)

FAULTS: Final = "/faults"
_LOOKING: Final = frozenset({"GET", "HEAD"})


class Power(WireModel):
    """Body of `PUT /power`, and the answer: whether the site has power."""

    on: bool


class Outage:
    """Takes the power from a site and gives it back; asking for what is so already changes nothing.

    One change at a time: who asks meanwhile waits for it.
    """

    def __init__(self, control: EstateControl) -> None:
        self._control = control
        self._on = True
        self._changing = asyncio.Lock()

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the routes of the management port."""
        yield web.get("/power", self.show)
        yield web.put("/power", self.change)

    async def show(self, request: web.Request) -> web.Response:
        """Whether the site has power."""
        del request
        return web.json_response(Power(on=self._on).model_dump())

    async def change(self, request: web.Request) -> web.Response:
        """Take the power away, as hard as a crash for every guest, or give it back."""
        wanted = await parsed(request, Power)
        async with self._changing:
            if wanted.on != self._on:
                log.warning("site_power_changes", on=wanted.on)
                await (self._give() if wanted.on else self._take())
        return web.json_response(Power(on=self._on).model_dump())

    async def _take(self) -> None:
        # First nobody is heard: what is under way at a host must not be told as done.
        self._on = False
        await self._control.power_off()

    async def _give(self) -> None:
        await self._control.power_on()
        self._on = True

    def interface(self, routes: Iterable[web.RouteDef]) -> Iterable[web.RouteDef]:
        """Yield the routes of the VMM interface; without power their connections just break."""
        for each in routes:
            yield web.route(each.method, each.path, self._silent(each.handler))

    def management(self, routes: Iterable[web.RouteDef]) -> Iterable[web.RouteDef]:
        """Yield power, then the management port; without power that only looks and sets faults."""
        yield from self.routes()
        for each in routes:
            always = each.method in _LOOKING or each.path == FAULTS
            handler = each.handler if always else self._with_power(each.handler)
            yield web.route(each.method, each.path, handler)

    def _silent(self, handler: Handler) -> Handler:
        async def answered(request: web.Request) -> web.StreamResponse:
            answer = await handler(request) if self._on else None
            # What was under way when the power went is told to nobody either.
            if answer is None or not self._on:
                raise ConnectionVanishesError
            return answer

        return answered

    def _with_power(self, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            if not self._on:
                raise RefusedError(
                    Code.NOT_AVAILABLE,
                    "the site has no power",
                    "give it back first: PUT /power {on: true}",
                )
            return await handler(request)

        return guarded
