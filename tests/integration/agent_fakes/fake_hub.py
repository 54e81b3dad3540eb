"""The provider API of a hub in memory: mutual TLS, tokens, a stream of signed events, reports."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import uuid4

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from certs.enrolment import decode_request_body, encode_certs_only
from certs.identity import check_request, common_name, new_private_key
from certs.profiles import Profile
from certs.tls import peer_certificate
from certs.tokens import (
    TokenRefusedError,
    issue_provider_token,
    verify_provider_token,
    wrap_token,
)
from tests.integration.agent_fakes.fake_mqtt import FakeMqtt
from tests.integration.agent_fakes.trust import Trust
from wire_contract import paths
from wire_contract.events import EventPage, SignedEvent
from wire_contract.reports import (
    Authority,
    EchoAnswer,
    Heartbeat,
    HeartbeatAnswer,
    HostCertificate,
    HostCertificateRequest,
    MachineObserved,
    Receipt,
    Registration,
    RegistrationAnswer,
    Report,
    ReportAnswer,
    ReportBatch,
    SessionAnswer,
    SessionRequest,
    StreamPosition,
    TaskOutcome,
    Unverifiable,
)
from wire_contract.vmm_interface import InventoryView

ISSUER = "https://hub.example"
ReportT = TypeVar("ReportT", bound=Report)


@dataclass
class FakeHub:
    """What a provider was told and what it said; `out_of_order` answers 503 to everything."""

    trust: Trust
    provider_id: str = field(default_factory=lambda: str(uuid4()))
    stream: str = field(default_factory=lambda: str(uuid4()))
    first_seq: int = 0
    events: list[str] = field(default_factory=list)
    reports: dict[str, Report] = field(default_factory=dict)
    report_posts: int = 0
    sessions: list[SessionRequest] = field(default_factory=list)
    heartbeats: list[Heartbeat] = field(default_factory=list)
    inventories: list[InventoryView] = field(default_factory=list)
    registrations: list[Registration] = field(default_factory=list)
    pulls: list[int] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    authorities: tuple[Authority, ...] = ()
    offered_version: str | None = None
    heartbeat_seconds: int = 1
    out_of_order: bool = False
    refuse: dict[str, int] = field(default_factory=dict)
    poison: set[str] = field(default_factory=set)
    token_lifetime: timedelta = timedelta(hours=1)
    clock_ahead: timedelta = timedelta(0)
    echoes_lost: bool = False
    signing_key: ec.EllipticCurvePrivateKey = field(default_factory=new_private_key)
    certificates_issued: int = 0
    renewals: list[x509.CertificateSigningRequest] = field(default_factory=list)
    pending_enrolments: int = 0
    url: str = ""
    port: int = 0

    def __post_init__(self) -> None:
        self.signer = self.trust.event_signer()
        self.mqtt = FakeMqtt(self.provider_id, self._is_token)
        self._new_event = asyncio.Event()
        self._certificate: x509.Certificate | None = None
        self._runner: web.AppRunner | None = None

    # ------------------------------------------------------------------- what the hub is told to do

    def send(self, kind: str, body: dict[str, Any], **changes: Any) -> int:
        """Sign the next event of the stream, store it, deliver it over MQTT; its number."""
        seq = self.first_seq + len(self.events) + 1
        now = datetime.now(UTC)
        payload = {
            "id": str(uuid4()),
            "vault": "vault-1",
            "aud": self.provider_id,
            "stream": self.stream,
            "seq": seq,
            "issued_at": now.isoformat(),
            "expires_at": (now + timedelta(minutes=5)).isoformat(),
            "type": kind,
            "body": body,
            **changes,
        }
        self.add(self.signer.sign(payload))
        return seq

    def add(self, jws: str, *, delivered: bool = True) -> None:
        """Store an event as it is."""
        self.events.append(jws)
        self._new_event.set()
        if delivered:
            self.mqtt.deliver(jws.encode())

    def assign(self, verb: str, target: str, job: str, **changes: Any) -> str:
        """Order a task; returns its command id."""
        envelope = changes.pop("envelope", {})
        deadline = datetime.now(UTC) + timedelta(minutes=5)
        body = {
            "job": job,
            "task": "Task.Primary",
            "attempt": 1,
            "fence": 1,
            "item": f"item-{target}",
            "target": target,
            "epoch": 2,
            "verb": verb,
            "arguments": {},
            "deadline": deadline.isoformat(),
            **changes,
        }
        self.send("assignment", body, **envelope)
        return f"{body['job']}/{body['task']}/{body['attempt']}"

    def open_stream(self) -> None:
        """Begin a new stream, as after a restore of the hub's database."""
        self.stream, self.first_seq, self.events = str(uuid4()), 0, []

    # --------------------------------------------------------------------- what the provider said

    def told(self, kind: type[ReportT]) -> list[ReportT]:
        """The reports of one kind, in order of arrival."""
        return [report for report in self.reports.values() if isinstance(report, kind)]

    def receipt(self, seq: int) -> Receipt | None:
        """The receipt of an event."""
        return next((each for each in self.told(Receipt) if each.seq == seq), None)

    def outcome(self, job: str) -> TaskOutcome | None:
        """The outcome of a job's only task."""
        return next((each for each in self.told(TaskOutcome) if each.job == job), None)

    def observed(self, machine_id: str) -> list[MachineObserved]:
        """What was observed of a machine."""
        return [m for m in self.told(MachineObserved) if m.machine.machine_id == machine_id]

    def unverifiable(self) -> list[Unverifiable]:
        """What could not be verified."""
        return self.told(Unverifiable)

    # ------------------------------------------------------------------------------------- serving

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator["FakeHub"]:
        """Listen on loopback; a second call, on the same ports, is a restarted hub."""
        application = web.Application(middlewares=[self._gate], client_max_size=2**24)
        application.router.add_post(paths.EST_SIMPLEENROLL, self._enrol)
        application.router.add_post(paths.EST_SIMPLEREENROLL, self._reenrol)
        application.router.add_post(paths.TOKEN, self._give_token)
        application.router.add_post(paths.REGISTRATION, self._register)
        application.router.add_post(paths.UNREGISTRATION, self._unregister)
        application.router.add_post(paths.SESSION, self._begin_session)
        application.router.add_post(paths.HEARTBEAT, self._beat)
        application.router.add_get(paths.EVENTS, self._give_events)
        application.router.add_post(paths.REPORTS, self._take_reports)
        application.router.add_post(paths.INVENTORY, self._take_inventory)
        application.router.add_post(paths.HOST_CERTIFICATES, self._issue)
        application.router.add_get(paths.PROVIDER_HEALTH, self._tell_time)
        application.router.add_post(paths.ECHO, self._echo)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        self._runner = runner
        try:
            tls = self.trust.provider_listener()
            await web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=tls).start()
            self.port = int(runner.addresses[0][1])
            self.url = f"https://127.0.0.1:{self.port}"
            async with self.mqtt.serve(self.trust.mqtt_listener()):
                yield self
        finally:
            self._new_event.set()
            await runner.cleanup()

    async def _unregister(self, _: web.Request) -> web.Response:
        """Have the server clean up, as the hub's job does."""
        self.assign("clean_up", self.registrations[-1].vmm_id, "leaving", epoch=0)
        return web.json_response({"job_id": "leaving"})

    async def stop(self) -> None:
        """End the listeners, as a hub that is killed does; `serve` begins anew."""
        assert self._runner is not None
        self._new_event.set()
        await self._runner.cleanup()
        self.mqtt.stop()

    @web.middleware
    async def _gate(  # noqa: PLR0911 -- a ladder of refusals, read from above
        self, request: web.Request, handler: Any
    ) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        if request.path == paths.PROVIDER_HEALTH and not self.out_of_order:
            return await self._tell_time(request)
        if self.out_of_order:
            return web.json_response({"message": "not now"}, status=503)
        if request.path in self.refuse:
            return web.json_response({"message": "no"}, status=self.refuse[request.path])
        certificate = peer_certificate(request.transport)
        if certificate is None:
            return web.json_response({"message": "a certificate is needed"}, status=401)
        enrolling = request.path == paths.EST_SIMPLEENROLL
        if not enrolling and common_name(certificate) != self.provider_id:
            return web.json_response({"message": "not a provider's certificate"}, status=403)
        self._certificate = certificate
        if not enrolling and request.path not in {paths.TOKEN, paths.EST_SIMPLEREENROLL}:
            token = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if not self._is_token(token):
                return web.json_response({"message": "the token is refused"}, status=401)
        answer: web.StreamResponse = await handler(request)
        return answer

    def _is_token(self, token: str) -> bool:
        assert self._certificate is not None
        try:
            claims = verify_provider_token(
                token,
                [self.signing_key.public_key()],
                issuer=ISSUER,
                certificate=self._certificate,
                now=datetime.now(UTC),
            )
        except TokenRefusedError:
            return False
        return claims.provider_id == self.provider_id

    async def _enrol(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/pkcs10"
        if self.pending_enrolments > 0:
            self.pending_enrolments -= 1
            problem = {"message": "waits for an operator: site-recovery server approve 7"}
            return web.json_response(problem, status=202, headers={"Retry-After": "1"})
        wanted = check_request(decode_request_body(await request.read()))
        key = wanted.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        issued = self.trust.issue_for(Profile.PROVIDER_MANAGEMENT, key, self.provider_id)
        body = encode_certs_only([issued.chain_pem])
        return web.Response(body=body, content_type="application/pkcs7-mime")

    async def _reenrol(self, request: web.Request) -> web.Response:
        wanted = check_request(decode_request_body(await request.read()))
        names = wanted.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        assert [each.value for each in names] == [self.provider_id]
        assert self._certificate is not None
        assert wanted.public_key() != self._certificate.public_key()
        self.renewals.append(wanted)
        return await self._enrol(request)

    async def _give_token(self, _: web.Request) -> web.Response:
        assert self._certificate is not None
        token = issue_provider_token(
            self.signing_key,
            issuer=ISSUER,
            provider_id=self.provider_id,
            vault_id="vault-1",
            certificate=self._certificate,
            now=datetime.now(UTC),
            lifetime=self.token_lifetime,
        )
        seconds = int(self.token_lifetime.total_seconds())
        wrapped = wrap_token(token, self._certificate)
        return web.json_response({"token": wrapped, "expires_in": seconds})

    async def _register(self, request: web.Request) -> web.Response:
        self.registrations.append(Registration.model_validate_json(await request.read()))
        answer = RegistrationAnswer(
            provider_id=self.provider_id,
            vault_id="vault-1",
            vault_name="Contoso vault",
            mqtt_host="127.0.0.1",
            mqtt_port=self.mqtt.port,
            heartbeat_seconds=self.heartbeat_seconds,
        )
        return _json(answer.model_dump_json())

    async def _begin_session(self, request: web.Request) -> web.Response:
        self.sessions.append(SessionRequest.model_validate_json(await request.read()))
        answer = SessionAnswer(
            position=StreamPosition(stream=self.stream, seq=self.first_seq),
            heartbeat_seconds=self.heartbeat_seconds,
            authorities=self.authorities,
            offered_version=self.offered_version,
        )
        return _json(answer.model_dump_json())

    async def _beat(self, request: web.Request) -> web.Response:
        self.heartbeats.append(Heartbeat.model_validate_json(await request.read()))
        answer = HeartbeatAnswer(
            highest=StreamPosition(stream=self.stream, seq=self.first_seq + len(self.events)),
            server_time=datetime.now(UTC),
        )
        return _json(answer.model_dump_json())

    async def _give_events(self, request: web.Request) -> web.Response:
        after = int(request.query["after"])
        self.pulls.append(after)
        highest = self.first_seq + len(self.events)
        if highest <= after and int(request.query["wait"]) > 0:
            self._new_event.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(int(request.query["wait"])):
                    await self._new_event.wait()
        events = tuple(
            SignedEvent(stream=self.stream, seq=self.first_seq + index + 1, jws=jws)
            for index, jws in enumerate(self.events)
            if self.first_seq + index + 1 > after
        )
        highest = self.first_seq + len(self.events)
        page = EventPage(stream=self.stream, highest_seq=highest, events=events)
        return _json(page.model_dump_json())

    async def _take_reports(self, request: web.Request) -> web.Response:
        batch = ReportBatch.model_validate_json(await request.read())
        self.report_posts += 1
        if any(report.kind in self.poison for report in batch.reports):
            return web.json_response({"message": "this report cannot be meant"}, status=400)
        for report in batch.reports:
            self.reports.setdefault(report.report_id, report)
        accepted = tuple(report.report_id for report in batch.reports)
        return _json(ReportAnswer(accepted=accepted, acknowledged=None).model_dump_json())

    async def _take_inventory(self, request: web.Request) -> web.Response:
        self.inventories.append(InventoryView.model_validate_json(await request.read()))
        return web.Response(status=204)

    async def _tell_time(self, _: web.Request) -> web.Response:
        now = datetime.now(UTC) + self.clock_ahead
        return web.json_response({"state": "serving", "time": now.isoformat()})

    async def _echo(self, _: web.Request) -> web.Response:
        after = StreamPosition(stream=self.stream, seq=self.first_seq + len(self.events))
        event_id = str(uuid4())
        if not self.echoes_lost:
            self.send("refresh", {}, id=event_id)
        return _json(EchoAnswer(event_id=event_id, after=after).model_dump_json())

    async def _issue(self, request: web.Request) -> web.Response:
        issued = []
        for each in (await request.json())["requests"]:
            wanted = HostCertificateRequest.model_validate(each)
            key = check_request(wanted.csr_pem.encode()).public_key()
            assert isinstance(key, ec.EllipticCurvePublicKey)
            self.certificates_issued += 1
            certificate = HostCertificate(
                host=wanted.host,
                chain_pem=self.trust.issue_for(Profile.HYPERV_HOST, key, wanted.host).chain_pem,
                root_pem=self.trust.chain.root_pem,
            )
            issued.append(certificate.model_dump())
        return web.json_response({"certificates": issued})


def _json(text: str) -> web.Response:
    return web.Response(text=text, content_type="application/json")
