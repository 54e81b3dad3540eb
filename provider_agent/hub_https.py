"""One HTTPS connection pool to the hub, and what its failures mean."""

import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from provider_agent.bounded_body import BodyTooLargeError, read_bounded
from provider_agent.domain.proxies import DIRECT, Proxy, ProxyChoice, refusal_words
from provider_agent.domain.retries import seconds_asked

CONNECT_SECONDS_MAX: Final = 15.0
REQUEST_SECONDS_MAX: Final = 30.0
ANSWER_BYTES_MAX: Final = 1024 * 1024
DETAIL_CHARACTERS_MAX: Final = 300
CONNECTIONS_MAX: Final = 8
HTTPS_PORT: Final = 443

OPENSSL_DATE_ERRORS: Final = frozenset({9, 10})
"""X509_V_ERR_CERT_NOT_YET_VALID and …_HAS_EXPIRED (openssl/x509_vfy.h)."""

_SUCCESS: Final = range(200, 300)
_ACCEPTED: Final = 202
_BUSY: Final = frozenset({408, 425, 429})
_SERVER_ERRORS: Final = range(500, 600)


class HubError(Exception):
    """The hub did not do what was asked."""


class HubUnreachableError(HubError):
    """No answer, or "not now": the same request may be sent again, after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class HubBusyError(HubUnreachableError):
    """The hub is there and asks for patience with this one request."""


class HubPendingError(HubError):
    """The hub has taken the request and waits for a person; `retry_after` says when to ask again.

    RFC 7030, section 4.2.3.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class HubRefusedError(HubError):
    """The hub refuses this request; sending it again changes nothing.

    `words`: cause and remedy as the hub put them, for an operator.
    """

    def __init__(self, status: int, message: str, words: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.words = words or message


class HubAnswerError(HubError):
    """The answer is not what the provider API promises."""


@dataclass(frozen=True, slots=True)
class HubRequest:
    """One request; `seconds` bounds it as a whole, `answer_bytes_max` what is read."""

    method: str
    path: str
    body: bytes | None = None
    content_type: str = "application/json"
    query: dict[str, str] | None = None
    seconds: float = REQUEST_SECONDS_MAX
    answer_bytes_max: int = ANSWER_BYTES_MAX
    headers: Mapping[str, str] = field(default_factory=dict)


class HubHttps:
    """Requests under one client certificate; trusts the hub's root alone.

    Which proxy a request takes is asked of `route`; the environment is never looked at.
    """

    def __init__(
        self, session: aiohttp.ClientSession, url: str, route: ProxyChoice = DIRECT
    ) -> None:
        self._session = session
        self._url = url.rstrip("/")
        parts = urlsplit(self._url)
        self._host, self._port = parts.hostname or "", parts.port or HTTPS_PORT
        self._route = route

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(
        cls, url: str, tls: ssl.SSLContext, route: ProxyChoice = DIRECT
    ) -> AsyncIterator["HubHttps"]:
        """Open the pool; connections are made when they are needed."""
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=CONNECTIONS_MAX),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        async with session:
            yield cls(session, url, route)

    async def close(self) -> None:
        """Close the pool before its time; may be repeated."""
        await self._session.close()

    async def send(self, request: HubRequest, token: str | None = None) -> bytes:
        """Return the body of a successful answer, or raise a HubError that says what happened."""
        headers = dict(request.headers)
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        proxy = self._route.proxy_for(self._host, self._port)
        try:
            async with self._session.request(
                request.method,
                f"{self._url}{request.path}",
                data=request.body,
                params=request.query,
                headers=headers,
                timeout=aiohttp.ClientTimeout(
                    total=request.seconds, sock_connect=CONNECT_SECONDS_MAX
                ),
                allow_redirects=False,
                proxy=f"http://{proxy}" if proxy is not None else None,
                proxy_headers=proxy.headers() if proxy is not None else None,
            ) as response:
                answer = await read_bounded(response, request.answer_bytes_max)
                status, retry_after = response.status, response.headers.get("Retry-After")
        except BodyTooLargeError as error:
            raise HubAnswerError(f"{request.path}: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise HubUnreachableError(self._explain(error, proxy)) from error
        if status == _ACCEPTED:
            raise HubPendingError(_detail(answer), seconds_asked(retry_after))
        if status in _SUCCESS:
            return answer
        message = f"{request.path} answered {status}: {_detail(answer)}"
        if status in _BUSY:
            raise HubBusyError(message, seconds_asked(retry_after))
        if status in _SERVER_ERRORS:
            raise HubUnreachableError(message, seconds_asked(retry_after))
        raise HubRefusedError(status, message, _words(answer))

    def _explain(self, error: BaseException, proxy: Proxy | None) -> str:
        match error:
            case aiohttp.ClientHttpProxyError() if proxy is not None:
                return refusal_words(proxy, error.status, f"{self._host}:{self._port}")
            case aiohttp.ClientProxyConnectionError() if proxy is not None:
                return f"the proxy {proxy} cannot be reached: {error.os_error}; is it running?"
            case aiohttp.ClientConnectorCertificateError():
                return self._certificate_words(error.certificate_error, proxy)
            case TimeoutError():
                return f"the hub at {self._url} did not answer in time"
            case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError() if not isinstance(
                error, aiohttp.ClientConnectorError
            ):
                # With TLS 1.3 a refused client certificate shows only here (design: channel).
                return (
                    f"the hub at {self._url} closed the connection ({error});"
                    " it restarts, or refuses this certificate"
                )
        return f"the hub at {self._url} cannot be reached: {error or type(error).__name__}"

    def _certificate_words(self, error: BaseException, proxy: Proxy | None) -> str:
        if _by_date(error):
            return (
                f"the certificate of {self._url} is not valid at this server's time ({error}):"
                " this server's clock and the hub's differ; synchronise both clocks (NTP)"
            )
        return (
            f"the certificate of {self._url} is not from this hub ({error}); is the URL another"
            f" server's, or a TLS-intercepting proxy in between{f' ({proxy})' if proxy else ''}?"
        )


def _by_date(error: BaseException) -> bool:
    """Return whether a certificate is refused for its dates alone."""
    return (
        isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in OPENSSL_DATE_ERRORS
    )


def _words(answer: bytes) -> str:
    """Return cause and remedy of a problem; empty where the answer is none."""
    with contextlib.suppress(ValueError, RecursionError):  # not JSON: no problem of the hub's
        value = json.loads(answer)
        if isinstance(value, dict):
            told = [value.get(key) for key in ("message", "remedy")]
            text = " ".join(each for each in told if isinstance(each, str))
            return " ".join(text.split())[: 2 * DETAIL_CHARACTERS_MAX]
    return ""


def _detail(answer: bytes) -> str:
    """Return the words of a refusal, whatever form it has, as one line."""
    text = answer[: 4 * DETAIL_CHARACTERS_MAX].decode(errors="replace")
    with contextlib.suppress(ValueError, RecursionError):  # not JSON: shown as it is
        value = json.loads(answer)
        for key in ("error", "message", "detail"):
            if isinstance(value, dict) and key in value:
                value = value[key]
        text = value if isinstance(value, str) else text
    return " ".join(text.split())[:DETAIL_CHARACTERS_MAX] or "no reason given"
