"""Who may open an MQTT session: certificate, client id and token must name the same provider."""

import asyncio
from dataclasses import dataclass

import mqtt5
from mqtt5 import ConnAckReasonCode as Reason

from certs.peers import PeerCertificate
from service_hub.channel.session import read_presence
from service_hub.domain.accept_rate import AcceptRate
from service_hub.domain.errors import UnauthenticatedError
from service_hub.ports.channel import EnrolmentUseCases, ProviderTokens
from service_hub.ports.surroundings import Clock
from wire_contract.topics import presence_topic


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a connection is not admitted, for CONNACK and for the log.

    `retry_after`: nothing is wrong, and in so many seconds there will be room.
    """

    reason: Reason
    words: str
    retry_after: int | None = None


class Admission:
    """Checks a CONNECT against the certificate of its connection and against the database.

    Without `rate` everybody is checked at once.
    """

    def __init__(
        self,
        enrolment: EnrolmentUseCases,
        tokens: ProviderTokens,
        clock: Clock,
        rate: AcceptRate | None = None,
    ) -> None:
        self._enrolment = enrolment
        self._tokens = tokens
        self._clock = clock
        self._rate = rate

    def seconds_left(self, peer: PeerCertificate) -> float:
        """Return how long the certificate still holds; not above 0 when it has ended."""
        return (peer.not_valid_after - self._clock.now()).total_seconds()

    async def check(self, peer: PeerCertificate, connect: mqtt5.ConnectPacket) -> Refusal | None:
        """Return why the peer is not admitted, None when it is; the CN is the provider's id."""
        refusal = check_connect(peer.common_name, connect)
        if refusal is not None:
            return refusal
        if self._rate is not None:
            seconds = self._rate.ask(asyncio.get_running_loop().time())
            if seconds is not None:
                words = f"too many connect at this moment; come again in {seconds} s"
                return Refusal(Reason.SERVER_BUSY, words, retry_after=seconds)
        refusal = await self._check_credentials(peer, connect)
        if refusal is not None and self._rate is not None:
            self._rate.give_back()
        return refusal

    async def _check_credentials(
        self, peer: PeerCertificate, connect: mqtt5.ConnectPacket
    ) -> Refusal | None:
        try:
            bearer = self._tokens.verify(_text(connect.password), peer.pem, self._clock.now())
        except UnauthenticatedError as error:
            return Refusal(Reason.BAD_USER_NAME_OR_PASSWORD, str(error))
        if bearer != peer.common_name:
            return Refusal(Reason.BAD_USER_NAME_OR_PASSWORD, "the token is another provider's")
        # Asked last, so that nothing is awaited between this answer and the admission.
        provider = await self._enrolment.provider_of(peer.thumbprint)
        if provider is None or provider.id != peer.common_name:
            return Refusal(
                Reason.NOT_AUTHORIZED,
                "this certificate is not, or no longer, a provider's; register the server again",
            )
        if provider.registered_at is None:
            return Refusal(Reason.NOT_AUTHORIZED, "the server is enrolled but not yet registered")
        return None


def check_connect(identity: str, connect: mqtt5.ConnectPacket) -> Refusal | None:
    """Return what is wrong with the CONNECT of the peer with this common name; pure."""
    if not identity or connect.client_id != identity:
        return Refusal(
            Reason.CLIENT_ID_NOT_VALID, "the client id must be the certificate's common name"
        )
    if connect.authentication_method is not None:
        return Refusal(Reason.BAD_AUTHENTICATION_METHOD, "no extended authentication is offered")
    if not connect.password:
        return Refusal(Reason.BAD_USER_NAME_OR_PASSWORD, "the password must be the access token")
    return None if connect.will is None else _check_will(identity, connect.will)


def _check_will(identity: str, will: mqtt5.Will) -> Refusal | None:
    if will.topic != presence_topic(identity):
        return Refusal(Reason.NOT_AUTHORIZED, "the will's topic is not the provider's presence")
    if will.qos == mqtt5.QoS.EXACTLY_ONCE:
        return Refusal(Reason.QUALITY_NOT_SUPPORTED, "the will asks for QoS 2")
    if read_presence(will.payload) is None:
        return Refusal(Reason.PAYLOAD_FORMAT_INVALID, "the will is no presence")
    return None


def _text(password: bytes | None) -> str:
    # A token is ASCII: what is not cannot verify, and the verifier says so.
    return (password or b"").decode("ascii", errors="replace")
