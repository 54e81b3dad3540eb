"""The handlers of the provider API: each parses, calls one use case and renders the answer."""

import re
from dataclasses import dataclass
from typing import Final, Protocol

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from certs.enrolment import decode_request_body, encode_certs_only
from certs.identity import check_request, load_certificate, thumbprint
from service_hub.domain.accept_rate import AcceptRate
from service_hub.domain.jobs import Job
from service_hub.domain.records import Provider, RegistrationKey
from service_hub.ports.channel import (
    CertificateOffice,
    EnrolmentUseCases,
    EventSource,
    ProviderTokens,
    ProviderUseCases,
)
from service_hub.ports.surroundings import NO_FAULTS, Clock, FaultPoints
from service_hub.provider_api.bodies import answer, parse
from service_hub.provider_api.callers import (
    Caller,
    Callers,
    Credential,
    ProviderCaller,
    RegistrationCaller,
)
from service_hub.provider_api.event_pull import pull, read_query
from service_hub.provider_api.messages import (
    HostCertificateRequests,
    HostCertificates,
    TokenAnswer,
)
from service_hub.provider_api.pressure import Arrivals, Pressure
from service_hub.provider_api.problems import ProblemError, invalid
from wire_contract.reports import (
    Heartbeat,
    HostCertificate,
    Registration,
    ReportBatch,
    SessionRequest,
    UnregistrationAnswer,
)
from wire_contract.vmm_interface import InventoryView

REQUESTS_PARALLEL_MAX: Final = 8
POLLS_PARALLEL_MAX: Final = 2

_CERTS_ONLY: Final = "application/pkcs7-mime; smime-type=certs-only"
_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True)
class Call:
    """One request whose caller is known and whose body has been read."""

    request: web.Request
    caller: Caller
    body: bytes

    @property
    def provider(self) -> Provider:
        """The provider that calls; the route has asked for its certificate."""
        return self.provider_caller.provider

    @property
    def provider_caller(self) -> ProviderCaller:
        """The provider and its certificate."""
        assert isinstance(self.caller, ProviderCaller), "the route asks for no provider"
        return self.caller

    @property
    def address(self) -> str:
        """Where the connection comes from; forwarded headers are never read."""
        return self.request.remote or ""

    @property
    def key(self) -> RegistrationKey:
        """The registration key that calls; the route has asked for it."""
        assert isinstance(self.caller, RegistrationCaller), "the route asks for no key"
        return self.caller.key


class MqttDoor(Protocol):
    """Serves MQTT over a WebSocket that came in on the provider port."""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Serve it until it ends; HTTPBadRequest when it is none."""
        ...


class Leaving(Protocol):
    """Takes a server out of its vault because its own provider asks for that."""

    async def leave(self, provider: Provider) -> Job:
        """Begin the job; ConflictError names what is still protected, mapped or paired."""
        ...


class ProviderApi:
    """Everything that providers may ask of the hub over HTTPS; paths are in `routes`."""

    def __init__(
        self,
        *,
        enrolment: EnrolmentUseCases,
        providers: ProviderUseCases,
        office: CertificateOffice,
        tokens: ProviderTokens,
        events: EventSource,
        clock: Clock,
        mqtt: MqttDoor | None = None,
        leaving: Leaving | None = None,
        arrivals: AcceptRate | None = None,
        faults: FaultPoints = NO_FAULTS,
    ) -> None:
        self.faults = faults
        self._leaving = leaving
        self._arrivals = Arrivals(arrivals)
        self._mqtt = mqtt
        self._enrolment = enrolment
        self._providers = providers
        self._office = office
        self._events = events
        self._clock = clock
        self.callers = Callers(enrolment, tokens, clock)
        self.pressure = Pressure(REQUESTS_PARALLEL_MAX)
        self._polls = Pressure(POLLS_PARALLEL_MAX)

    async def health(self, call: Call) -> web.Response:
        """Say that the hub answers."""
        del call  # whoever asks gets the same answer
        return web.json_response({"state": "serving", "time": self._clock.now().isoformat()})

    async def cacerts(self, call: Call) -> web.Response:
        """Give the trust chain (RFC 7030, 4.1)."""
        del call
        return _certs_only(self._office.cacerts())

    async def simpleenroll(self, call: Call) -> web.Response:
        """Give a new server its management certificate (RFC 7030, 4.2)."""
        request = check_request(decode_request_body(call.body))
        if not _GUID.fullmatch(_common_name(request)):
            raise invalid(
                "The common name of the certificate request is no GUID.",
                "Ask for a certificate with the VMM server's id as common name.",
            )
        der = request.public_bytes(serialization.Encoding.DER)
        issued = await self._enrolment.enrol(call.key, der, call.address)
        return _certs_only(encode_certs_only([issued.chain_pem]))

    async def simplereenroll(self, call: Call) -> web.Response:
        """Give a server its next management certificate (RFC 7030, 4.2.2)."""
        request = check_request(decode_request_body(call.body))
        caller = call.provider_caller
        present = thumbprint(load_certificate(caller.certificate_pem.encode()))
        der = request.public_bytes(serialization.Encoding.DER)
        issued = await self._enrolment.renew(caller.provider, present, der)
        return _certs_only(encode_certs_only([issued.chain_pem]))

    async def token(self, call: Call) -> web.Response:
        """Give an access token that only the caller's key can open."""
        caller = call.provider_caller
        token, seconds = await self._enrolment.token(
            caller.provider, caller.certificate_pem, call.address
        )
        return answer(TokenAnswer(token=token, expires_in=seconds))

    async def registration(self, call: Call) -> web.Response:
        """Take a server into its vault."""
        registration = parse(Registration, call.body)
        return answer(await self._enrolment.register(call.provider, registration))

    async def session(self, call: Call) -> web.Response:
        """Begin a session."""
        self._arrivals.take_in()
        return answer(
            await self._providers.session(call.provider, parse(SessionRequest, call.body))
        )

    async def unregistration(self, call: Call) -> web.Response:
        """Begin to take the caller out of its vault."""
        if self._leaving is None:
            raise ProblemError(
                501,
                "UnregistrationNotOffered",
                "This hub lets no server leave by itself.",
                "Delete the server from its vault.",
            )
        job = await self._leaving.leave(call.provider)
        return answer(UnregistrationAnswer(job_id=job.id))

    async def heartbeat(self, call: Call) -> web.Response:
        """Renew the lease."""
        return answer(await self._providers.heartbeat(call.provider, parse(Heartbeat, call.body)))

    async def echo(self, call: Call) -> web.Response:
        """Send the caller an event without effect."""
        return answer(await self._providers.echo(call.provider))

    async def events(self, call: Call) -> web.Response:
        """Give the events after a cursor, waiting for them if asked to."""
        query = read_query(call.request.query)
        with self._polls.counted(call.provider.id):
            page = await pull(self._events, call.provider.id, query)
        # A long poll may have waited past the revocation of its own certificate.
        await self.callers.identify(call.request, Credential.REGISTERED_TOKEN)
        return answer(page)

    async def mqtt(self, call: Call) -> web.StreamResponse:
        """Let MQTT in over WebSocket."""
        if self._mqtt is None:
            raise ProblemError(
                404,
                "WebSocketNotOffered",
                "This hub delivers events through a broker of its own.",
                "Use the broker's address, or pull the events.",
            )
        return await self._mqtt.serve(call.request)

    async def reports(self, call: Call) -> web.Response:
        """Take reports in."""
        return answer(await self._providers.reports(call.provider, parse(ReportBatch, call.body)))

    async def inventory(self, call: Call) -> web.Response:
        """Take in what a VMM server manages."""
        await self._providers.inventory(call.provider, parse(InventoryView, call.body))
        return web.Response(status=204)

    async def host_certificates(self, call: Call) -> web.Response:
        """Issue certificates for Hyper-V hosts of the caller's fabric."""
        wanted = parse(HostCertificateRequests, call.body).requests
        for each in wanted:
            check_request(each.csr_pem.encode())
        certificates = []
        for each in wanted:
            issued = await self._enrolment.issue_host(
                call.provider, each.host, each.csr_pem.encode()
            )
            certificates.append(
                HostCertificate(
                    host=each.host, chain_pem=issued.chain_pem, root_pem=self._office.root_pem
                )
            )
        return answer(HostCertificates(certificates=tuple(certificates)))


def _certs_only(body: bytes) -> web.Response:
    headers = {"Content-Type": _CERTS_ONLY, "Content-Transfer-Encoding": "base64"}
    return web.Response(body=body, headers=headers)


def _common_name(request: x509.CertificateSigningRequest) -> str:
    try:
        names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError as error:
        raise invalid("The subject of the certificate request is damaged.") from error
    return str(names[0].value) if len(names) == 1 else ""
