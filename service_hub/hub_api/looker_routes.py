"""The hub's own routes for whoever looks on: what changed, what was seen, what would happen."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, TypeVar

from aiohttp import web

from service_hub.domain.access import Right
from service_hub.domain.drill_networks import TEST_NETWORK
from service_hub.domain.errors import DomainError, InvalidRequestError
from service_hub.domain.jobs import JobState
from service_hub.domain.protection import Operation
from service_hub.domain.rollups import Metric, Resolution
from service_hub.hub_api.looker_bodies import (
    EXPORTED,
    changes_body,
    exported_body,
    figure_body,
    item_body,
    machine_body,
    preview_body,
    progress_body,
    receipt_body,
    server_body,
    stamp_body,
)
from service_hub.hub_api.preview_groups import GROUPS, plan_groups
from service_hub.hub_api.server_routes import OperatorCall, ServersApi, refusal_of
from service_hub.looker_ports import (
    ChangeUseCases,
    ExportFilter,
    ExportUseCases,
    FigureUseCases,
    ObservationUseCases,
    PreviewUseCases,
)
from service_hub.operator_door import GuardedRoute

VAULT: Final = "/hub/v1/vaults/{vault_id}"
CHANGES: Final = f"{VAULT}/changes"
INVENTORIES: Final = f"{VAULT}/inventories"
MACHINES: Final = f"{VAULT}/machines"
ITEMS: Final = f"{VAULT}/items"
ITEM: Final = f"{VAULT}/items/{{item_id}}"
FIGURES: Final = f"{VAULT}/items/{{item_id}}/figures"
EXPORT: Final = f"{VAULT}/jobs/export"
PROGRESS: Final = f"{VAULT}/jobs/{{job_id}}/progress"
RECEIPTS: Final = f"{VAULT}/jobs/{{job_id}}/receipts"
TASK_RECEIPTS: Final = f"{VAULT}/jobs/{{job_id}}/receipts/{{task_id}}"
PREVIEW: Final = f"{VAULT}/preview"

PLAN: Final = "plan"
LOGICAL_NETWORK: Final = "logical_network_id"

NUMBER_MAX: Final = 2**62
PAGE: Final = 500
PAGE_MAX: Final = 1_000
WAIT_SECONDS_MAX: Final = 25
TEXT_MAX: Final = 256
PREVIEW_BYTES_MAX: Final = 65_536
"""A plan's groups name up to a thousand machines."""

_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheet programs take a cell for a formula by."""

_CHOICE = TypeVar("_CHOICE", Metric, Resolution, JobState)


@dataclass(frozen=True, slots=True, kw_only=True)
class LookerApi:
    """What these routes need; `door` lets operators in and renders refusals."""

    door: ServersApi
    changes: ChangeUseCases
    observations: ObservationUseCases
    figures: FigureUseCases
    previews: PreviewUseCases
    exports: ExportUseCases

    async def list_changes(self, call: OperatorCall) -> web.Response:
        """Give what changed since a number; with `wait`, once something did."""
        page = await self.changes.since(
            call.vault.id,
            _whole(call.query, "since", 0, NUMBER_MAX),
            limit=max(_whole(call.query, "limit", PAGE, PAGE_MAX), 1),
            wait_seconds=_whole(call.query, "wait", 0, WAIT_SECONDS_MAX),
        )
        return _json(changes_body(page))

    async def list_inventories(self, call: OperatorCall) -> web.Response:
        """Give when each server's inventory was told, and whether that is stale."""
        found = await self.observations.servers(call.vault)
        return _json({"inventories": [server_body(each) for each in found]})

    async def list_machines(self, call: OperatorCall) -> web.Response:
        """Give the newest view of every machine."""
        found = await self.observations.machines(call.vault)
        return _json({"machines": [machine_body(each) for each in found]})

    async def list_items(self, call: OperatorCall) -> web.Response:
        """Give every protected item with both copies as they were last seen."""
        found = await self.observations.items(call.vault)
        return _json({"items": [item_body(each) for each in found]})

    async def get_item(self, call: OperatorCall) -> web.Response:
        """Give one protected item."""
        return _json(item_body(await self.observations.item(call.vault, call.names["item_id"])))

    async def list_figures(self, call: OperatorCall) -> web.Response:
        """Give figures of an item over time; what was not observed is absent."""
        metric = _choice(call.query, "metric", Metric, None)
        resolution = _choice(call.query, "resolution", Resolution, Resolution.HOUR)
        between = (_moment(call.query, "from"), _moment(call.query, "to"))
        found = await self.figures.figures(
            call.vault, call.names["item_id"], metric, resolution, between
        )
        return _json(
            {
                "item_id": call.names["item_id"],
                "metric": metric.value,
                "resolution": resolution.value,
                "figures": [figure_body(each) for each in found.figures],
                "observed": [stamp_body(*each) for each in found.observed],
            }
        )

    async def get_progress(self, call: OperatorCall) -> web.Response:
        """Give how far a job is, beside how long its tasks usually take."""
        job_id = call.names["job_id"]
        progress = await self.observations.progress(call.vault, job_id)
        receipts = RECEIPTS.format(vault_id=call.vault.id, job_id=progress.job.id)
        return _json(progress_body(progress, receipts))

    async def list_receipts(self, call: OperatorCall) -> web.Response:
        """Give what was read back for a job, or for one of its tasks."""
        found = await self.observations.receipts(
            call.vault, call.names["job_id"], call.names.get("task_id")
        )
        return _json({"receipts": [receipt_body(each) for each in found]})

    async def preview(self, call: OperatorCall) -> web.Response:
        """Give what an operation would do; nothing is changed, so that readers may ask."""
        body = call.body
        unknown = set(body) - {*_ARGUMENTS, "operation", "target", PLAN, GROUPS}
        if unknown:
            raise InvalidRequestError(
                f"The property '{min(unknown)}' is not known.", str(min(unknown))
            )
        operation, plan = _text(body, "operation"), _text(body, PLAN)
        target = _text(body, "target") if plan is None else plan
        if operation is None or target is None:
            missing = "target" if operation else "operation"
            raise InvalidRequestError(f"The property '{missing}' must be a text.", missing)
        if GROUPS in body and not body.keys().isdisjoint(_TEST_NETWORKS):
            raise InvalidRequestError(
                "A test in a network is one of a machine or of a saved plan: name it in 'target' or"
                " in 'plan'.",
                GROUPS,
            )
        if plan is not None and ("target" in body or GROUPS in body):
            raise InvalidRequestError(
                "Name a saved plan in 'plan', or groups of machines in 'target' and 'groups'.", PLAN
            )
        arguments = {
            name: value
            for each, name in _ARGUMENTS.items()
            if (value := _argument(body, each)) is not None
        }
        arguments = _in_network(operation, arguments)
        if plan is not None:
            told = await self.previews.preview_saved_plan(call.vault, operation, plan, arguments)
        elif GROUPS in body:
            groups = plan_groups(body[GROUPS])
            told = await self.previews.preview_plan(
                call.vault, operation, target, groups, arguments
            )
        else:
            told = await self.previews.preview(call.vault, operation, target, arguments)
        return _json(preview_body(told))

    async def export(self, request: web.Request) -> web.StreamResponse:
        """Give jobs as they are read, JSON or CSV, however many there are."""
        try:
            call = await self.door.call_of(request, Right.READ)
            wanted = ExportFilter(
                _moment(call.query, "from"),
                _moment(call.query, "to"),
                _state(call.query),
            )
            form = call.query.get("format", "json")
            if form not in {"json", "csv"}:
                raise InvalidRequestError("The parameter 'format' must be json or csv.", "format")
        except DomainError as error:
            return refusal_of(error)
        response = web.StreamResponse(headers=_HEADERS)
        response.content_type = "application/json" if form == "json" else "text/csv"
        response.charset = "utf-8"
        await response.prepare(request)
        await response.write(b'{"jobs": [' if form == "json" else _row(EXPORTED))
        first = True
        async for job in self.exports.jobs(call.vault, wanted):
            body = exported_body(job)
            if form == "json":
                separator = "\n" if first else ",\n"
                await response.write((separator + json.dumps(body)).encode())
            else:
                await response.write(_row([body[name] for name in EXPORTED]))
            first = False
        if form == "json":
            # Missing where the export broke off: then what came is no JSON.
            await response.write(b"\n]}\n")
        await response.write_eof()
        return response


def looker_routes(api: LookerApi) -> list[GuardedRoute]:
    """Return the whole surface; read this to know it."""
    reading = {
        CHANGES: api.list_changes,
        INVENTORIES: api.list_inventories,
        MACHINES: api.list_machines,
        ITEMS: api.list_items,
        ITEM: api.get_item,
        FIGURES: api.list_figures,
        PROGRESS: api.get_progress,
        RECEIPTS: api.list_receipts,
        TASK_RECEIPTS: api.list_receipts,
    }
    return [
        GuardedRoute("GET", EXPORT, api.export, Right.READ),
        *(api.door.route("GET", path, use, Right.READ) for path, use in reading.items()),
        api.door.route("POST", PREVIEW, api.preview, Right.READ, body_bytes_max=PREVIEW_BYTES_MAX),
    ]


_ARGUMENTS: Final = {
    "direction": "failover_direction",
    "source_operations_required": "source_operations_required",
    "network_id": "network_id",
    LOGICAL_NETWORK: LOGICAL_NETWORK,
    "policy": "policy",
    "reason": "comments",
    "other_copy_lost": "other_copy_lost",
}
"""Properties of a preview, and the arguments of the operation that they stand for."""


_TEST_NETWORKS: Final = ("network_id", LOGICAL_NETWORK)
_SWITCHES: Final = frozenset({"source_operations_required", "other_copy_lost"})


def _in_network(operation: str, arguments: dict[str, str | bool]) -> dict[str, Any]:
    """Return the arguments of a test, which takes place in one network, or in ones made on it.

    The network is looked at as when the test begins: 7004 and 25080 are the preview's refusal too.
    """
    network_id, logical_id = arguments.get("network_id"), arguments.get(LOGICAL_NETWORK)
    if operation.lower() != Operation.TEST_FAILOVER.value.lower() or not (network_id or logical_id):
        return arguments
    if network_id and logical_id:
        raise InvalidRequestError(
            f"Name a VM network in 'network_id' or a logical network in '{LOGICAL_NETWORK}'.",
            LOGICAL_NETWORK,
        )
    rest = {name: value for name, value in arguments.items() if name not in _TEST_NETWORKS}
    named = {"network_id": network_id or logical_id, "logical": logical_id is not None}
    return {**rest, TEST_NETWORK: named}


def _argument(body: Mapping[str, Any], name: str) -> str | bool | None:
    if name not in _SWITCHES:
        return _text(body, name)
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidRequestError(f"The property '{name}' must be true or false.", name)
    return value


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= TEXT_MAX:
        raise InvalidRequestError(
            f"The property '{name}' must be a text of at most {TEXT_MAX} characters.", name
        )
    return value


def _whole(query: Mapping[str, str], name: str, default: int, highest: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > len(str(highest)):
        raise InvalidRequestError(
            f"The parameter '{name}' must be a whole number up to {highest}.", name
        )
    return min(int(text), highest)


def _moment(query: Mapping[str, str], name: str) -> datetime | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequestError(
            f"The parameter '{name}' must be a time such as 2026-01-31T12:00:00Z.", name
        ) from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def _choice(
    query: Mapping[str, str], name: str, kind: type[_CHOICE], default: _CHOICE | None
) -> _CHOICE:
    text = query.get(name)
    if text is None and default is not None:
        return default
    for each in kind:
        if text is not None and each.value.lower() == text.lower():
            return each
    names = ", ".join(each.value for each in kind)
    raise InvalidRequestError(f"The parameter '{name}' must be one of: {names}.", name)


def _state(query: Mapping[str, str]) -> str | None:
    if "state" not in query:
        return None
    return _choice(query, "state", JobState, None).value


def _row(values: Any) -> bytes:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\r\n").writerow([_cell(each) for each in values])
    return stream.getvalue().encode()


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _json(body: dict[str, Any]) -> web.Response:
    return web.Response(
        status=HTTPStatus.OK,
        body=json.dumps(body).encode(),
        content_type="application/json",
        headers=_HEADERS,
    )
