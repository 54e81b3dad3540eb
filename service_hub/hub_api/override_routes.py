"""The hub's own route that lets a fenced copy start again (architecture, decision 4)."""

from dataclasses import dataclass
from typing import Final

from aiohttp import web
from pydantic import JsonValue

from service_hub.domain.access import Right
from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.protection import Operation
from service_hub.domain.scenarios import OTHER_COPY_LOST
from service_hub.hub_api.asked_jobs import accepted_job, identity_of
from service_hub.hub_api.server_routes import OperatorCall, ServersApi
from service_hub.operator_door import GuardedRoute
from service_hub.ports.use_cases import ProtectionUseCases

OVERRIDE: Final = "/hub/v1/vaults/{vault_id}/items/{item_id}/override-fence"

REASON_CHARACTERS_MAX: Final = 1_000

_LOST: Final = "otherCopyLost"
_PROPERTIES: Final = frozenset({"reason", _LOST})


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideApi:
    """What this route needs; `door` lets operators in and renders refusals."""

    door: ServersApi
    protection: ProtectionUseCases

    async def override(self, call: OperatorCall) -> web.Response:
        """Give the authority back to the former source: 202 with the job that does it.

        A refusal that the state or a server is the cause of is a job that failed, as of any other
        operation; a body without a reason is refused at once.
        """
        unknown = set(call.body) - _PROPERTIES
        if unknown:
            raise InvalidRequestError(f"The property '{min(unknown)}' is not known.", min(unknown))
        lost = call.body.get(_LOST, False)
        if not isinstance(lost, bool):
            raise InvalidRequestError(f"The property '{_LOST}' must be true or false.", _LOST)
        arguments: dict[str, JsonValue] = {"comments": _reason(call), OTHER_COPY_LOST: lost}
        item_id = call.names["item_id"]
        path = OVERRIDE.format(vault_id=call.vault.id, item_id=item_id)
        identity = identity_of(call, path, self.door.clock)
        job = await self.protection.request(
            call.vault, item_id, Operation.OVERRIDE_FENCE, arguments, identity
        )
        told: dict[str, JsonValue] = {
            "itemId": job.item_id,
            "jobId": job.id,
            "state": job.state.value,
        }
        return accepted_job(told)


def override_routes(api: OverrideApi) -> list[GuardedRoute]:
    """Return the whole surface; read this to know it."""
    return [api.door.route("POST", OVERRIDE, api.override, Right.OPERATE)]


def _reason(call: OperatorCall) -> str:
    reason = call.body.get("reason")
    fits = isinstance(reason, str) and reason.strip() and len(reason) <= REASON_CHARACTERS_MAX
    if not fits or not str(reason).isprintable():
        raise InvalidRequestError(
            "The property 'reason' must say why, in a printable text of at most"
            f" {REASON_CHARACTERS_MAX} characters.",
            "reason",
        )
    return str(reason).strip()
