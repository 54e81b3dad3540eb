"""The part of the VMM interface that shows the whole object model, the jobs and the changes."""

import asyncio
import re
from collections.abc import Iterable
from typing import Final

from aiohttp import web

from vmm_simulator.https import rendered
from vmm_simulator.lookout import Lookout
from vmm_simulator.problems import bad_arguments
from vmm_simulator.store import InventoryStore
from wire_contract.paths import VMM_CHANGES, VMM_FABRIC, VMM_JOBS
from wire_contract.vmm_fabric import ChangesView

WAIT_SECONDS_MAX: Final = 30
_NUMBER: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,6})?", re.ASCII)


class FabricInterface:
    """Handlers: look and answer; a look for changes may wait for one."""

    def __init__(self, store: InventoryStore, lookout: Lookout) -> None:
        self._store = store
        self._lookout = lookout

    def routes(self) -> Iterable[web.RouteDef]:
        """Return what shows the object model; the caller has these want a running service."""
        yield web.get(VMM_FABRIC, self.fabric)
        yield web.get(VMM_JOBS, self.jobs)
        yield web.get(VMM_CHANGES, self.changes)

    async def fabric(self, request: web.Request) -> web.Response:
        """The whole object model."""
        del request
        return rendered(self._lookout.fabric())

    async def jobs(self, request: web.Request) -> web.Response:
        """VMM's job history."""
        del request
        return rendered(await self._lookout.jobs())

    async def changes(self, request: web.Request) -> web.Response:
        """The change number, at once or, with `after` and `seconds`, when it is another one."""
        after, seconds = int(_number(request, "after", "-1")), _number(request, "seconds", "0")
        if seconds > WAIT_SECONDS_MAX:
            raise bad_arguments(f"seconds: {WAIT_SECONDS_MAX} are the most")
        number = self._store.change_number
        if after >= 0 and seconds:
            number = await self._within(after, seconds)
        return rendered(ChangesView(change_number=number))

    async def _within(self, after: int, seconds: float) -> int:
        try:
            async with asyncio.timeout(seconds):
                return await self._store.wait_for_change(after)
        except TimeoutError:
            return self._store.change_number


def _number(request: web.Request, name: str, default: str) -> float:
    value = request.query.get(name)
    if value is None:
        return float(default)
    if _NUMBER.fullmatch(value) is None:
        raise bad_arguments(f"{name} is no number")
    return float(value)
