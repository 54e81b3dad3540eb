"""Reads the keys of an external issuer, keeps them fresh, and goes on with them while it is away.

One task reads: at start, every now and then, and when a token names a key that is not known. No
request ever waits for the issuer longer than one reading may take.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import structlog

from certs.issuer_tokens import (
    KEYS_BYTES_MAX,
    IssuerKey,
    IssuerKeysError,
    json_object,
    read_keys,
)
from service_hub.domain.errors import IssuerUnavailableError
from service_hub.ports.surroundings import Clock

DISCOVERY: Final = "/.well-known/openid-configuration"
READ_SECONDS_MAX: Final = 5.0
"""For both documents together."""

URL_CHARACTERS_MAX: Final = 2_048

log = structlog.get_logger(__name__)


class IssuerKeys:
    """The keys of one issuer; `running` must be open for them to be read."""

    def __init__(
        self,
        issuer: str,
        tls: ssl.SSLContext,
        clock: Clock,
        *,
        every: timedelta,
        kept: timedelta,
        pause: timedelta,
    ) -> None:
        """`every`: how often they are read; `kept`: how long without; `pause`: between readings."""
        self._issuer = issuer
        self._tls = tls
        self._clock = clock
        self._every = every
        self._kept = kept
        self._pause = pause.total_seconds()
        self._keys: tuple[IssuerKey, ...] = ()
        self._read_at: datetime | None = None
        self._succeeded = False
        self._readings = 0
        self._wanted = asyncio.Event()
        self._news = asyncio.Condition()
        self._may_read_at = 0.0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the keys fresh while the block runs."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._keep_fresh())
            try:
                yield
            finally:
                task.cancel()

    async def known(self) -> tuple[IssuerKey, ...]:
        """Return the keys; IssuerUnavailableError where there are none, or too old ones."""
        if self._readings == 0:
            await self._next_reading()
        now = self._clock.now()
        if self._read_at is None or now - self._read_at > self._kept:
            raise IssuerUnavailableError(self._issuer)
        return self._keys

    async def renewed(self) -> tuple[IssuerKey, ...]:
        """Return the keys, read anew unless that was just done; IssuerUnavailableError.

        For a token whose key is not known: whether it is a new one, only the issuer can say.
        """
        if asyncio.get_running_loop().time() >= self._may_read_at:
            await self._next_reading()
        if not self._succeeded:
            raise IssuerUnavailableError(self._issuer)
        return await self.known()

    async def _next_reading(self) -> None:
        """Return when a reading has ended that began after this was asked."""
        number = self._readings
        self._wanted.set()
        try:
            async with asyncio.timeout(2 * READ_SECONDS_MAX), self._news:
                await self._news.wait_for(lambda: self._readings > number)
        except TimeoutError:
            raise IssuerUnavailableError(self._issuer) from None

    async def _keep_fresh(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wanted.clear()
            await self._read()
            self._may_read_at = loop.time() + self._pause
            async with self._news:
                self._readings += 1
                self._news.notify_all()
            due = self._every.total_seconds() if self._succeeded else self._pause
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(due):
                    await self._wanted.wait()

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(READ_SECONDS_MAX):
                keys = await self._fetched()
        except (aiohttp.ClientError, IssuerKeysError, OSError, ValueError) as error:
            self._succeeded = False
            cause = str(error) or type(error).__name__
            log.warning("issuer_keys_unread", issuer=self._issuer, cause=cause)
            return
        if keys != self._keys:
            ids = [each.key_id for each in keys]
            log.info("issuer_keys_changed", issuer=self._issuer, keys=ids)
        self._keys, self._read_at, self._succeeded = keys, self._clock.now(), True

    async def _fetched(self) -> tuple[IssuerKey, ...]:
        timeout = aiohttp.ClientTimeout(total=READ_SECONDS_MAX)
        connector = aiohttp.TCPConnector(ssl=self._tls)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            found = json_object(await _body(session, self._issuer.rstrip("/") + DISCOVERY))
            return read_keys(await _body(session, keys_address(found, self._issuer)))


def keys_address(found: Mapping[str, Any], issuer: str) -> str:
    """Return where an issuer's keys are by its discovery document; IssuerKeysError.

    The document must be this issuer's own (OpenID Connect Discovery 4.3).
    """
    if found.get("issuer") != issuer:
        raise IssuerKeysError("the discovery document is of another issuer")
    address = found.get("jwks_uri")
    if not isinstance(address, str) or len(address) > URL_CHARACTERS_MAX:
        raise IssuerKeysError("the discovery document names no 'jwks_uri'")
    try:
        parts = urlsplit(address)
        usable = parts.scheme == "https" and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.username is not None:
        raise IssuerKeysError("'jwks_uri' is no https:// URL")
    return address


async def _body(session: aiohttp.ClientSession, url: str) -> bytes:
    # A redirection could lead anywhere, also into the hub's own network: it is not followed.
    async with session.get(url, allow_redirects=False) as response:
        if response.status != HTTPStatus.OK:
            raise IssuerKeysError(f"the issuer answered with {response.status}")
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > KEYS_BYTES_MAX:
                raise IssuerKeysError(f"an answer is larger than {KEYS_BYTES_MAX} bytes")
        return bytes(body)
