"""The management ports of simulated sites, for events that are injected there."""

import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp
from pydantic import Field, JsonValue, field_validator

from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.injections import InjectionKind
from service_hub.domain.site_events import site_orders
from service_hub.injection_ports import LaboratoryError
from service_shell.configuration import Settings
from service_shell.errors import ProgramError
from service_shell.secret_files import read_secret

REQUEST_SECONDS_MAX: Final = 60.0
ANSWER_BYTES_MAX: Final = 65_536
TOKEN_BYTES_MAX: Final = 4_096
SITES_MAX: Final = 100


class ManagementSettings(Settings):
    """The management port of one site: its token and what its certificate is verified with."""

    url: str = Field(max_length=2_048)
    token_file: Path
    ca_file: Path

    @field_validator("url")
    @classmethod
    def _is_https(cls, value: str) -> str:
        if not value.startswith("https://"):
            raise ValueError("must be an https:// URL")
        return value.rstrip("/")


class LaboratorySettings(Settings):
    """Simulated sites by the FQDN of their VMM server; none outside of a laboratory."""

    sites: dict[str, ManagementSettings] = Field(default_factory=dict, max_length=SITES_MAX)


class LaboratorySites:
    """The Laboratory of the injection ports; files are read when they are needed."""

    def __init__(self, settings: LaboratorySettings) -> None:
        self._sites = {name.lower(): each for name, each in settings.sites.items()}

    def knows(self, vmm_fqdn: str) -> bool:
        """Return whether the site of this VMM server is a laboratory's."""
        return vmm_fqdn.lower() in self._sites

    async def inject(
        self, vmm_fqdn: str, event: InjectionKind, arguments: Mapping[str, JsonValue]
    ) -> None:
        """Have it happen; doing it again changes nothing. LaboratoryError says why it did not."""
        site = self._sites.get(vmm_fqdn.lower())
        if site is None:
            raise LaboratoryError(f"this hub knows no management port of {vmm_fqdn}")
        try:
            orders = site_orders(event, arguments)
        except InvalidRequestError as error:
            raise LaboratoryError(str(error)) from error
        async with _opened(site) as session:
            for order in orders:
                await _put(session, site.url + order.path, order.body)


def _opened(site: ManagementSettings) -> aiohttp.ClientSession:
    try:
        token = read_secret(site.token_file, TOKEN_BYTES_MAX).decode("ascii").strip()
        context = ssl.create_default_context(cafile=str(site.ca_file))
    except (ProgramError, OSError, UnicodeDecodeError) as error:
        raise LaboratoryError(f"the files of its management port can't be used: {error}") from error
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context),
        headers={"Authorization": f"Bearer {token}"},
        timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX),
    )


async def _put(session: aiohttp.ClientSession, url: str, body: Mapping[str, Any]) -> None:
    try:
        async with session.put(url, json=body) as answer:
            content = await answer.content.read(ANSWER_BYTES_MAX)
            if not answer.ok:
                raise LaboratoryError(f"{url} answered {answer.status}: {_message(content)}")
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise LaboratoryError(f"{url} did not answer: {error or type(error).__name__}") from error


def _message(content: bytes) -> str:
    try:
        return str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return "it gave no reason"
