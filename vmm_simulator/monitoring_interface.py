"""How hosts measure replication: routes of the management port (docs/vmm-simulator.md).

They are settings of Hyper-V, not of VMM: they answer also while the VMM service is stopped.
"""

from collections.abc import Iterable

from aiohttp import web

from service_shell.clock import Clock
from vmm_simulator.https import parsed, rendered
from vmm_simulator.hyperv.counting import Counting
from vmm_simulator.hyperv.statistics import Monitoring, reset
from vmm_simulator.lookout import Lookout
from vmm_simulator.problems import unknown
from vmm_simulator.store import InventoryStore
from vmm_simulator.verbs.call import refused_state


class MonitoringInterface:
    """Handlers: settings of a host, counters of a machine."""

    def __init__(self, store: InventoryStore, clock: Clock, lookout: Lookout) -> None:
        self._store = store
        self._clock = clock
        self._lookout = lookout

    def routes(self) -> Iterable[web.RouteDef]:
        """Return all of them."""
        yield web.get("/hosts/{fqdn}/monitoring", self.show)
        yield web.put("/hosts/{fqdn}/monitoring", self.change)
        yield web.delete("/machines/{machine_id}/statistics", self.reset)

    async def show(self, request: web.Request) -> web.Response:
        """The settings of a host."""
        return rendered(self._store.host(request.match_info["fqdn"]).monitoring)

    async def change(self, request: web.Request) -> web.Response:
        """Other settings for a host; what is left out takes its default."""
        fqdn = request.match_info["fqdn"]
        wanted = await parsed(request, Monitoring)
        host = await self._store.change_host(
            fqdn, lambda each: each.model_copy(update={"monitoring": wanted})
        )
        return rendered(host.monitoring)

    async def reset(self, request: web.Request) -> web.Response:
        """Counters that begin now (Reset-VMReplicationStatistics); the machine as it is then."""
        copies = self._store.copies(request.match_info["machine_id"])
        if not copies:
            raise unknown("machine", request.match_info["machine_id"])
        machine = copies[0]
        if machine.relationship is None:
            raise refused_state(f"machine {machine.name} does not replicate", "enable it first")
        now = self._clock.now()
        await Counting(self._store, self._clock).count(
            machine.machine_id, lambda each: reset(each, now)
        )
        return rendered(await self._lookout.machine(machine.machine_id, None))
