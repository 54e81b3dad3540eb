"""The console of the simulated VMM: routes of the management port that change the estate.

Bodies are closed and bounded (`estate_requests`); every change is a job of VMM's history, and is
refused while the VMM service is stopped, as the console would be. A host restarts all the same.
"""

import json
import re
from collections.abc import Iterable
from typing import Any, Final, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from vmm_simulator import seed
from vmm_simulator.config import (
    FQDN_PATTERN,
    IDENTITY_PATTERN,
    CloudSettings,
    HostSettings,
    NicSettings,
)
from vmm_simulator.estate_control import EstateControl
from vmm_simulator.estate_requests import (
    PART_FORMS,
    AddressWish,
    Broker,
    DiskChange,
    FreeBytes,
    MachineState,
    Migration,
    NewMachine,
    RecoveryPoints,
)
from vmm_simulator.https import Handler, parsed, rendered
from vmm_simulator.lookout import Lookout
from vmm_simulator.problems import bad_arguments, unknown
from vmm_simulator.service import VmmService
from vmm_simulator.vmm import estate_edits, machine_edits
from vmm_simulator.vmm.inventory import Edit, Inventory

PATH_TEXT_MAX: Final = 260
_IDENTITY: Final = re.compile(IDENTITY_PATTERN)
_FQDN: Final = re.compile(FQDN_PATTERN)
_MACHINE: Final = "/machines/{machine_id}"

ModelT = TypeVar("ModelT", bound=BaseModel)


class EstateInterface:
    """Handlers: parse, call, answer with the machine or the fabric as it is afterwards."""

    def __init__(self, control: EstateControl, lookout: Lookout, service: VmmService) -> None:
        self._control = control
        self._lookout = lookout
        self._service = service

    def routes(self) -> Iterable[web.RouteDef]:
        """Return everything that changes the estate."""
        rows: tuple[tuple[str, str, Handler], ...] = (
            ("PUT", "/hosts/{fqdn}", self.put_host),
            ("DELETE", "/hosts/{fqdn}", self.remove_host),
            ("PUT", "/clouds/{cloud_id}", self.put_cloud),
            ("DELETE", "/clouds/{cloud_id}", self.remove_cloud),
            ("PUT", "/clusters/{name}/broker", self.make_broker),
            ("DELETE", "/clusters/{name}/broker", self.remove_broker),
            ("PUT", "/stores/{store_id}/free-bytes", self.set_free_bytes),
            ("PUT", "/ip-pools/{pool_id}/grants/{nic_id}", self.grant_address),
            ("DELETE", "/ip-pools/{pool_id}/grants/{nic_id}", self.release_address),
            ("PUT", _MACHINE, self.create_machine),
            ("DELETE", _MACHINE, self.remove_machine),
            ("PUT", f"{_MACHINE}/state", self.set_state),
            ("PUT", f"{_MACHINE}/recovery-points", self.set_recovery_points),
            ("POST", f"{_MACHINE}/protection", self.ask_for_protection),
            ("PUT", f"{_MACHINE}/as-replica", self.take_as_replica),
            ("DELETE", f"{_MACHINE}/as-replica", self.take_as_replica),
            ("DELETE", f"{_MACHINE}/protection", self.ask_for_end_of_protection),
            ("PUT", f"{_MACHINE}/disks/{{disk_id}}", self.put_disk),
            ("PUT", f"{_MACHINE}/nics/{{nic_id}}", self.put_nic),
            ("DELETE", f"{_MACHINE}/nics/{{nic_id}}", self.remove_nic),
            ("POST", f"{_MACHINE}/migration", self.migrate),
            ("PUT", "/{kind}/{key}", self.put_part),
            ("DELETE", "/{kind}/{key}", self.remove_part),
        )
        yield web.get("/fabric", self.fabric)
        yield web.get("/jobs", self.jobs)
        yield web.post("/hosts/{fqdn}/restart", self.restart_host)
        for method, path, handler in rows:
            yield web.route(method, path, self._while_running(handler))

    def _while_running(self, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            self._service.check_running()
            return await handler(request)

        return guarded

    async def fabric(self, request: web.Request) -> web.Response:
        """The whole object model."""
        del request
        return self._answer()

    async def jobs(self, request: web.Request) -> web.Response:
        """VMM's job history."""
        del request
        return rendered(await self._lookout.jobs())

    async def put_part(self, request: web.Request) -> web.Response:
        """Add or replace a part of the fabric: a network, a pool, a store and so on."""
        kind, key = request.match_info["kind"], _text(request, "key")
        form = PART_FORMS.get(kind)
        if form is None:
            raise unknown("kind of object", kind)
        record = form.record(await _named(request, form.model, **{form.key: key}))

        def put(inventory: Inventory) -> Edit:
            return estate_edits.put_part(inventory, kind, record)

        noun = estate_edits.PARTS[kind].noun
        await self._control.edit(f"Add or change {noun}", key, put)
        return self._answer()

    async def remove_part(self, request: web.Request) -> web.Response:
        """Take a part of the fabric away."""
        kind, key = request.match_info["kind"], _text(request, "key")
        if kind not in PART_FORMS:
            raise unknown("kind of object", kind)

        def remove(inventory: Inventory) -> Edit:
            return estate_edits.remove_part(inventory, kind, key)

        await self._control.edit(f"Remove {estate_edits.PARTS[kind].noun}", key, remove)
        return self._answer()

    async def put_host(self, request: web.Request) -> web.Response:
        """Add a host, or change it."""
        wanted = await _named(request, HostSettings, fqdn=_fqdn(request, "fqdn"))
        if not wanted.disks_directory.is_absolute():
            raise bad_arguments("disks_directory: give an absolute folder")
        await self._control.put_host(seed.host(wanted))
        return self._answer()

    async def remove_host(self, request: web.Request) -> web.Response:
        """Take a host away."""
        await self._control.remove_host(_fqdn(request, "fqdn"))
        return self._answer()

    async def restart_host(self, request: web.Request) -> web.Response:
        """Have a host go down and come up again."""
        await self._control.restart_host(_fqdn(request, "fqdn"))
        return self._answer()

    async def put_cloud(self, request: web.Request) -> web.Response:
        """Add a cloud, or change it."""
        cloud = seed.cloud(await _named(request, CloudSettings, id=_id(request, "cloud_id")))
        await self._control.edit(
            "Add or change cloud",
            cloud.cloud_id,
            lambda inventory: estate_edits.put_cloud(inventory, cloud),
        )
        return self._answer()

    async def remove_cloud(self, request: web.Request) -> web.Response:
        """Take a cloud away."""
        cloud_id = _id(request, "cloud_id")
        await self._control.edit(
            "Remove cloud", cloud_id, lambda each: estate_edits.remove_cloud(each, cloud_id)
        )
        return self._answer()

    async def make_broker(self, request: web.Request) -> web.Response:
        """Make the replica broker of a cluster by hand."""
        cluster, wanted = _fqdn(request, "name"), await parsed(request, Broker)
        await self._control.edit(
            "Create Hyper-V Replica Broker",
            cluster,
            lambda each: estate_edits.make_broker(each, cluster, wanted.name),
        )
        return self._answer()

    async def remove_broker(self, request: web.Request) -> web.Response:
        """Take the replica broker of a cluster away."""
        cluster = _fqdn(request, "name")
        await self._control.edit(
            "Remove Hyper-V Replica Broker",
            cluster,
            lambda each: estate_edits.remove_broker(each, cluster),
        )
        return self._answer()

    async def set_free_bytes(self, request: web.Request) -> web.Response:
        """Have others take, or give back, room in a store."""
        store_id, wanted = _id(request, "store_id"), await parsed(request, FreeBytes)
        await self._control.edit(
            "Change what is free in store",
            store_id,
            lambda each: estate_edits.set_free_bytes(each, store_id, wanted.free_bytes),
        )
        return self._answer()

    async def grant_address(self, request: web.Request) -> web.Response:
        """Reserve an address of a pool for an adapter."""
        pool_id, nic_id = _id(request, "pool_id"), _id(request, "nic_id")
        wanted = await parsed(request, AddressWish)

        def reserve(inventory: Inventory) -> Edit:
            edit, _ = machine_edits.reserve_address(inventory, pool_id, nic_id, wanted.address)
            return edit

        await self._control.edit("Reserve IP address", nic_id, reserve)
        return self._answer()

    async def release_address(self, request: web.Request) -> web.Response:
        """Release an adapter's address of a pool."""
        pool_id, nic_id = _id(request, "pool_id"), _id(request, "nic_id")
        await self._control.edit(
            "Release IP address",
            nic_id,
            lambda each: machine_edits.release_address(each, pool_id, nic_id),
        )
        return self._answer()

    async def create_machine(self, request: web.Request) -> web.Response:
        """Create a machine."""
        machine_id = _id(request, "machine_id")
        await self._control.create(await _named(request, NewMachine, id=machine_id))
        return await self._machine_answer(machine_id)

    async def remove_machine(self, request: web.Request) -> web.Response:
        """Take a machine away; the files of its disks stay."""
        await self._control.remove(_id(request, "machine_id"))
        return self._answer()

    async def set_state(self, request: web.Request) -> web.Response:
        """Start, shut down or save a machine."""
        machine_id, wanted = _id(request, "machine_id"), await parsed(request, MachineState)
        await self._control.set_state(machine_id, wanted.state)
        return await self._machine_answer(machine_id)

    async def ask_for_protection(self, request: web.Request) -> web.Response:
        """Ask for protection in the machine's "Datacenter Recovery" property."""
        machine_id = _id(request, "machine_id")
        await self._control.ask_for_protection(machine_id)
        return await self._machine_answer(machine_id)

    async def take_as_replica(self, request: web.Request) -> web.Response:
        """Have an existing machine wait for its primary as a replica, or no longer."""
        machine_id = _id(request, "machine_id")
        await self._control.take_as_replica(machine_id, wanted=request.method == "PUT")
        return await self._machine_answer(machine_id)

    async def ask_for_end_of_protection(self, request: web.Request) -> web.Response:
        """Ask for the end of protection in the same property."""
        machine_id = _id(request, "machine_id")
        await self._control.ask_for_end_of_protection(machine_id)
        return await self._machine_answer(machine_id)

    async def set_recovery_points(self, request: web.Request) -> web.Response:
        """Set how many additional recovery points the replica of a machine keeps."""
        machine_id = _id(request, "machine_id")
        wanted = (await parsed(request, RecoveryPoints)).recovery_points
        await self._control.edit_machine(
            "Change properties of virtual machine",
            machine_id,
            lambda each: machine_edits.set_recovery_points(each, machine_id, wanted),
        )
        return await self._machine_answer(machine_id)

    async def put_disk(self, request: web.Request) -> web.Response:
        """Add a disk, or make one larger."""
        machine_id, disk_id = _id(request, "machine_id"), _id(request, "disk_id")
        await self._control.put_disk(machine_id, disk_id, await parsed(request, DiskChange))
        return await self._machine_answer(machine_id)

    async def put_nic(self, request: web.Request) -> web.Response:
        """Add or change an adapter."""
        machine_id = _id(request, "machine_id")
        nic = seed.nic(await _named(request, NicSettings, id=_id(request, "nic_id")))
        await self._control.edit_machine(
            "Change network adapter",
            machine_id,
            lambda each: machine_edits.put_nic(each, machine_id, nic),
        )
        return await self._machine_answer(machine_id)

    async def remove_nic(self, request: web.Request) -> web.Response:
        """Take an adapter away."""
        machine_id, nic_id = _id(request, "machine_id"), _id(request, "nic_id")
        await self._control.edit_machine(
            "Remove network adapter",
            machine_id,
            lambda each: machine_edits.remove_nic(each, machine_id, nic_id),
        )
        return await self._machine_answer(machine_id)

    async def migrate(self, request: web.Request) -> web.Response:
        """Move a machine to another node of its cluster while it runs."""
        machine_id = _id(request, "machine_id")
        await self._control.migrate(machine_id, (await parsed(request, Migration)).host)
        return await self._machine_answer(machine_id)

    def _answer(self) -> web.Response:
        return rendered(self._lookout.fabric())

    async def _machine_answer(self, machine_id: str) -> web.Response:
        return rendered(await self._lookout.machine(machine_id, None))


async def _named(request: web.Request, model: type[ModelT], **named: str) -> ModelT:
    """Return the body as a model with the id that the path names; another one is refused."""
    try:
        body: Any = json.loads(await request.read())
    except (ValueError, RecursionError) as error:
        raise bad_arguments("the body is no JSON document") from error
    if not isinstance(body, dict) or {**named, **body} != {**body, **named}:
        raise bad_arguments(f"the body is an object; {', '.join(named)} is what the path says")
    try:
        # Through JSON text: what came as JSON is read by JSON's rules (tuples are arrays).
        return model.model_validate_json(json.dumps({**body, **named}))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        key = ".".join(str(step) for step in first["loc"]) or "the body"
        raise bad_arguments(f"{key}: {first['msg']}") from error


def _id(request: web.Request, name: str) -> str:
    value = request.match_info[name]
    if _IDENTITY.fullmatch(value) is None:
        raise bad_arguments(f"{name} is no id (letters, digits, `.`, `_`, `-`)")
    return value


def _fqdn(request: web.Request, name: str) -> str:
    value = request.match_info[name]
    if len(value) > PATH_TEXT_MAX or _FQDN.fullmatch(value) is None:
        raise bad_arguments(f"{name} is no name of a host")
    return value


def _text(request: web.Request, name: str) -> str:
    value = request.match_info[name]
    if len(value) > PATH_TEXT_MAX:
        raise bad_arguments(f"{name} has more than {PATH_TEXT_MAX} characters")
    return value
