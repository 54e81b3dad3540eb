"""The management port of a simulated site, as the lab uses it: machines, inventory, faults."""

import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from service_shell.errors import ProgramError

REQUEST_SECONDS_MAX: Final = 20.0


class ManagementError(ProgramError):
    """The management port refused or did not answer."""


@dataclass(slots=True)
class ManagementClient:
    """One site's management port."""

    url: str
    token: str
    ca_file: str
    _session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context(cafile=self.ca_file)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context),
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX),
        )
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def inventory(self) -> dict[str, Any]:
        """Return all that the site manages."""
        answer = await self._ask("GET", "/inventory")
        return dict(answer)

    async def machine(self, machine_id: str) -> dict[str, Any] | None:
        """Return one machine as it is now, or None when there is none of that id."""
        answer = await self._ask("GET", f"/machines/{machine_id}", absent_is_none=True)
        return None if answer is None else dict(answer)

    async def effects(self) -> list[dict[str, Any]]:
        """Return the durable ledger of all effects."""
        answer = await self._ask("GET", "/effects")
        return list(answer["effects"] if isinstance(answer, dict) else answer)

    async def faults(self) -> list[dict[str, Any]]:
        """Return the faults that are set, with their counters."""
        answer = await self._ask("GET", "/faults")
        return list(answer["faults"])

    async def replace_faults(self, faults: Sequence[dict[str, Any]]) -> None:
        """Set these faults and no others; what was held goes on."""
        await self._ask("PUT", "/faults", {"faults": list(faults)})

    async def set_link(self, *, up: bool) -> None:
        """Cut, or heal, what the site's hosts send to other sites."""
        await self._ask("PUT", "/link", {"up": up})

    async def _ask(
        self, method: str, path: str, body: object = None, *, absent_is_none: bool = False
    ) -> Any:
        if self._session is None:
            raise ManagementError("the management client is not open")
        try:
            async with self._session.request(method, f"{self.url}{path}", json=body) as answer:
                if answer.status == HTTPStatus.NOT_FOUND and absent_is_none:
                    return None
                text = await answer.text()
                if not answer.ok:
                    raise ManagementError(f"{method} {self.url}{path}: {answer.status} {text}")
                return json.loads(text) if text else None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ManagementError(f"{method} {self.url}{path}: {error}") from error
