"""A VMM server in memory: the interface over HTTPS, a ledger of effects, and faults on demand."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from cryptography import x509
from pydantic import JsonValue

from certs.identity import certificate_request, new_private_key, thumbprint
from tests.unit.agent.agent_views import HOST, guest, inventory, machine
from wire_contract import paths
from wire_contract.vmm_fabric import FabricView
from wire_contract.vmm_interface import (
    Command,
    InventoryView,
    MachineView,
    Problem,
    VerbAnswer,
    VerbRequest,
)
from wire_contract.vocabulary import CLOUD_VERBS, FABRIC_VERBS, SERVER_VERBS, RunState, Verb

TOKEN = "vmm-token"  # noqa: S105 -- of a server that lives for one test

Effect = Callable[["FakeVmm", str, Command, dict[str, Any]], dict[str, JsonValue]]


@dataclass
class Fault:
    """What goes wrong with a verb the next `times`: refuse, busy, vanish_before/_after, lie."""

    kind: str
    times: int = 1


def empty_fabric() -> FabricView:
    """Return an object model with nothing in it."""
    lists = {name: () for name in FabricView.model_fields if name != "change_number"}
    return FabricView.model_validate({"change_number": 0, **lists})


@dataclass
class FakeVmm:
    """Machines, what was done to them and how often each verb was called."""

    machines: dict[str, MachineView] = field(default_factory=dict)
    view: InventoryView = field(default_factory=inventory)
    ledger: dict[str, dict[str, JsonValue]] = field(default_factory=dict)
    effects: list[tuple[str, str]] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    faults: dict[str, Fault] = field(default_factory=dict)
    holds: dict[str, asyncio.Event] = field(default_factory=dict)
    running: dict[str, int] = field(default_factory=dict)
    running_max: int = 0
    fabric: FabricView = field(default_factory=empty_fabric)
    url: str = ""
    port: int = 0
    host_key: Any = field(default_factory=new_private_key)
    runner: web.AppRunner | None = None
    change_number: int = 0
    announced: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def announce(self) -> None:
        """Tell who waits that something has changed."""
        async with self.announced:
            self.change_number += 1
            self.announced.notify_all()

    def add(self, machine_id: str, **changes: Any) -> None:
        """Put a machine on the fabric."""
        values = {"machine_id": machine_id, "protected_item": f"item-{machine_id}", **changes}
        self.machines[machine_id] = machine(**values)

    def change(self, machine_id: str, **changes: Any) -> None:
        """Change a machine behind everybody's back."""
        self.machines[machine_id] = self.machines[machine_id].model_copy(update=changes)

    def effect_count(self, verb: Verb, target: str) -> int:
        """How often a verb had its effect."""
        return self.effects.count((verb.value, target))

    def call_count(self, verb: Verb, target: str) -> int:
        """How often a verb was called."""
        return self.calls.count((verb.value, target))

    def inventory(self) -> InventoryView:
        """What the server shows."""
        return self.view.model_copy(update={"machines": tuple(self.machines.values())})

    @contextlib.asynccontextmanager
    async def serve(self, tls: ssl.SSLContext) -> AsyncIterator["FakeVmm"]:
        """Listen on loopback; a second call, on the same port, is a restarted server."""
        application = web.Application(middlewares=[self._authorise])
        application.router.add_get(paths.VMM_INVENTORY, self._get_inventory)
        application.router.add_get(paths.VMM_CHANGES, self._get_changes)
        application.router.add_get(paths.VMM_FABRIC, self._get_fabric)
        application.router.add_get(paths.VMM_MACHINE, self._get_machine)
        application.router.add_get(paths.VMM_CLOUD, self._get_cloud)
        application.router.add_get(paths.VMM_HOST_REQUESTS, self._get_requests)
        application.router.add_post(paths.VMM_MACHINE_VERB, self._post_verb)
        application.router.add_post(paths.VMM_CLOUD_VERB, self._post_verb)
        application.router.add_post(paths.VMM_SERVER_VERB, self._post_verb)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        self.runner = runner
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=tls)
            await site.start()
            self.port = int(runner.addresses[0][1])
            self.url = f"https://127.0.0.1:{self.port}"
            yield self
        finally:
            await runner.cleanup()

    async def stop(self) -> None:
        """End the listener, as a server that is killed does; `serve` begins anew."""
        assert self.runner is not None
        await self.runner.cleanup()

    @web.middleware
    async def _authorise(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _problem(401, 401, "no token")
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _get_inventory(self, _: web.Request) -> web.Response:
        return _json(self.inventory().model_dump_json())

    async def _get_fabric(self, _: web.Request) -> web.Response:
        return _json(self.fabric.model_dump_json())

    async def _get_machine(self, request: web.Request) -> web.Response:
        found = self.machines.get(request.match_info["machine_id"])
        if found is None:
            return _problem(404, 32779, "no such machine")
        nonce = request.query.get("nonce")
        if nonce and found.run_state is RunState.RUNNING:
            found = found.model_copy(update={"guest": guest(nonce=nonce, epoch=found.epoch)})
        return _json(found.model_dump_json())

    async def _get_changes(self, request: web.Request) -> web.Response:
        if "after" in request.query:
            after = int(request.query["after"])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(float(request.query["seconds"])), self.announced:
                    await self.announced.wait_for(lambda: self.change_number != after)
        return web.json_response({"change_number": self.change_number})

    async def _get_cloud(self, request: web.Request) -> web.Response:
        for cloud in self.view.clouds:
            if cloud.cloud_id == request.match_info["cloud_id"]:
                return _json(cloud.model_dump_json())
        return _problem(404, 32779, "no such cloud")

    async def _get_requests(self, request: web.Request) -> web.Response:
        known = {cloud.cloud_id for cloud in self.view.clouds}
        if request.match_info["cloud_id"] not in known:
            return _problem(404, 32779, "no such cloud")
        csr = certificate_request(self.host_key, HOST, (HOST,)).decode()
        return web.json_response({"requests": [{"host": HOST, "csr_pem": csr}]})

    async def _post_verb(self, request: web.Request) -> web.StreamResponse:
        names = ("machine_id", "cloud_id", "vmm_id")
        target = next(request.match_info[each] for each in names if each in request.match_info)
        verb = request.match_info["verb"]
        self.calls.append((verb, target))
        asked = VerbRequest.model_validate_json(await request.read())
        self.running[target] = self.running.get(target, 0) + 1
        self.running_max = max(self.running_max, *self.running.values())
        try:
            if verb in self.holds:
                await self.holds[verb].wait()
            return await self._perform(request, verb, target, asked)
        finally:
            self.running[target] -= 1

    async def _perform(  # noqa: PLR0911 -- one return per way in which it ends
        self, request: web.Request, verb: str, target: str, asked: VerbRequest
    ) -> web.StreamResponse:
        fault = self._fault(verb)
        if fault == "refuse":
            return _problem(409, 32775, "the simulated fabric refuses")
        if fault == "busy":
            return _problem(503, 32777, "not now")
        if fault == "vanish_before":
            return _vanish(request)
        kind = {**dict.fromkeys(CLOUD_VERBS, "cloud_id"), **dict.fromkeys(SERVER_VERBS, "vmm_id")}
        if verb not in FABRIC_VERBS or kind.get(Verb(verb), "machine_id") not in request.match_info:
            return _problem(404, 32779, "unknown verb")
        command = asked.command
        if command.id in self.ledger:
            answer = VerbAnswer(result=self.ledger[command.id], repeated=True)
        elif fault == "lie":
            answer = VerbAnswer(result={})
        else:
            refusal = self._refusal(verb, target, command)
            if refusal is not None:
                return refusal
            result = EFFECTS[Verb(verb)](self, target, command, dict(asked.arguments))
            self.ledger[command.id] = result
            self.effects.append((verb, target))
            answer = VerbAnswer(result=result)
        if fault == "vanish_after":
            return _vanish(request)
        return _json(answer.model_dump_json())

    def _fault(self, verb: str) -> str:
        fault = self.faults.get(verb)
        if fault is None or fault.times == 0:
            return ""
        fault.times -= 1
        return fault.kind

    def _refusal(self, verb: str, target: str, command: Command) -> web.Response | None:
        if command.deadline <= datetime.now(UTC):
            return _problem(409, 90003, "the deadline has passed")
        if verb in CLOUD_VERBS:
            known = any(cloud.cloud_id == target for cloud in self.view.clouds)
            return None if known else _problem(404, 32779, "no such cloud")
        if verb in SERVER_VERBS:
            known = target == self.view.vmm.vmm_id
            return None if known else _problem(404, 32779, "no such server")
        found = self.machines.get(target)
        if found is None:
            return _problem(404, 32779, "no such machine") if verb != "place_replica" else None
        if 0 < command.epoch < found.epoch:
            return _problem(409, 90001, "lower epoch")
        if command.epoch > found.epoch:
            self.change(target, epoch=command.epoch)
        return None


def _json(text: str) -> web.Response:
    return web.Response(text=text, content_type="application/json")


def _problem(status: int, code: int, message: str) -> web.Response:
    body = Problem(code=code, message=message).model_dump_json()
    return web.Response(status=status, text=body, content_type="application/json")


def _vanish(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response(status=500)


def _start(vmm: FakeVmm, target: str, _: Command, __: dict[str, Any]) -> dict[str, JsonValue]:
    vmm.change(target, run_state=RunState.RUNNING)
    return {}


def _shut_down(vmm: FakeVmm, target: str, _: Command, __: dict[str, Any]) -> dict[str, JsonValue]:
    vmm.change(target, run_state=RunState.OFF)
    return {}


def _confirm(
    vmm: FakeVmm, target: str, _: Command, arguments: dict[str, Any]
) -> dict[str, JsonValue]:
    if arguments["authoritative"]:
        vmm.change(target, epoch_confirmed=True)
    else:
        vmm.change(target, run_state=RunState.OFF, fenced=True)
    return {}


def _protect(
    vmm: FakeVmm, target: str, _: Command, arguments: dict[str, Any]
) -> dict[str, JsonValue]:
    vmm.change(target, protected_item=arguments["item"])
    return {}


def _remove(vmm: FakeVmm, target: str, _: Command, __: dict[str, Any]) -> dict[str, JsonValue]:
    del vmm.machines[target]
    return {}


def _place(
    vmm: FakeVmm, target: str, command: Command, arguments: dict[str, Any]
) -> dict[str, JsonValue]:
    vmm.add(
        target,
        protected_item=None,
        hyperv_id=arguments["hyperv_id"],
        cloud_id=arguments["cloud_id"],
        epoch=command.epoch,
    )
    return {"replica_host": HOST, "replica_port": 8084}


def _configure(
    vmm: FakeVmm, _: str, __: Command, arguments: dict[str, Any]
) -> dict[str, JsonValue]:
    issued = {each["host"]: each["chain_pem"] for each in arguments["certificates"]}
    hosts = tuple(
        host.model_copy(
            update={
                "certificate_thumbprint": thumbprint(
                    x509.load_pem_x509_certificates(issued[host.fqdn].encode())[0]
                )
            }
        )
        for host in vmm.view.hosts
    )
    vmm.view = vmm.view.model_copy(update={"hosts": hosts})
    return {}


def _pair(vmm: FakeVmm, target: str, _: Command, arguments: dict[str, Any]) -> dict[str, JsonValue]:
    clouds = tuple(
        cloud.model_copy(
            update={
                "paired_role": arguments["role"],
                "partner_cloud_id": arguments["partner_cloud_id"],
            }
        )
        if cloud.cloud_id == target
        else cloud
        for cloud in vmm.view.clouds
    )
    vmm.view = vmm.view.model_copy(update={"clouds": clouds})
    return {}


def _clean_up(vmm: FakeVmm, _: str, __: Command, ___: dict[str, Any]) -> dict[str, JsonValue]:
    bare_cloud = {"paired_role": "", "partner_cloud_id": None}
    bare_host: dict[str, Any] = {"replica_enabled": False, "certificate_thumbprint": None}
    vmm.view = vmm.view.model_copy(
        update={
            "clouds": tuple(each.model_copy(update=bare_cloud) for each in vmm.view.clouds),
            "hosts": tuple(each.model_copy(update=bare_host) for each in vmm.view.hosts),
        }
    )
    return {}


EFFECTS: dict[Verb, Effect] = {
    Verb.CLEAN_UP: _clean_up,
    Verb.START: _start,
    Verb.SHUT_DOWN: _shut_down,
    Verb.CONFIRM_EPOCH: _confirm,
    Verb.UPDATE_PROTECTION: _protect,
    Verb.REMOVE_TEST_MACHINE: _remove,
    Verb.PLACE_REPLICA: _place,
    Verb.CONFIGURE_HOSTS: _configure,
    Verb.PAIR_CLOUD: _pair,
}
