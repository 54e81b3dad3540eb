"""How daemons serve HTTPS: whoever sends nothing, or too slowly, is let go of again."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from socket import socket

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from service_shell.listener import BACKLOG


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
        # Not web.SockSite: that gives a peer 60 s for the handshake, and a shorter backlog.
        server = await asyncio.get_running_loop().create_server(
            runner.server,
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


class _OwnFailures(logging.Filter):
    """Leaves out requests that are no HTTP: a stranger must not fill the log with tracebacks."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record tells of a failure of ours."""
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError)


_LOGGER = logging.getLogger("https_listener")
_LOGGER.addFilter(_OwnFailures())
