"""Kerberos tickets between hosts: HTTP Negotiate (RFC 4559), SPNEGO (RFC 4178), MIT's library.

A host is the principal host/FQDN@REALM, its keys lie in a keytab of its own. As in the field the
bytes are not encrypted on the wire (behaviour 1.4); both ends prove who they are.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeVar

from vmm_simulator.hyperv.http1 import HttpError
from vmm_simulator.hyperv.realm import (
    header_value,
    host_of,
    principal_of,
    token_of,
)
from vmm_simulator.problems import Code, RefusedError

try:
    import gssapi
except ImportError:  # the extra is not installed: `require_extra` says so where it matters
    gssapi = None

T = TypeVar("T")
R = TypeVar("R")

ASK: Final = "authorization"
ANSWER: Final = "www-authenticate"
RENEW_SECONDS_MIN: Final = 300.0
TICKET_SECONDS_MAX: Final = 45.0
THREADS_MAX: Final = 4
_SPNEGO: Final = "1.3.6.1.5.5.2"


class TicketError(ConnectionError):
    """No ticket was to be had, or the peer did not prove who it is; says what to look at."""


def require_extra() -> None:
    """Raise RefusedError unless the extra is installed."""
    if gssapi is None:
        raise RefusedError(
            Code.NOT_SUPPORTED,
            "Kerberos is not available here: the extra kerberos is not installed",
            "run pip install 'site-recovery-hub[kerberos]' (it needs libkrb5-dev and gcc), start "
            "the simulator again; or use certificates",
        )


def use_configuration(path: Path | None) -> None:
    """Have libkrb5 read this file; to be called before any ticket is asked for."""
    if path is not None:
        os.environ["KRB5_CONFIG"] = str(path)


class Tickets:
    """What one host proves itself with, in both directions.

    `cache_id` names its tickets in this process: nobody else may have the same.
    """

    def __init__(self, fqdn: str, realm: str, keytab: Path, cache_id: str) -> None:
        # Threads of its own: libkrb5 may wait long for a centre, the disks' threads must not.
        self._threads = ThreadPoolExecutor(THREADS_MAX, "kerberos")
        self._cache_id = cache_id
        self._others: dict[str, Tickets] = {}
        self._cache_number = 0
        self._cached_at = 0.0
        self._fqdn = fqdn
        self._realm = realm
        self._keytab = keytab

    def of_name(self, fqdn: str) -> "Tickets":
        """Return what proves this host in another name, whose keys its keytab has too."""
        if fqdn not in self._others:
            cache_id = f"{self._cache_id}-{fqdn}"
            self._others[fqdn] = Tickets(fqdn, self._realm, self._keytab, cache_id)
        return self._others[fqdn]

    def require_usable(self) -> None:
        """Raise RefusedError unless the extra and the host's keys are here."""
        require_extra()
        if not self._keytab.is_file():
            raise RefusedError(
                Code.INVALID_STATE,
                f"host {self._fqdn} has no keytab {self._keytab}",
                f"have the realm's administrator put the keys of {self._principal(self._fqdn)} "
                "there (kadmin: ktadd), readable by the simulator alone",
            )

    def _principal(self, fqdn: str) -> str:
        return principal_of(fqdn, self._realm)

    def _name(self, fqdn: str) -> Any:
        # Not as a host-based service: its name would be looked up in the DNS first.
        return gssapi.Name(self._principal(fqdn), gssapi.NameType.kerberos_principal)

    async def ask(self, fqdn: str) -> "AskedProof":
        """Return what proves us to a host; TicketError when its principal gets no ticket."""
        self.require_usable()
        return await self._in_thread(self._initiate, fqdn)

    def _initiate(self, fqdn: str) -> "AskedProof":
        try:
            credentials = gssapi.Credentials(
                name=self._name(self._fqdn),
                usage="initiate",
                store={
                    "client_keytab": f"FILE:{self._keytab}",
                    "ccache": f"MEMORY:{self._cache_id}-{self._cache_number}",
                },
            )
            context = gssapi.SecurityContext(
                name=self._name(fqdn),
                creds=credentials,
                mech=gssapi.OID.from_int_seq(_SPNEGO),
                usage="initiate",
                flags=(
                    gssapi.RequirementFlag.mutual_authentication
                    | gssapi.RequirementFlag.replay_detection
                ),
            )
            token = context.step()
        except gssapi.exceptions.GSSError as error:
            raise TicketError(
                f"there is no Kerberos ticket for {self._principal(fqdn)}: {error.gen_message()}; "
                "look whether the principal exists (its SPN) and the realm's centre is reached"
            ) from error
        return AskedProof(self._principal(fqdn), context, bytes(token or b""), self._renew)

    def _renew(self) -> None:
        """Ask for tickets anew: the key of a host may have been changed since.

        Now and then only: libkrb5 keeps the former ones as long as the process lives.
        """
        now = time.monotonic()
        if self._cache_number == 0 or now - self._cached_at > RENEW_SECONDS_MIN:
            self._cache_number += 1
            self._cached_at = now

    async def accept(self, headers: Mapping[str, str]) -> tuple[str, str]:
        """Return who asks (FQDN) and the header value that proves us; HttpError 401 or 403."""
        token = token_of(headers.get(ASK))
        if token is None:
            raise HttpError(HTTPStatus.UNAUTHORIZED, "this port wants a Kerberos ticket")
        try:
            principal, answer = await self._in_thread(self._accept, token)
        except TimeoutError as error:
            raise HttpError(HTTPStatus.SERVICE_UNAVAILABLE, "tickets are not read now") from error
        host = host_of(principal, self._realm)
        if host is None:
            raise HttpError(
                HTTPStatus.FORBIDDEN, f"{principal} is no host of the realm {self._realm}"
            )
        return host, header_value(answer)

    async def _in_thread(self, work: Callable[[T], R], given: T) -> R:
        # Whoever is cancelled leaves the thread behind: it holds nothing, and its end is libkrb5's.
        async with asyncio.timeout(TICKET_SECONDS_MAX):
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, given)

    def _accept(self, token: bytes) -> tuple[str, bytes]:
        try:
            credentials = gssapi.Credentials(
                name=self._name(self._fqdn),
                usage="accept",
                store={"keytab": f"FILE:{self._keytab}"},
            )
            context = gssapi.SecurityContext(creds=credentials, usage="accept")
            answer = context.step(token)
            if not context.complete:
                raise HttpError(HTTPStatus.UNAUTHORIZED, "one ticket has to be enough")
            return str(context.initiator_name), bytes(answer or b"")
        except gssapi.exceptions.GSSError as error:
            raise HttpError(
                HTTPStatus.UNAUTHORIZED, f"the Kerberos ticket is not taken: {error.gen_message()}"
            ) from error


class AskedProof:
    """Our half of a proof: it is complete when the peer has proved itself too."""

    def __init__(
        self, principal: str, context: Any, token: bytes, refused: Callable[[], None]
    ) -> None:
        self._refused = refused
        self._principal = principal
        self._context = context
        self.headers = {"Authorization": header_value(token)}

    def check(self, status: int, headers: Mapping[str, str]) -> None:
        """Raise TicketError unless this answer is the peer's own, and takes our ticket."""
        if status == HTTPStatus.UNAUTHORIZED:
            self._refused()
            raise TicketError(
                f"the ticket for {self._principal} is not taken: look whether its host's keytab "
                "has the newest key, and at the clocks of both hosts"
            )
        token = token_of(headers.get(ANSWER))
        try:
            if token is not None and not self._context.complete:
                self._context.step(token)
            proven = self._context.complete and bool(
                self._context.actual_flags & gssapi.RequirementFlag.mutual_authentication
            )
        except gssapi.exceptions.GSSError as error:
            raise TicketError(
                f"the host that answers is not {self._principal}: {error.gen_message()}"
            ) from error
        if not proven:
            raise TicketError(f"the host that answers did not prove to be {self._principal}")
