"""The two HTTPS surfaces of a simulated site; read the two `routes` to know them.

The VMM interface is what a provider uses (docs/wire-contract.md). The management port is what a
laboratory uses (docs/vmm-simulator.md): a look at everything, the ledger, and faults on demand.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

from aiohttp import web

from vmm_simulator.commands import Commands
from vmm_simulator.estate_interface import EstateInterface
from vmm_simulator.fabric_interface import FabricInterface
from vmm_simulator.faults import FaultSet
from vmm_simulator.https import Handler, parsed, rendered
from vmm_simulator.journal import Journal
from vmm_simulator.link_control import LinkControl
from vmm_simulator.lookout import Lookout
from vmm_simulator.monitoring_interface import MonitoringInterface
from vmm_simulator.problems import Code, RefusedError, bad_arguments, unknown
from vmm_simulator.self_fencing import SelfFencing
from vmm_simulator.service import VmmService
from vmm_simulator.service_interface import ServiceInterface
from vmm_simulator.store import InventoryStore
from vmm_simulator.verbs.call import Fabric
from vmm_simulator.vmm.clusters import broker_to_name
from vmm_simulator.vmm.placement import hosts_of
from wire_contract.faults import FaultRequest
from wire_contract.paths import (
    VMM_CLOUD,
    VMM_CLOUD_VERB,
    VMM_HOST_REQUESTS,
    VMM_HUB_CONTACT,
    VMM_INVENTORY,
    VMM_MACHINE,
    VMM_MACHINE_VERB,
    VMM_MACHINES,
    VMM_SERVER_VERB,
)
from wire_contract.reports import HostCertificateRequest
from wire_contract.vmm_interface import VerbRequest
from wire_contract.vocabulary import CLOUD_VERBS, FABRIC_VERBS, SERVER_VERBS, Verb

_NONCE: Final = re.compile(r"[0-9A-Za-z]{1,128}")
_VERBS: Final = {verb.value: verb for verb in FABRIC_VERBS}
_MACHINE_VERBS: Final = frozenset(FABRIC_VERBS) - CLOUD_VERBS - SERVER_VERBS
_IDENTITY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class VmmInterface:
    """Handlers of the VMM interface: parse, call, render."""

    def __init__(
        self,
        fabric: Fabric,
        commands: Commands,
        lookout: Lookout,
        service: VmmService,
        fencing: SelfFencing,
    ) -> None:
        self._fencing = fencing
        self._fabric = fabric
        self._commands = commands
        self._lookout = lookout
        self._service = service

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the whole VMM interface; all of these want the VMM service to run."""
        yield from ServiceInterface(self._service, self._lookout).routes()
        for route in FabricInterface(self._fabric.store, self._lookout).routes():
            yield web.get(route.path, self._while_running(route.handler))
        yield web.put(VMM_HUB_CONTACT, self._while_running(self.hub_contact))
        yield web.get(VMM_INVENTORY, self._while_running(self.inventory))
        yield web.get(VMM_MACHINES, self._while_running(self.machines))
        yield web.get(VMM_MACHINE, self._while_running(self.machine))
        yield web.post(VMM_MACHINE_VERB, self._while_running(self.machine_verb))
        yield web.get(VMM_CLOUD, self._while_running(self.cloud))
        yield web.get(VMM_HOST_REQUESTS, self._while_running(self.host_requests))
        yield web.post(VMM_CLOUD_VERB, self._while_running(self.cloud_verb))
        yield web.post(VMM_SERVER_VERB, self._while_running(self.server_verb))

    def _while_running(self, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            self._service.check_running()
            return await handler(request)

        return guarded

    async def hub_contact(self, request: web.Request) -> web.Response:
        """The provider has just had an answer of the hub: who is watched has not been cut off."""
        del request
        self._fencing.hub_heard()
        return web.json_response({})

    async def inventory(self, request: web.Request) -> web.Response:
        """Everything that the VMM server manages."""
        del request
        return rendered(self._lookout.inventory())

    async def machines(self, request: web.Request) -> web.Response:
        """All machines."""
        del request
        machines = self._lookout.inventory().machines
        return web.json_response(
            {"machines": [machine.model_dump(mode="json") for machine in machines]}
        )

    async def machine(self, request: web.Request) -> web.Response:
        """One machine; `?nonce=` has its guest answer."""
        nonce = request.query.get("nonce")
        if nonce is not None and _NONCE.fullmatch(nonce) is None:
            raise bad_arguments("a nonce has 1 to 128 letters and digits")
        return rendered(await self._lookout.machine(request.match_info["machine_id"], nonce))

    async def cloud(self, request: web.Request) -> web.Response:
        """One cloud."""
        return rendered(self._lookout.cloud(request.match_info["cloud_id"]))

    async def host_requests(self, request: web.Request) -> web.Response:
        """Certificate requests made on the hosts of a cloud."""
        store = self._fabric.store
        hosts = hosts_of(store.cloud(request.match_info["cloud_id"]), store.hosts.values())
        made = [
            HostCertificateRequest(
                host=host.fqdn,
                csr_pem=self._fabric.hosts[host.fqdn].credentials.request(
                    broker_to_name(store.fabric, host)
                ),
            )
            for host in hosts
        ]
        return web.json_response({"requests": [each.model_dump(mode="json") for each in made]})

    async def machine_verb(self, request: web.Request) -> web.Response:
        """A verb on a machine."""
        return await self._verb(request, "machine_id", _MACHINE_VERBS)

    async def cloud_verb(self, request: web.Request) -> web.Response:
        """A verb on a cloud."""
        return await self._verb(request, "cloud_id", CLOUD_VERBS)

    async def server_verb(self, request: web.Request) -> web.Response:
        """A verb on the VMM server itself."""
        return await self._verb(request, "vmm_id", SERVER_VERBS)

    async def _verb(self, request: web.Request, key: str, offered: frozenset[Verb]) -> web.Response:
        target, name = request.match_info[key], request.match_info["verb"]
        verb = _VERBS.get(name)
        if verb is None or verb not in offered:
            raise RefusedError(Code.NOT_FOUND, f"there is no verb {name} here")
        if _IDENTITY.fullmatch(target) is None:
            raise bad_arguments("the target is no id (letters, digits, `.`, `_`, `-`)")
        body = await parsed(request, VerbRequest)
        if body.command.deadline.tzinfo is None:
            raise bad_arguments("command.deadline: give the time zone")
        return rendered(await self._commands.run(verb, target, body))


class Management:
    """Handlers of the management port."""

    def __init__(
        self,
        store: InventoryStore,
        journal: Journal,
        faults: FaultSet,
        *,
        lookout: Lookout,
        service: VmmService,
        estate: EstateInterface,
        monitoring: MonitoringInterface,
        link: LinkControl,
    ) -> None:
        self._monitoring = monitoring
        self._link = link
        self._service = service
        self._estate = estate
        self._store = store
        self._journal = journal
        self._faults = faults
        self._lookout = lookout

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the whole management port."""
        yield from ServiceInterface(self._service, self._lookout).management_routes()
        yield from self._monitoring.routes()
        yield from self._link.routes()
        yield web.get("/inventory", self.inventory)
        yield web.get("/machines/{id}", self.machine)
        yield web.get("/effects", self.effects)
        yield web.get("/faults", self.show_faults)
        yield web.put("/faults", self.set_faults)
        yield web.delete("/faults", self.clear_faults)
        # Last: its paths name kinds of objects, and must not hide those above.
        yield from self._estate.routes()

    async def inventory(self, request: web.Request) -> web.Response:
        """As the VMM interface shows it, and what only a laboratory asks for."""
        del request
        fabric = self._store.fabric
        rest: dict[str, Any] = {
            "host_groups": [each.model_dump() for each in fabric.host_groups],
            "logical_networks": [each.model_dump() for each in fabric.logical_networks],
            "ip_pools": [each.model_dump() for each in fabric.address_pools],
            "library_shares": [each.model_dump() for each in fabric.library_shares],
        }
        return web.json_response({**self._lookout.inventory().model_dump(mode="json"), **rest})

    async def machine(self, request: web.Request) -> web.Response:
        """The local copy of a machine, by machine id or Hyper-V id."""
        identity = request.match_info["id"]
        copies = self._store.copies(identity)
        if not copies:
            raise unknown("machine", identity)
        machine = copies[0]
        view = await self._lookout.machine(machine.machine_id, None)
        return web.json_response(
            {
                **view.model_dump(mode="json"),
                "guest_pid": self._lookout.pid(machine),
                "desired_running": machine.desired_running,
                "disk_paths": [disk.path for disk in machine.disks],
            }
        )

    async def effects(self, request: web.Request) -> web.Response:
        """The ledger in the order in which effects began."""
        del request
        lines = [
            {
                "command_id": effect.command_id,
                "verb": effect.verb,
                "machine": effect.target,
                "epoch": effect.epoch,
                "began_at": effect.began_at,
                "done_at": effect.done_at,
                "outcome": effect.outcome,
            }
            for effect in await self._journal.effects()
        ]
        return web.json_response({"effects": lines})

    async def show_faults(self, request: web.Request) -> web.Response:
        """The faults that are set."""
        del request
        return self._faults_answer()

    async def set_faults(self, request: web.Request) -> web.Response:
        """Set these faults and no others."""
        self._faults.replace((await parsed(request, FaultRequest)).faults)
        return self._faults_answer()

    async def clear_faults(self, request: web.Request) -> web.Response:
        """Set no faults."""
        del request
        self._faults.replace(())
        return self._faults_answer()

    def _faults_answer(self) -> web.Response:
        return web.json_response(
            {"faults": [each.model_dump(mode="json") for each in self._faults.view()]}
        )
