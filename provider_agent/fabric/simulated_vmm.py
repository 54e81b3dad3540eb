"""The driver of the VMM simulator: its interface over HTTPS (wire_contract.vmm_interface)."""

import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Final, TypeVar
from urllib.parse import quote

import aiohttp
from pydantic import BaseModel, JsonValue, ValidationError

from provider_agent.bounded_body import BodyTooLargeError, read_bounded
from provider_agent.fabric.driver import (
    FabricAnswerError,
    FabricBusyError,
    FabricRefusedError,
    FabricUnknownTargetError,
    FabricUnreachableError,
)
from wire_contract import paths
from wire_contract.model import WireModel
from wire_contract.reports import HostCertificateRequest
from wire_contract.vmm_fabric import ChangesView, FabricView
from wire_contract.vmm_interface import (
    CloudView,
    Command,
    InventoryView,
    MachineView,
    Problem,
    VerbAnswer,
    VerbRequest,
)
from wire_contract.vocabulary import CLOUD_VERBS, SERVER_VERBS, Verb

ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
"""Some 10,000 machines; a larger inventory is refused."""

READ_SECONDS_MAX: Final = 30.0
CONNECT_SECONDS_MAX: Final = 10.0
CONNECTIONS_MAX: Final = 2048
"""A verb keeps one for as long as it takes; more than are carried out at a time, for the looks."""

_NOT_FOUND: Final = 404
_BUSY: Final = frozenset({502, 503, 504})
_SUCCESS: Final = range(200, 300)

ModelT = TypeVar("ModelT", bound=BaseModel)


class _HostRequests(WireModel):
    requests: tuple[HostCertificateRequest, ...]


class SimulatedVmm:
    """A FabricDriver; verbs are POSTed, views are read with GET, both with a bearer token."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(
        cls, url: str, tls: ssl.SSLContext, token: str
    ) -> AsyncIterator["SimulatedVmm"]:
        """Open the driver; connections are made when they are needed."""
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=CONNECTIONS_MAX),
            headers={"Authorization": f"Bearer {token}"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        async with session:
            yield cls(session, url)

    async def perform(
        self,
        verb: Verb,
        target: str,
        command: Command,
        arguments: Mapping[str, JsonValue],
        seconds_max: float,
    ) -> VerbAnswer:
        """Do the verb; see FabricDriver."""
        if verb in CLOUD_VERBS:
            path = paths.VMM_CLOUD_VERB.format(cloud_id=_safe(target), verb=verb.value)
        elif verb in SERVER_VERBS:
            path = paths.VMM_SERVER_VERB.format(vmm_id=_safe(target), verb=verb.value)
        else:
            path = paths.VMM_MACHINE_VERB.format(machine_id=_safe(target), verb=verb.value)
        body = VerbRequest(command=command, arguments=dict(arguments)).model_dump_json().encode()
        answer = await self.request("POST", path, seconds_max, body=body)
        return parse_answer(VerbAnswer, answer, path)

    async def inventory(self) -> InventoryView:
        """Return the whole inventory."""
        answer = await self.request("GET", paths.VMM_INVENTORY, READ_SECONDS_MAX)
        return parse_answer(InventoryView, answer, paths.VMM_INVENTORY)

    async def fabric(self) -> FabricView:
        """Return the whole object model: library shares, addresses and all else."""
        answer = await self.request("GET", paths.VMM_FABRIC, READ_SECONDS_MAX)
        return parse_answer(FabricView, answer, paths.VMM_FABRIC)

    async def machine(self, machine_id: str, nonce: str | None = None) -> MachineView | None:
        """Return a machine; with a nonce, its guest's answer to it is in the view."""
        path = paths.VMM_MACHINE.format(machine_id=_safe(machine_id))
        return await self._read_or_null(MachineView, path, {"nonce": nonce} if nonce else None)

    async def cloud(self, cloud_id: str) -> CloudView | None:
        """Return a cloud."""
        path = paths.VMM_CLOUD.format(cloud_id=_safe(cloud_id))
        return await self._read_or_null(CloudView, path, None)

    async def host_requests(self, cloud_id: str) -> tuple[HostCertificateRequest, ...]:
        """Return the certificate requests of the cloud's hosts."""
        path = paths.VMM_HOST_REQUESTS.format(cloud_id=_safe(cloud_id))
        answer = await self.request("GET", path, READ_SECONDS_MAX)
        return parse_answer(_HostRequests, answer, path).requests

    async def hub_heard(self) -> None:
        """Tell it that the hub has just answered."""
        await self.request("PUT", paths.VMM_HUB_CONTACT, READ_SECONDS_MAX, body=b"{}")

    async def changed(self, after: int | None, seconds: float) -> int:
        """Return the change number, once it is another than `after` or the time is over."""
        query = {} if after is None else {"after": str(after), "seconds": f"{seconds:.3f}"}
        path = paths.VMM_CHANGES
        answer = await self.request("GET", path, seconds + READ_SECONDS_MAX, query=query)
        return parse_answer(ChangesView, answer, path).change_number

    async def _read_or_null(
        self, model: type[ModelT], path: str, query: dict[str, str] | None
    ) -> ModelT | None:
        try:
            answer = await self.request("GET", path, READ_SECONDS_MAX, query=query)
        except FabricUnknownTargetError:
            return None
        return parse_answer(model, answer, path)

    async def request(
        self,
        method: str,
        path: str,
        seconds_max: float,
        *,
        body: bytes | None = None,
        query: dict[str, str] | None = None,
    ) -> bytes:
        """Return the body of a successful answer, or raise a FabricError that says why not."""
        timeout = aiohttp.ClientTimeout(total=seconds_max, sock_connect=CONNECT_SECONDS_MAX)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            async with self._session.request(
                method,
                f"{self._url}{path}",
                data=body,
                params=query,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                answer = await read_bounded(response, ANSWER_BYTES_MAX)
                status = response.status
        except BodyTooLargeError as error:
            raise FabricAnswerError(f"{path}: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise FabricUnreachableError(
                f"the VMM server at {self._url} does not answer: {_cause(error)}"
            ) from error
        if status in _SUCCESS:
            return answer
        raise _refusal(status, answer)


def _refusal(status: int, answer: bytes) -> FabricRefusedError | FabricBusyError:
    try:
        problem = Problem.model_validate_json(answer)
    except ValidationError:
        # Not one of the interface's own answers, e.g. of something in between.
        problem = Problem(code=status, message=f"the VMM server answered {status}")
    if status in _BUSY:
        return FabricBusyError(problem.message)
    if status == _NOT_FOUND:
        return FabricUnknownTargetError(problem)
    return FabricRefusedError(problem)


def parse_answer(model: type[ModelT], answer: bytes, path: str) -> ModelT:
    """Return the answer as a model; FabricAnswerError names the key that is wrong."""
    try:
        return model.model_validate_json(answer)
    except ValidationError as error:
        first = json.loads(error.json(include_url=False, include_input=False))[0]
        where = ".".join(map(str, first["loc"])) or "the answer"
        raise FabricAnswerError(f"{path}: {where}: {first['msg']}") from error


def _cause(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _safe(segment: str) -> str:
    return quote(segment, safe="")
