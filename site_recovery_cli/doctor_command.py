"""`site-recovery doctor`: the way from here to the hub, and what is wrong at the hub."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Final
from urllib.parse import urlsplit

import typer
from cryptography import x509

from service_shell.clock import SystemClock
from service_shell.errors import ProgramError
from site_recovery_cli.client_tokens import ends_at, fresh
from site_recovery_cli.connection import open_routes
from site_recovery_cli.diagnosis import (
    Finding,
    Verdict,
    of_certificate,
    of_clock,
    of_hub,
    of_jobs,
    of_servers,
    of_token,
    of_version,
)
from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.hub_routes import HubRoutes
from site_recovery_cli.options import OutputFormat, ProfileName
from site_recovery_cli.output import Format, show_list
from site_recovery_cli.profiles import DEFAULT_PROFILE, Profile, ProfileFolder, default_folder

COLUMNS: Final = {"step": "Step", "state": "State", "detail": "What was seen", "remedy": "Remedy"}
CERTIFICATE_SECONDS_MAX: Final = 10.0
STEPS: Final = ("profile", "connection", "token", "version", "vaults")

Step = Callable[[], Awaitable[list[Finding]]]


def doctor(*, profile: ProfileName = None, output: OutputFormat = Format.TABLE) -> None:
    """Check profile, connection, certificates, clock, token, version, servers and jobs of a hub.

    Exit code 0 where nothing has failed, warnings too; that of the step that failed where the hub
    cannot be asked; 1 for anything else that has failed.
    """
    visit = _Visit(profile or DEFAULT_PROFILE)
    asyncio.run(visit.make())
    show_list([each.row for each in visit.findings], COLUMNS, output)
    if visit.code is not ExitCode.DONE:
        raise typer.Exit(visit.code)


@dataclass(slots=True)
class _Visit:
    """One walk through all steps; after one that fails the later ones are not reached."""

    name: str
    findings: list[Finding] = field(default_factory=list)
    code: int = ExitCode.DONE

    async def make(self) -> None:
        """Take all steps."""
        folder = ProfileFolder(default_folder())
        done: list[Profile] = []

        async def load() -> list[Finding]:
            known = folder.load(self.name)
            done.append(known)
            root = x509.load_pem_x509_certificates(known.root_pem.encode())[0]
            remedy = "take over the hub's new root: site-recovery login --ca-file roots.pem"
            ends, now = root.not_valid_after_utc, SystemClock().now()
            return [
                Finding("profile", Verdict.OK, f"{self.name}: {known.hub}"),
                of_certificate("root", ends, now, remedy),
            ]

        if not await self._step("profile", load):
            return
        known = done[0]
        async with open_routes(known.hub, known.root_pem, known.token) as routes:
            if not await self._step("connection", lambda: _connection(routes, known)):
                return
        renewed: list[Profile] = []

        async def renew() -> list[Finding]:
            renewed.append(await fresh(folder, self.name, known, SystemClock().now()))
            return []

        if not await self._step("token", renew):
            return
        async with open_routes(known.hub, known.root_pem, renewed[0].token) as routes:
            await self._ask(routes, renewed[0])

    async def _ask(self, routes: HubRoutes, profile: Profile) -> None:
        async def token() -> list[Finding]:
            await routes.vaults()
            renews = profile.client_secret_file is not None
            login = f"site-recovery login --profile {self.name}"
            ends = profile.token_ends_at or ends_at(profile.token)
            return [of_token(ends, SystemClock().now(), renews=renews, login=login)]

        async def release() -> list[Finding]:
            return [of_version(await routes.release(), version("site-recovery-hub"))]

        async def vaults() -> list[Finding]:
            found: list[Finding] = []
            for each in await routes.vaults():
                vault, name = str(each["vault_id"]), str(each["name"])
                found += of_servers(name, await routes.servers(vault))
                found += of_jobs(name, await routes.waiting(vault), SystemClock().now())
            return found

        for step, take in (("token", token), ("version", release), ("vaults", vaults)):
            if not await self._step(step, take):
                return

    async def _step(self, name: str, take: Step) -> bool:
        """Take a step; False where it failed, and nothing after it can be done."""
        try:
            found = await take()
        except (ProgramError, ssl.SSLError, ValueError) as error:
            cause, _, remedy = str(error).partition("; ")
            self.findings.append(Finding(name, Verdict.FAILED, cause, remedy))
            later = STEPS[STEPS.index(name) + 1 :]
            self.findings += [Finding(each, Verdict.NOT_REACHED, "") for each in later]
            self.code = error.exit_code if isinstance(error, ProgramError) else ExitCode.JOB_FAILED
            return False
        self.findings += found
        if any(each.verdict is Verdict.FAILED for each in found) and not self.code:
            self.code = ExitCode.JOB_FAILED
        return True


async def _connection(routes: HubRoutes, profile: Profile) -> list[Finding]:
    state, date = await routes.health()
    now = SystemClock().now()
    return [of_hub(state), await _certificate(profile, now), of_clock(now, _time_of(date))]


async def _certificate(profile: Profile, now: datetime) -> Finding:
    """Look at the certificate that the hub shows, over a connection of its own."""
    parts = urlsplit(profile.hub)
    tls = ssl.create_default_context(cadata=profile.root_pem)
    try:
        async with asyncio.timeout(CERTIFICATE_SECONDS_MAX):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or 443, ssl=tls)
            shown = writer.get_extra_info("peercert")
            writer.close()
            await writer.wait_closed()
    except (OSError, TimeoutError) as error:
        return Finding(
            "certificate",
            Verdict.WARNING,
            f"not seen: {error or type(error).__name__}",
            "behind a proxy it cannot be looked at from here; the hub answered over verified TLS",
        )
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(shown["notAfter"]), UTC)
    remedy = "restart the hub: it makes its certificate anew at each start"
    return of_certificate("certificate", ends, now, remedy)


def _time_of(date: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(date or "")
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
