"""What each of the hub's own routes takes and answers: one row for each, read by openapi.py.

A route without a row, and a row without a route, are found by tests/tidy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel, create_model

from service_hub.domain.injections import InjectionKind
from service_hub.domain.jobs import JobState
from service_hub.domain.records import Alert, PendingApproval
from service_hub.domain.rollups import Metric, Resolution
from service_hub.hub_api import (
    account_routes,
    audit_routes,
    authority_routes,
    injection_routes,
    looker_routes,
    offer_routes,
    override_routes,
    plan_routes,
    routes,
    server_routes,
    shapes,
    trust_routes,
    waiting_routes,
)
from service_hub.hub_api import looker_shapes as looking
from wire_contract.plan_documents import PlanDocument

JSON: Final = "application/json"
YAML: Final = "application/yaml"
OWN: Final = ("/hub/v1/", "/health")
"""How the hub's own paths begin; the others are those of the dialect and of its logins."""

OPENAPI: Final = "/hub/v1/openapi.json"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query; `schema` is JSON Schema."""

    name: str
    schema: Mapping[str, Any]
    required: bool = False


@dataclass(frozen=True, slots=True)
class Described:
    """An operation: its id, what it does, what it takes and what it answers where all is well.

    `answers` are models by content type; None: text without a shape.
    """

    name: str
    summary: str
    answers: Mapping[str, type[BaseModel] | None]
    status: HTTPStatus = HTTPStatus.OK
    query: tuple[Parameter, ...] = ()
    body: type[BaseModel] | None = None
    body_types: tuple[str, ...] = (JSON,)
    also: Mapping[HTTPStatus, type[BaseModel]] | None = None
    """Further answers without an error."""


def _without(record: type[BaseModel], name: str, *hidden: str) -> Any:
    """Return the model of a record as it is shown, without some of its fields."""
    shown: dict[str, Any] = {
        each: (field.annotation, ... if field.is_required() else field.default)
        for each, field in record.model_fields.items()
        if each not in hidden
    }
    return create_model(name, __base__=shapes.Shape, **shown)


def _list_of(name: str, part: str, shown: Any) -> type[BaseModel]:
    """Return the model of an answer that is a list."""
    fields: dict[str, Any] = {part: (list[shown], ...)}
    return create_model(name, __base__=shapes.Shape, **fields)


_Alert: Final = _without(Alert, "AlertShown", "vault_id")
_Approval: Final = _without(
    PendingApproval, "ApprovalShown", "request_pem", "chain_pem", "vault_id"
)


def _json(answer: type[BaseModel]) -> dict[str, type[BaseModel] | None]:
    return {JSON: answer}


def _one_of(values: Any) -> dict[str, Any]:
    return {"type": "string", "enum": [str(each) for each in values]}


def _whole(highest: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": 0, "maximum": highest}


_TEXT: Final = {"type": "string", "minLength": 1}
_TIME: Final = {"type": "string", "format": "date-time"}
_BETWEEN: Final = (Parameter("from", _TIME), Parameter("to", _TIME))
_AFTER: Final = (Parameter("after", {"type": "string", "pattern": r"^[0-9]+\.[0-9]+$"}),)

_TRUST: Final[Mapping[tuple[str, str], Described]] = {
    ("GET", routes.HEALTH): Described("health", "Is it there", _json(shapes.HealthShown)),
    ("GET", routes.TRUST_ROOT): Described(
        "trustRoot", "The roots that clients pin, as PEM", {"application/x-pem-file": None}
    ),
    ("GET", routes.VAULTS): Described("listVaults", "Vaults and their ids", _json(shapes.Vaults)),
    ("GET", OPENAPI): Described("openapi", "This document", {JSON: None}),
    ("POST", server_routes.KEYS): Described(
        "createRegistrationKey",
        "Make a vault credentials file; the only time that its private key is seen",
        {server_routes.CREDENTIALS_TYPE: None},
        HTTPStatus.CREATED,
        body=shapes.KeyWanted,
    ),
    ("GET", server_routes.KEYS): Described(
        "listRegistrationKeys", "Registration keys, without their secrets", _json(shapes.Keys)
    ),
    ("POST", server_routes.REVOKE_KEY): Described(
        "revokeRegistrationKey", "Let a key enrol nobody any more", _json(shapes.KeyShown)
    ),
    ("GET", server_routes.SERVERS): Described(
        "listServers", "Registered servers", _json(shapes.Servers)
    ),
    ("POST", trust_routes.REVOKE): Described(
        "revokeServer", "Revoke all certificates of a server", _json(shapes.Revoked)
    ),
    ("GET", trust_routes.APPROVALS): Described(
        "listApprovals",
        "Requests of servers that are known already",
        _json(_list_of("Approvals", "approvals", _Approval)),
    ),
    ("POST", trust_routes.APPROVE): Described(
        "approve", "Let a new key take a server over", _json(_Approval)
    ),
    ("POST", trust_routes.REJECT): Described(
        "reject", "Refuse a new key for good", _json(_Approval)
    ),
    ("POST", trust_routes.SIGNATURES_REQUIRE): Described(
        "requireSignatures",
        "Have destructive operations want an operator's signature",
        _json(shapes.SignatureRequired),
    ),
    ("POST", trust_routes.SIGNATURES_RELEASE): Described(
        "releaseSignatures", "Ask for no signature any more", _json(shapes.SignatureRequired)
    ),
    ("GET", trust_routes.ALERTS): Described(
        "listAlerts", "What was raised about servers", _json(_list_of("Alerts", "alerts", _Alert))
    ),
    ("GET", audit_routes.VAULT_AUDIT): Described(
        "vaultAudit",
        "A vault's audit log, a line for each request",
        {audit_routes.LINES_TYPE: shapes.AuditLineShown},
        query=_AFTER,
    ),
    ("GET", audit_routes.HUB_AUDIT): Described(
        "hubAudit",
        "The hub's own audit log",
        {audit_routes.LINES_TYPE: shapes.AuditLineShown},
        query=_AFTER,
    ),
}

_ACCOUNTS: Final[Mapping[tuple[str, str], Described]] = {
    ("POST", account_routes.ACCOUNTS): Described(
        "createServiceAccount",
        "Make a service account; the only time that its secret is seen",
        _json(shapes.AccountMade),
        HTTPStatus.CREATED,
        body=shapes.AccountWanted,
    ),
    ("GET", account_routes.ACCOUNTS): Described(
        "listServiceAccounts", "Service accounts, without their secrets", _json(shapes.Accounts)
    ),
    ("POST", account_routes.ROTATE): Described(
        "rotateSecret",
        "Give a service account a new secret",
        _json(shapes.AccountMade),
        body=shapes.SecretWanted,
    ),
    ("DELETE", account_routes.ACCOUNT): Described(
        "removeServiceAccount",
        "Remove a service account; its tokens are worth nothing any more",
        {},
        HTTPStatus.NO_CONTENT,
    ),
    ("POST", account_routes.REVOKE_TOKEN): Described(
        "revokeToken", "Revoke a token by its id (claim jti)", _json(shapes.TokenRevoked)
    ),
}

_LOOKING: Final[Mapping[tuple[str, str], Described]] = {
    ("GET", looker_routes.CHANGES): Described(
        "listChanges",
        "What changed above a change number",
        _json(looking.Changes),
        query=(
            Parameter("since", _whole(looker_routes.NUMBER_MAX)),
            Parameter("limit", _whole(looker_routes.PAGE_MAX)),
            Parameter("wait", _whole(looker_routes.WAIT_SECONDS_MAX)),
        ),
    ),
    ("GET", looker_routes.INVENTORIES): Described(
        "listInventories", "When each server's inventory was told", _json(looking.Inventories)
    ),
    ("GET", looker_routes.MACHINES): Described(
        "listMachines", "The newest view of every machine", _json(looking.Machines)
    ),
    ("GET", looker_routes.ITEMS): Described(
        "listItems", "Protected items with both copies", _json(looking.Items)
    ),
    ("GET", looker_routes.ITEM): Described(
        "getItem", "One protected item", _json(looking.ItemShown)
    ),
    ("GET", looker_routes.FIGURES): Described(
        "listFigures",
        "Figures of an item over time",
        _json(looking.Figures),
        query=(
            Parameter("metric", _one_of(Metric), required=True),
            Parameter("resolution", _one_of(Resolution)),
            *_BETWEEN,
        ),
    ),
    ("GET", looker_routes.EXPORT): Described(
        "exportJobs",
        "Jobs with tasks and errors, sent as they are read",
        {JSON: looking.Export, "text/csv": None},
        query=(
            *_BETWEEN,
            Parameter("state", _one_of(JobState)),
            Parameter("format", _one_of(("json", "csv"))),
        ),
    ),
    ("GET", looker_routes.PROGRESS): Described(
        "getProgress", "How far a job is", _json(looking.Progress)
    ),
    ("GET", looker_routes.RECEIPTS): Described(
        "listReceipts", "What was read back for a job", _json(looking.Receipts)
    ),
    ("GET", looker_routes.TASK_RECEIPTS): Described(
        "listTaskReceipts", "What was read back for a task", _json(looking.Receipts)
    ),
    ("POST", looker_routes.PREVIEW): Described(
        "preview",
        "What an operation would do",
        _json(looking.PreviewShown),
        body=looking.PreviewWanted,
    ),
    ("GET", offer_routes.OFFERS): Described(
        "listNetworkOffers",
        "What a network may be mapped to",
        _json(shapes.Offers),
        query=tuple(Parameter(name, _TEXT, required=True) for name in offer_routes.ASKED),
    ),
    ("GET", waiting_routes.WAITING): Described(
        "listWaiting", "Everything that is not final", _json(shapes.WaitingList)
    ),
}

_ACTING: Final[Mapping[tuple[str, str], Described]] = {
    ("GET", authority_routes.QUESTIONS): Described(
        "listAuthorityQuestions", "Machines whose authority is in question", _json(shapes.Questions)
    ),
    ("POST", authority_routes.DECIDE): Described(
        "decideAuthority",
        "Make one end authoritative",
        _json(shapes.Question),
        body=shapes.Decision,
    ),
    ("POST", override_routes.OVERRIDE): Described(
        "overrideFence",
        "Let the former source start again, the other copy fenced first or declared lost",
        _json(shapes.OverrideTaken),
        HTTPStatus.ACCEPTED,
        body=shapes.OverrideWanted,
    ),
    ("POST", injection_routes.INJECTIONS): Described(
        "inject",
        f"Inject an event ({len(InjectionKind)} kinds); dry runs are answered 200",
        _json(shapes.InjectionTaken),
        HTTPStatus.ACCEPTED,
        body=shapes.InjectionWanted,
        also={HTTPStatus.OK: looking.Foreseen},
    ),
    ("GET", injection_routes.INJECTIONS): Described(
        "listInjections", "All injected events", _json(shapes.Injections)
    ),
    ("GET", injection_routes.INJECTION): Described(
        "getInjection", "One injected event", _json(shapes.InjectionShown)
    ),
    ("POST", injection_routes.CANCEL): Described(
        "cancelInjection", "Have nothing more come of an event", _json(shapes.InjectionShown)
    ),
    ("GET", plan_routes.EXPORT): Described(
        "exportPlan",
        "A recovery plan as a document",
        {JSON: PlanDocument, YAML: None},
        query=(Parameter("format", _one_of(("json", "yaml"))),),
    ),
    ("POST", plan_routes.IMPORT): Described(
        "importPlan",
        "Save the plan of a document",
        _json(shapes.PlanTaken),
        HTTPStatus.ACCEPTED,
        body=PlanDocument,
        body_types=(JSON, YAML),
    ),
}

OPERATIONS: Final[Mapping[tuple[str, str], Described]] = {
    **_TRUST,
    **_ACCOUNTS,
    **_LOOKING,
    **_ACTING,
}
"""Every route of the hub's own, by method and path."""
