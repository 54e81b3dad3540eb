"""The hub's own routes about machines whose authority is in question after a restore."""

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from service_hub.domain.access import Right
from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.liveness import freshness
from service_hub.hub_api.looker_bodies import stamp_body
from service_hub.hub_api.server_routes import OperatorCall, ServersApi
from service_hub.operator_door import GuardedRoute
from service_hub.operator_ports import AuthorityQuestion, AuthorityUseCases, ShownCopy
from wire_contract.vocabulary import Side

QUESTIONS: Final = "/hub/v1/vaults/{vault_id}/authority-questions"
DECIDE: Final = "/hub/v1/vaults/{vault_id}/authority-questions/{item_id}/decide"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityApi:
    """What these routes need; `door` lets operators in and renders refusals."""

    door: ServersApi
    authorities: AuthorityUseCases

    async def list(self, call: OperatorCall) -> web.Response:
        """Give every machine in question, with what both sites show and what to think of."""
        found = await self.authorities.list(call.vault.id)
        return _json({"questions": [self._question(each) for each in found]})

    async def decide(self, call: OperatorCall) -> web.Response:
        """Make one end authoritative; refused where nothing is in question."""
        sides = {side.value.lower(): side for side in Side}
        named = call.body.get("authority")
        side = sides.get(named.lower()) if isinstance(named, str) else None
        if side is None:
            raise InvalidRequestError(
                "The property 'authority' must be Primary or Recovery.", "authority"
            )
        item_id = call.names["item_id"]
        made = await self.authorities.decide(call.vault.id, item_id, side, call.principal)
        return _json(self._question(made))

    def _question(self, question: AuthorityQuestion) -> dict[str, Any]:
        body = _question(question)
        for side, copy in question.copies.items():
            if copy.stamp is not None:
                fresh = freshness(
                    copy.stamp.observed_at,
                    self.door.observation_interval,
                    self.door.clock.now(),
                )
                body["copies"][side.value] |= stamp_body(copy.stamp, fresh)
        return body


def authority_routes(api: AuthorityApi) -> list[GuardedRoute]:
    """Return the whole surface; read this to know it."""
    return [
        api.door.route("GET", QUESTIONS, api.list, Right.READ),
        api.door.route("POST", DECIDE, api.decide, Right.CONFIGURE),
    ]


def _question(question: AuthorityQuestion) -> dict[str, Any]:
    item = question.item
    asked = item.authority_questioned_at
    return {
        "item_id": item.id,
        "friendly_name": item.friendly_name,
        "hub_says": item.authority.value,
        "state": item.state.value,
        "active_location": item.active_location.value,
        "epoch": item.epoch,
        "questioned_at": None if asked is None else asked.isoformat(),
        "copies": {side.value: _copy(copy) for side, copy in question.copies.items()},
        "warnings": {side.value: list(words) for side, words in question.warnings.items()},
    }


def _copy(copy: ShownCopy) -> dict[str, Any]:
    shown: dict[str, Any] = {"server": copy.server, "seen_at": None}
    machine = copy.machine
    if machine is None or copy.seen_at is None:
        return shown
    replication = machine.replication
    return {
        **shown,
        "seen_at": copy.seen_at.isoformat(),
        "machine_id": machine.machine_id,
        "host": machine.host,
        "run_state": machine.run_state.value,
        "fenced": machine.fenced,
        "epoch": machine.epoch,
        "replication_mode": None if replication is None else replication.mode.value,
        "replication_state": None if replication is None else replication.state.name,
        "last_cut": None if replication is None else replication.last_cut,
    }


def _json(body: dict[str, Any]) -> web.Response:
    return web.Response(
        status=HTTPStatus.OK,
        body=json.dumps(body).encode(),
        content_type="application/json",
        headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
    )
