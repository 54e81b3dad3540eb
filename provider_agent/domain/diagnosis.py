"""What is wrong on the way to the hub, and what to do: decided on facts (design: channel)."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from provider_agent.domain.proxies import ConnectAnswer, Proxy

CLOCK_SECONDS_MAX: Final = 300.0
"""Beyond this difference deadlines lose their meaning (design: channel, deadlines)."""

OPENSSL_NOT_YET_VALID: Final = 9
OPENSSL_EXPIRED: Final = 10
OPENSSL_NAME_MISMATCH: Final = frozenset({62, 64})
"""X509_V_ERR_… of openssl/x509_vfy.h: host name and IP address."""

MQTT_CLIENT_ID_REFUSED: Final = 0x85
MQTT_TOKEN_REFUSED: Final = 0x86
MQTT_NOT_AUTHORIZED: Final = 0x87
"""Reason codes of CONNACK (MQTT 5, 3.2.2.2)."""

UNAUTHENTICATED: Final = 401
FORBIDDEN: Final = 403


class Hop(StrEnum):
    """The steps of the walk, in its order."""

    DNS = "DNS"
    TCP = "TCP"
    PROXY_CONNECT = "proxy CONNECT"
    PROXY_CREDENTIALS = "proxy credentials"
    TLS = "TLS"
    CLIENT_CERTIFICATE = "client certificate"
    TOKEN = "token"  # noqa: S105 -- the name of a step
    CLOCK = "clock"
    MQTT = "MQTT"
    EVENT = "event round trip"


class Fault(StrEnum):
    """What may be wrong; CAUSES has the words of each."""

    NAME_UNKNOWN = "name_unknown"
    PORT_CLOSED = "port_closed"
    NO_ANSWER = "no_answer"
    NOT_A_PROXY = "not_a_proxy"
    PROXY_DENIES = "proxy_denies"
    PROXY_WANTS_CREDENTIALS = "proxy_wants_credentials"
    PROXY_REFUSES_CREDENTIALS = "proxy_refuses_credentials"
    INTERCEPTED = "intercepted"
    FOREIGN_SERVER = "foreign_server"
    WRONG_NAME = "wrong_name"
    SERVER_CERTIFICATE_DATES = "server_certificate_dates"
    NOT_TLS = "not_tls"
    CERTIFICATE_NOT_SEEN = "certificate_not_seen"
    CERTIFICATE_REFUSED = "certificate_refused"
    CERTIFICATE_CLOSED = "certificate_closed"
    HUB_FAILS = "hub_fails"
    TOKEN_SEALED = "token_sealed"  # noqa: S105 -- the name of a fault
    TOKEN_REFUSED = "token_refused"  # noqa: S105 -- the name of a fault
    NOT_REGISTERED = "not_registered"
    CLOCK_DIFFERS = "clock_differs"
    MQTT_UNREACHABLE = "mqtt_unreachable"
    MQTT_TOKEN = "mqtt_token"  # noqa: S105 -- the name of a fault
    MQTT_REFUSED = "mqtt_refused"
    EVENT_NOT_TAKEN = "event_not_taken"
    EVENT_LOST = "event_lost"
    EVENT_FOREIGN = "event_foreign"


@dataclass(frozen=True, slots=True)
class Way:
    """Where the walk goes: the hub's address, and the proxy and its user where there is one."""

    hub: str
    next_hop: str
    proxy: Proxy | None

    @property
    def username(self) -> str:
        """The user that the proxy is told."""
        credentials = self.proxy.credentials if self.proxy is not None else None
        return credentials.username if credentials is not None else "nobody"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """For an operator: why, and what to do about it."""

    fault: Fault
    cause: str
    remedy: str


_WORDS: Final[dict[Fault, tuple[str, str]]] = {
    Fault.NAME_UNKNOWN: (
        "the name of {next_hop} is not known here ({detail})",
        "correct the name, or have this server's DNS resolve it",
    ),
    Fault.PORT_CLOSED: (
        "nothing listens at {next_hop} ({detail})",
        "start what should listen there, or correct address and port",
    ),
    Fault.NO_ANSWER: (
        "{next_hop} does not answer ({detail})",
        "open the way to it in the firewalls between; see which addresses setup lists",
    ),
    Fault.NOT_A_PROXY: (
        "{proxy} does not speak as an HTTP proxy ({detail})",
        "correct the proxy's address and port",
    ),
    Fault.PROXY_DENIES: (
        "the proxy {proxy} does not connect to {hub} ({detail})",
        "have the proxy allow CONNECT to {hub}",
    ),
    Fault.PROXY_WANTS_CREDENTIALS: (
        "the proxy {proxy} wants a user and a password ({detail})",
        "give the proxy's username and password_file",
    ),
    Fault.PROXY_REFUSES_CREDENTIALS: (
        "the proxy {proxy} refused your credentials as {username} ({detail})",
        (
            "correct the password: in VMM's RunAs account DRAProxyAccount, then restart the VMM"
            " service; without that account in the password file"
        ),
    ),
    Fault.INTERCEPTED: (
        (
            "TLS is intercepted on the way through the proxy {proxy}: the certificate comes from"
            " '{detail}', not from the hub's root"
        ),
        "have the proxy pass {hub} without TLS inspection; the pinned root is never replaced",
    ),
    Fault.FOREIGN_SERVER: (
        (
            "the certificate of {hub} comes from '{detail}', not from the hub's root: a load"
            " balancer or firewall ends TLS before the hub, or this is another server"
        ),
        "pass TLS through to the hub unopened (a TCP balancer), or correct the hub's address",
    ),
    Fault.WRONG_NAME: (
        "the hub's certificate is not for this address ({detail})",
        "start the hub with this address in provider.public_url, or use the one it has",
    ),
    Fault.SERVER_CERTIFICATE_DATES: (
        "the hub's certificate is not valid at this server's time ({detail})",
        (
            "synchronise both clocks (NTP): to one that is behind, a new certificate is not yet"
            " valid; where the clocks agree, restart the hub, which makes a new certificate"
        ),
    ),
    Fault.NOT_TLS: (
        "what answers at {hub} does not speak TLS as the hub does ({detail})",
        "correct address and port; look for something that cuts connections between",
    ),
    Fault.CERTIFICATE_NOT_SEEN: (
        (
            "TLS works, but the hub does not see this server's certificate: a load balancer ends"
            " TLS before the hub and makes its own connection ({detail})"
        ),
        "pass TLS through to the hub unopened (a TCP balancer)",
    ),
    Fault.CERTIFICATE_REFUSED: (
        "the hub does not accept this server's certificate ({detail})",
        "it was revoked or unregistered: have an operator look, or register again",
    ),
    Fault.CERTIFICATE_CLOSED: (
        "the connection was closed when this server showed its certificate ({detail})",
        "the certificate is of another hub, or the hub restarts: try again, then register again",
    ),
    Fault.HUB_FAILS: (
        "the hub answers, but not as it should ({detail})",
        "read the hub's log; try again when it serves",
    ),
    Fault.TOKEN_SEALED: (
        "the access token cannot be opened with this server's key ({detail})",
        "restore key.pem and certificate.pem of the identity folder together, or register again",
    ),
    Fault.TOKEN_REFUSED: (
        "the hub refuses the token that it has just given ({detail})",
        "compare the clocks of hub and provider; read the hub's log",
    ),
    Fault.NOT_REGISTERED: (
        "the hub knows the certificate, but not this server ({detail})",
        "it was unregistered: register it again",
    ),
    Fault.CLOCK_DIFFERS: (
        "the clocks of this server and the hub differ by {detail}",
        "synchronise both clocks (NTP): beyond 5 minutes, deadlines mean nothing",
    ),
    Fault.MQTT_UNREACHABLE: (
        "MQTT is not reached by any allowed transport ({detail})",
        (
            "allow its port in firewalls and proxy, or mqtt.transport auto: WebSocket on the HTTPS"
            " port; until then events come by the slower long poll"
        ),
    ),
    Fault.MQTT_TOKEN: (
        "MQTT refuses the access token ({detail})",
        "compare the clocks of hub and provider; read the hub's log",
    ),
    Fault.MQTT_REFUSED: (
        "MQTT refuses this server ({detail})",
        "have an operator look whether its certificate is revoked; check the broker's access list",
    ),
    Fault.EVENT_NOT_TAKEN: (
        "the hub does not send an event ({detail})",
        "start the provider, so that it takes what waits for it; read the hub's log",
    ),
    Fault.EVENT_LOST: (
        "the hub sent an event, but it did not come back ({detail})",
        "read the hub's log for this server; look whether the provider takes events",
    ),
    Fault.EVENT_FOREIGN: (
        "the event is not signed by this server's hub ({detail})",
        "the pinned root is of another hub, or clocks differ: compare both, or register again",
    ),
}


def diagnose(fault: Fault, detail: str, way: Way) -> Diagnosis:
    """Return cause and remedy of what was found at a step."""
    cause, remedy = _WORDS[fault]
    facts = {
        "detail": " ".join(detail.split())[:300] or "no reason given",
        "hub": way.hub,
        "next_hop": way.next_hop,
        "proxy": str(way.proxy),
        "username": way.username,
    }
    return Diagnosis(fault, cause.format_map(facts), remedy.format_map(facts))


def connect_fault(answer: ConnectAnswer) -> Fault | None:
    """Return what a proxy's answer means for the tunnel; credentials are a step of their own."""
    return None if answer.granted or answer.credentials_refused else Fault.PROXY_DENIES


def credentials_fault(answer: ConnectAnswer, proxy: Proxy) -> Fault | None:
    """Return what a proxy's answer means for who asked."""
    if not answer.credentials_refused:
        return None
    if proxy.credentials is None:
        return Fault.PROXY_WANTS_CREDENTIALS
    return Fault.PROXY_REFUSES_CREDENTIALS


def server_certificate_fault(verify_code: int, way: Way) -> Fault:
    """Return what an unverified server certificate means (X509_V_ERR_…)."""
    if verify_code in OPENSSL_NAME_MISMATCH:
        return Fault.WRONG_NAME
    if verify_code in {OPENSSL_NOT_YET_VALID, OPENSSL_EXPIRED}:
        return Fault.SERVER_CERTIFICATE_DATES
    return Fault.FOREIGN_SERVER if way.proxy is None else Fault.INTERCEPTED


def certificate_fault(status: int) -> Fault:
    """Return what the hub's refusal of a request with a certificate alone means."""
    # This server always shows one: a hub that misses it talks to somebody in between.
    return {
        UNAUTHENTICATED: Fault.CERTIFICATE_NOT_SEEN,
        FORBIDDEN: Fault.CERTIFICATE_REFUSED,
    }.get(status, Fault.HUB_FAILS)


def token_fault(status: int) -> Fault:
    """Return what the hub's refusal of a request with certificate and token means."""
    return {UNAUTHENTICATED: Fault.TOKEN_REFUSED, FORBIDDEN: Fault.NOT_REGISTERED}.get(
        status, Fault.HUB_FAILS
    )


def clock_fault(seconds_ahead: float) -> Fault | None:
    """Return whether this clock is too far from the hub's."""
    return Fault.CLOCK_DIFFERS if abs(seconds_ahead) > CLOCK_SECONDS_MAX else None


def mqtt_fault(reason_code: int | None) -> Fault:
    """Return what the end of an MQTT connect means; null: no CONNACK was ever read."""
    if reason_code is None:
        return Fault.MQTT_UNREACHABLE
    if reason_code == MQTT_TOKEN_REFUSED:
        return Fault.MQTT_TOKEN
    return Fault.MQTT_REFUSED
