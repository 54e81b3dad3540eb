"""The provider API of the hub, as methods (paths: wire_contract.paths).

Every request carries the client certificate and the access token that is bound to it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

from pydantic import BaseModel, Field, ValidationError

from certs.identity import PrivateKey
from certs.tokens import TokenRefusedError, unwrap_token
from provider_agent.hub_https import (
    HubAnswerError,
    HubHttps,
    HubRefusedError,
    HubRequest,
)
from wire_contract import paths
from wire_contract.events import EventPage
from wire_contract.model import WireModel
from wire_contract.reports import (
    EchoAnswer,
    Heartbeat,
    HeartbeatAnswer,
    HostCertificate,
    HostCertificateRequest,
    Registration,
    RegistrationAnswer,
    ReportAnswer,
    ReportBatch,
    SessionAnswer,
    SessionRequest,
    UnregistrationAnswer,
)
from wire_contract.vmm_interface import InventoryView

EVENT_PAGE_BYTES_MAX: Final = 64 * 1024 * 1024
HOST_CERTIFICATES_BYTES_MAX: Final = 16 * 1024 * 1024
POLL_MARGIN_SECONDS: Final = 20.0
"""How much longer than the asked-for wait a long poll may take."""

TOKEN_LIFETIME_USED: Final = 2 / 3
"""A token is renewed when this part of its life is over."""

_UNAUTHORIZED: Final = 401

ModelT = TypeVar("ModelT", bound=BaseModel)


class _TokenAnswer(WireModel):
    token: str = Field(max_length=65_536)
    expires_in: int = Field(gt=0, le=604_800)


class _HostCertificateRequests(WireModel):
    requests: tuple[HostCertificateRequest, ...]


class _HostCertificates(WireModel):
    certificates: tuple[HostCertificate, ...]


class AccessToken:
    """The access token: only the holder of the private key can open it; renewed in time."""

    def __init__(self, https: HubHttps, key: PrivateKey, now: Callable[[], datetime]) -> None:
        self._https = https
        self._key = key
        self._now = now
        self._lock = asyncio.Lock()
        self._token: str | None = None
        self._renew_at: datetime | None = None

    async def current(self) -> str:
        """Return a token that is valid for a while yet."""
        async with self._lock:
            if self._token is None or self._renew_at is None or self._now() >= self._renew_at:
                return await self._fetch()
            return self._token

    async def replace(self, refused: str) -> str:
        """Return another token than the one that the hub has just refused."""
        async with self._lock:
            if self._token is not None and self._token != refused:
                return self._token
            return await self._fetch()

    async def _fetch(self) -> str:
        asked_at = self._now()
        answer = _parse(
            _TokenAnswer, await self._https.send(HubRequest("POST", paths.TOKEN)), paths.TOKEN
        )
        try:
            self._token = unwrap_token(answer.token, self._key)
        except TokenRefusedError as error:
            raise HubAnswerError(
                f"the access token cannot be opened with this server's key: {error}"
            ) from error
        self._renew_at = asked_at + timedelta(seconds=answer.expires_in * TOKEN_LIFETIME_USED)
        return self._token


class HubLine:
    """One certificate's way to the hub: its connections and its token, which change together."""

    def __init__(self, https: HubHttps, token: AccessToken) -> None:
        self.https = https
        self.token = token
        self._open_count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Count a request: the line is not idle while it is open."""
        self._open_count += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._open_count -= 1
            if self._open_count == 0:
                self._idle.set()

    async def until_idle(self) -> None:
        """Return when no request is open."""
        await self._idle.wait()


class HubClient:
    """What the provider says to the hub; every method raises HubError when it fails."""

    def __init__(self, https: HubHttps, token: AccessToken) -> None:
        self._line = HubLine(https, token)

    def change(self, https: HubHttps, token: AccessToken) -> HubLine:
        """Use another certificate and its token from the next request on; return the former line.

        What is open on the former line goes on: both certificates are valid in the overlap.
        """
        former, self._line = self._line, HubLine(https, token)
        return former

    async def access_token(self) -> str:
        """Return the token that is also the password of the MQTT connection."""
        return await self._line.token.current()

    async def replace_token(self, refused: str) -> None:
        """Fetch another token than the refused one."""
        await self._line.token.replace(refused)

    async def reenrol(self, body: bytes) -> bytes:
        """Ask for the next certificate (RFC 7030, 4.2.2); the present one is the credential."""
        request = HubRequest(
            "POST", paths.EST_SIMPLEREENROLL, body, content_type="application/pkcs10"
        )
        with self._line.used():
            return await self._line.https.send(request)

    async def register(self, registration: Registration) -> RegistrationAnswer:
        """Introduce this VMM server, once."""
        return await self._post(paths.REGISTRATION, registration, RegistrationAnswer)

    async def unregister(self) -> UnregistrationAnswer:
        """Ask to be taken out of the vault; HubRefusedError names what is still in use."""
        answer = await self._send(HubRequest("POST", paths.UNREGISTRATION, body=b"{}"))
        return _parse(UnregistrationAnswer, answer, paths.UNREGISTRATION)

    async def session(self, request: SessionRequest) -> SessionAnswer:
        """Begin a session: the stream to follow, and which copies may run."""
        return await self._post(paths.SESSION, request, SessionAnswer)

    async def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatAnswer:
        """Renew the lease."""
        return await self._post(paths.HEARTBEAT, heartbeat, HeartbeatAnswer)

    async def echo(self) -> EchoAnswer:
        """Have the hub send an event without effect; it follows `after` in the stream."""
        answer = await self._send(HubRequest("POST", paths.ECHO))
        return _parse(EchoAnswer, answer, paths.ECHO)

    async def report(self, batch: ReportBatch) -> ReportAnswer:
        """Deliver reports; repeated ones change nothing."""
        return await self._post(paths.REPORTS, batch, ReportAnswer)

    async def inventory(self, view: InventoryView) -> None:
        """Deliver all that the fabric manages."""
        await self._send(
            HubRequest("POST", paths.INVENTORY, body=view.model_dump_json().encode(), seconds=60)
        )

    async def events(self, stream: str, after: int, wait_seconds: int) -> EventPage:
        """Return the events after a number, waiting for the first where there is none yet."""
        answer = await self._send(
            HubRequest(
                "GET",
                paths.EVENTS,
                query={"stream": stream, "after": str(after), "wait": str(wait_seconds)},
                seconds=wait_seconds + POLL_MARGIN_SECONDS,
                answer_bytes_max=EVENT_PAGE_BYTES_MAX,
            )
        )
        return _parse(EventPage, answer, paths.EVENTS)

    async def host_certificates(
        self, requests: Sequence[HostCertificateRequest]
    ) -> tuple[HostCertificate, ...]:
        """Have the hub issue certificates for Hyper-V hosts."""
        body = _HostCertificateRequests(requests=tuple(requests)).model_dump_json().encode()
        answer = await self._send(
            HubRequest(
                "POST",
                paths.HOST_CERTIFICATES,
                body=body,
                answer_bytes_max=HOST_CERTIFICATES_BYTES_MAX,
            )
        )
        return _parse(_HostCertificates, answer, paths.HOST_CERTIFICATES).certificates

    async def _post(self, path: str, body: BaseModel, answer: type[ModelT]) -> ModelT:
        request = HubRequest("POST", path, body=body.model_dump_json().encode())
        return _parse(answer, await self._send(request), path)

    async def _send(self, request: HubRequest) -> bytes:
        line = self._line
        with line.used():
            token = await line.token.current()
            try:
                return await line.https.send(request, token)
            except HubRefusedError as error:
                if error.status != _UNAUTHORIZED:
                    raise
            # The hub's signing key may have changed, or its clock is ahead: once more, with a new
            # token.
            return await line.https.send(request, await line.token.replace(token))


def _parse(model: type[ModelT], answer: bytes, path: str) -> ModelT:
    try:
        return model.model_validate_json(answer)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the answer"
        raise HubAnswerError(f"{path}: {where}: {first['msg']}") from error
