"""The hub's own route about everything that is not final."""

import json
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from service_hub.domain.access import Right
from service_hub.domain.waiting import Waiting
from service_hub.hub_api.server_routes import OperatorCall, ServersApi
from service_hub.operator_door import GuardedRoute
from service_hub.operator_ports import WaitingUseCases

WAITING: Final = "/hub/v1/vaults/{vault_id}/waiting"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingApi:
    """What this route needs; `door` lets operators in and renders refusals."""

    door: ServersApi
    waiting: WaitingUseCases

    async def list(self, call: OperatorCall) -> web.Response:
        """Give what waits, for what, since when, and what can end it."""
        found = await self.waiting.list(call.vault)
        return web.Response(
            body=json.dumps({"waiting": [_body(each) for each in found]}).encode(),
            content_type="application/json",
            headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
        )


def waiting_routes(api: WaitingApi) -> list[GuardedRoute]:
    """Return the whole surface; read this to know it."""
    return [api.door.route("GET", WAITING, api.list, Right.READ)]


def _body(waiting: Waiting) -> dict[str, Any]:
    return {
        "kind": waiting.kind.value,
        "id": waiting.id,
        "name": waiting.name,
        "since": None if waiting.since is None else waiting.since.isoformat(),
        "waiting_for": waiting.words,
    }
