"""How daemons serve HTTPS: whoever sends nothing, or too slowly, is let go of again."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from socket import socket
from typing import Final, cast

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from service_shell.listener import BACKLOG

FULL_TOLD_SECONDS: Final = 60.0
"""How often the log says that connections are refused."""

_FULL_WORDS: Final = b"There are too many connections at this moment; come again in 30 s.\n"
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 30\r\nConnection: close\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_FULL_WORDS), _FULL_WORDS)
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HttpsLimits:
    """What a peer that has not shown a credential may cost; durations in seconds.

    `idle_seconds` runs from the handshake, and from each answer, to the end of the next request's
    headers, however they trickle in. It is longer than the 15 s that a provider's client keeps an
    unused connection. Bodies have limits of their own, where they are read.
    """

    handshake_seconds: float = 10.0
    idle_seconds: float = 30.0
    close_seconds: float = 5.0
    shutdown_seconds: float = 5.0
    """Longest that open requests are waited for at the end."""

    connections: int = 20_000
    """Open at once: twice what a listener of MQTT takes, since a server's reports and its long poll
    are two. Who comes beyond is answered 503 and let go."""


@asynccontextmanager
async def https_served(
    application: web.Application,
    listener: socket,
    context: ssl.SSLContext,
    limits: HttpsLimits | None = None,
) -> AsyncIterator[None]:
    """Serve the application while the block runs."""
    chosen = limits or HttpsLimits()
    runner = web.AppRunner(
        application,
        access_log=None,
        logger=_LOGGER,
        shutdown_timeout=chosen.shutdown_seconds,
        # aiohttp's own default is an hour.
        keepalive_timeout=chosen.idle_seconds,
    )
    await runner.setup()
    try:
        assert runner.server is not None, "setup makes it"
        door = _Door(runner.server, chosen)
        # Not web.SockSite: that gives a peer 60 s for the handshake, and a shorter backlog.
        server = await asyncio.get_running_loop().create_server(
            door.protocol,
            sock=listener,
            ssl=context,
            backlog=BACKLOG,
            ssl_handshake_timeout=chosen.handshake_seconds,
            ssl_shutdown_timeout=chosen.close_seconds,
        )
        try:
            yield
        finally:
            server.close()
    finally:
        await runner.cleanup()


class _Door:
    """Gives each connection its protocol: the application's, or a refusal when it is full."""

    def __init__(self, server: web.Server, limits: HttpsLimits) -> None:
        self._server = server
        self._limits = limits
        self._told_at: float | None = None

    def protocol(self) -> asyncio.Protocol:
        """Return the protocol of a connection that was accepted."""
        if len(self._server.connections) < self._limits.connections:
            return self._server()
        now = asyncio.get_running_loop().time()
        if self._told_at is None or now >= self._told_at + FULL_TOLD_SECONDS:
            self._told_at = now
            log.warning("https_connections_refused", open=self._limits.connections)
        return _Refusal(self._limits.close_seconds)


class _Refusal(asyncio.Protocol):
    """Answers the first bytes of a request with 503, and lets the peer go."""

    def __init__(self, close_seconds: float) -> None:
        self._close_seconds = close_seconds
        self._transport: asyncio.Transport
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the request: an answer before it would be lost with the reset that follows."""
        self._transport = cast("asyncio.Transport", transport)
        self._end = asyncio.get_running_loop().call_later(
            self._close_seconds, self._transport.abort
        )

    def data_received(self, data: bytes) -> None:
        """Answer once, whatever was asked."""
        del data
        if not self._transport.is_closing():
            self._transport.write(_FULL)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        del exc
        if self._end is not None:
            self._end.cancel()


class _OwnFailures(logging.Filter):
    """Leaves out requests that are no HTTP: a stranger must not fill the log with tracebacks."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record tells of a failure of ours."""
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError)


_LOGGER = logging.getLogger("https_listener")
_LOGGER.addFilter(_OwnFailures())
