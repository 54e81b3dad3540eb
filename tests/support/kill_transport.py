"""Function calls in place of sockets, for programs that run in one process and may be cut off.

The bytes are those of the network: requests and answers pass through the real models, routes and
problem bodies. Who has been cut off neither asks nor answers any more.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web

from provider_agent.fabric.driver import FabricUnreachableError
from provider_agent.fabric.simulated_vmm import SimulatedVmm, _refusal
from provider_agent.hub_https import HubRefusedError, HubRequest, HubUnreachableError
from provider_agent.intake import EventIntake, Intake
from provider_agent.session import Session
from service_hub.channel.delivery import Publication
from service_hub.channel.wakeups import Wakeups
from service_hub.domain.records import Provider
from service_hub.provider_api.api import ProviderApi
from service_hub.provider_api.callers import Caller, Credential, ProviderCaller
from service_hub.provider_api.routes import provider_routes
from tests.support.played_loop import OWNER, touch
from vmm_simulator.commands import ConnectionVanishesError
from vmm_simulator.problems import RefusedError
from vmm_simulator.site import Site
from wire_contract import paths
from wire_contract.reports import HostCertificateRequest
from wire_contract.vmm_interface import VerbRequest
from wire_contract.vocabulary import Verb

RECONNECT_SECONDS = 0.001


def owned_by(name: str) -> Context:
    """Return the context of steps that belong to a program."""
    context = copy_context()
    context.run(OWNER.set, name)
    return context


ResultT = TypeVar("ResultT")


class Life:
    """One life of a program: what it does is owned by it and ends with it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ended = asyncio.get_running_loop().create_future()
        self.is_cut = False
        self._calls: set[asyncio.Task[Any]] = set()

    def cut(self) -> None:
        """Let nothing come in or out any more; may be called from any thread."""
        self.is_cut = True
        self.ended.get_loop().call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
        for call in self._calls:
            call.cancel()

    async def serve(self, call: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Do what somebody else asks of this life; ConnectionError when it ends meanwhile."""
        if self.is_cut:
            call.close()
            raise ConnectionError("nobody is there")
        touch(self.name)
        task = asyncio.get_running_loop().create_task(call, context=owned_by(self.name))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        await asyncio.wait({task, self.ended}, return_when=asyncio.FIRST_COMPLETED)
        if self.is_cut or task.cancelled():
            raise ConnectionError("the connection broke")
        return task.result()

    async def close(self) -> None:
        """Return when nothing that was asked of this life goes on any more."""
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    async def hang(self) -> None:
        """Wait as somebody who is no more; only a cancellation ends it."""
        await asyncio.get_running_loop().create_future()


@dataclass
class CarriedRequest:
    """What a route reads of a request."""

    body: bytes
    query: Mapping[str, str]
    provider: Provider
    headers: Mapping[str, str] = field(default_factory=dict)
    remote: str = "127.0.0.1"
    transport: None = None

    @property
    def content_length(self) -> int:
        """The body's length."""
        return len(self.body)

    @property
    def content(self) -> "CarriedRequest":
        """The body's stream."""
        return self

    async def iter_any(self) -> AsyncIterator[bytes]:
        """Yield the body."""
        yield self.body


class KnownCallers:
    """Knows the caller by the line it calls on: certificates and tokens have tests of their own."""

    async def identify(self, request: Any, credential: Credential) -> Caller:
        """Return the provider at the other end."""
        del credential
        return ProviderCaller(request.provider, "")


class HubDoor:
    """The provider API of one life of a hub, as its agents reach it."""

    def __init__(self, life: Life, api: ProviderApi, wakeups: Wakeups) -> None:
        api.callers = KnownCallers()  # type: ignore[assignment]
        self.life = life
        self.wakeups = wakeups
        self.delivery = MailDelivery(life)
        self._handlers = {(each.method, each.path): each.handler for each in provider_routes(api)}

    async def ask(self, provider: Provider, request: HubRequest) -> web.Response:
        """Have a request handled."""
        carried: Any = CarriedRequest(request.body or b"", request.query or {}, provider)
        handler: Any = self._handlers[request.method, request.path]
        answer = await self.life.serve(handler(carried))
        assert isinstance(answer, web.Response)
        return answer


class HubLines:
    """An agent's HubHttps; whatever life of the hub is there now answers."""

    def __init__(self, life: Life, provider: Provider, door: Callable[[], HubDoor | None]) -> None:
        self._life = life
        self._provider = provider
        self._door = door

    async def send(self, request: HubRequest, token: str = "") -> bytes:
        """Return the answer's body; see HubHttps."""
        del token
        if self._life.is_cut:
            await self._life.hang()
        door = self._door()
        if door is None:
            raise HubUnreachableError("the hub is not there")
        try:
            async with asyncio.timeout(request.seconds):
                answer = await door.ask(self._provider, request)
        except (ConnectionError, TimeoutError) as error:
            raise HubUnreachableError(str(error) or "no answer in time") from error
        if self._life.is_cut:
            await self._life.hang()
        body = answer.body
        assert isinstance(body, bytes | None)
        if answer.status >= 500:
            raise HubUnreachableError(f"{answer.status}: {body!r}")
        if answer.status >= 300:
            raise HubRefusedError(answer.status, str(body))
        return body or b""


class FixedToken:
    """An AccessToken without cryptography."""

    async def current(self) -> str:
        """Return the token."""
        return "token"

    async def replace(self, refused: str) -> str:
        """Return it again."""
        return refused


class MailDelivery:
    """The Delivery of one life of a hub: puts events into the mailboxes of connected agents."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._boxes: dict[str, tuple[int, asyncio.Queue[bytes | None]]] = {}
        self._numbers = itertools.count(1)

    def connect(self, provider_id: str) -> asyncio.Queue[bytes | None]:
        """Return the mailbox of a new connection; None in it is a hint."""
        touch(self._life.name)
        box: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._boxes[provider_id] = (next(self._numbers), box)
        return box

    def leave(self, provider_id: str, box: asyncio.Queue[bytes | None]) -> None:
        """End a connection."""
        touch(self._life.name)
        if provider_id in self._boxes and self._boxes[provider_id][1] is box:
            del self._boxes[provider_id]

    def connections(self) -> Mapping[str, int]:
        """Return who is connected."""
        return {each: number for each, (number, _) in self._boxes.items()}

    def connected(self, provider_id: str) -> int | None:
        """Return the number of a provider's connection."""
        found = self._boxes.get(provider_id)
        return None if found is None else found[0]

    def publish(self, provider_id: str, payload: bytes) -> Publication:
        """Send one signed event."""
        return self._put(provider_id, payload)

    def hint(self, provider_id: str) -> bool:
        """Tell the provider to pull."""
        return self._put(provider_id, None) is Publication.SENT

    def kick(self, provider_id: str) -> None:
        """End a provider's connection."""
        touch(provider_id)
        self._boxes.pop(provider_id, None)

    def _put(self, provider_id: str, payload: bytes | None) -> Publication:
        if self._life.is_cut or provider_id not in self._boxes:
            return Publication.ABSENT
        touch(provider_id)
        self._boxes[provider_id][1].put_nowait(payload)
        return Publication.SENT


class MailSubscriber:
    """An agent's Subscriber over mailboxes; `connected` while the hub's life lasts."""

    def __init__(
        self,
        provider_id: str,
        intake: EventIntake,
        session: Session,
        door: Callable[[], HubDoor | None],
    ) -> None:
        self._provider_id = provider_id
        self._intake = intake
        self._session = session
        self._door = door
        self.connected = asyncio.Event()

    async def run(self) -> None:
        """Connect for ever; a loss asks for a new session, since events may have been missed."""
        while True:
            await self._session.connected.wait()
            door = self._door()
            if door is not None and not door.life.is_cut:
                box = door.delivery.connect(self._provider_id)
                try:
                    await self._listen(door, box)
                finally:
                    door.delivery.leave(self._provider_id, box)
                    self.connected.clear()
                    self._session.events_due.set()
                self._session.renew()
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen(self, door: HubDoor, box: asyncio.Queue[bytes | None]) -> None:
        self.connected.set()
        self._session.events_due.set()
        door.wakeups.wake([self._provider_id])
        loop = asyncio.get_running_loop()
        while not door.life.is_cut:
            next_one = loop.create_task(box.get())
            try:
                await asyncio.wait({next_one, door.life.ended}, return_when=asyncio.FIRST_COMPLETED)
                if not next_one.done():
                    return
                payload = next_one.result()
            finally:
                next_one.cancel()
            if payload is None:
                self._session.events_due.set()
                continue
            match await self._intake.receive_message(payload):
                case Intake.GAP:
                    self._session.events_due.set()
                case Intake.OTHER_STREAM:
                    self._session.renew()


class FabricLines(SimulatedVmm):
    """The driver of an agent whose VMM server is a call away."""

    def __init__(self, life: Life, site: Site) -> None:
        self._life = life
        self._site = site

    async def request(
        self,
        method: str,
        path: str,
        seconds_max: float,
        *,
        body: bytes | None = None,
        query: dict[str, str] | None = None,
    ) -> bytes:
        """Return the body of a successful answer; see SimulatedVmm."""
        if self._life.is_cut:
            await self._life.hang()
        site = f"site of {self._life.name}"
        touch(site)
        if (method, path) == ("PUT", paths.VMM_HUB_CONTACT):
            call = self._hear()
        else:
            call = self._answer(method, path.split("/")[3:], body, query or {})
        try:
            async with asyncio.timeout(seconds_max):
                answer = await asyncio.get_running_loop().create_task(call, context=owned_by(site))
        except RefusedError as refusal:
            problem = refusal.problem().model_dump_json().encode()
            raise _refusal(refusal.status, problem) from refusal
        except ConnectionVanishesError as error:
            raise FabricUnreachableError("the connection broke") from error
        except TimeoutError as error:
            raise FabricUnreachableError("no answer in time") from error
        if self._life.is_cut:
            await self._life.hang()
        return answer

    async def _hear(self) -> bytes:
        self._site.service.check_running()
        self._site.fencing.hub_heard()
        return b"{}"

    async def _answer(
        self, method: str, parts: list[str], body: bytes | None, query: Mapping[str, str]
    ) -> bytes:
        site = self._site
        site.service.check_running()
        match method, parts:
            case "POST", [_, target, verb]:
                order = VerbRequest.model_validate_json(body or b"")
                answer = await site.commands.run(Verb(verb), target, order)
                return answer.model_dump_json().encode()
            case "GET", ["inventory"]:
                return site.lookout.inventory().model_dump_json().encode()
            case "GET", ["fabric"]:
                return site.lookout.fabric().model_dump_json().encode()
            case "GET", ["machines", machine_id]:
                view = await site.lookout.machine(machine_id, query.get("nonce"))
                return view.model_dump_json().encode()
            case "GET", ["clouds", cloud_id]:
                return site.lookout.cloud(cloud_id).model_dump_json().encode()
            case "GET", ["clouds", cloud_id, "host-certificate-requests"]:
                return self._host_requests(cloud_id)
        raise AssertionError(f"nobody answers {method} {parts}")

    def _host_requests(self, cloud_id: str) -> bytes:
        fabric = self._site.fabric
        groups = fabric.store.cloud(cloud_id).host_groups
        rows = [
            HostCertificateRequest(
                host=host.fqdn, csr_pem=fabric.hosts[host.fqdn].credentials.request()
            ).model_dump_json()
            for host in fabric.store.hosts.values()
            if host.host_group in groups
        ]
        return f'{{"requests": [{", ".join(rows)}]}}'.encode()


assert paths.VMM_INVENTORY.split("/")[3:] == ["inventory"], "what FabricLines cuts off is shorter"
