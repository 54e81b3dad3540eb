"""The audit log: who asked for what, when, from where, and what came of it; pure.

A line is text that is never changed. Each carries a hash over itself and the line before it in the
same vault, so that a line that was changed, left out or put in between shows
(wire_contract.audit_chain).
"""

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

TEXT_CHARACTERS_MAX: Final = 1_024
"""Longest of each text that came with a request; more would only fill the log."""

HUB: Final = ""
"""The vault of what is asked of the hub itself, or of nobody knows what."""


class AuditEvent(StrEnum):
    """What a line tells."""

    CHANGE_STORED = "change_stored"
    """Stored in one transaction with the change that was asked for."""

    REQUEST_ANSWERED = "request_answered"
    """What came of a request that may change something, or was refused."""


@dataclass(frozen=True, slots=True)
class AskedRequest:
    """A request as the log tells it; nothing of its content, and no secret of its headers."""

    method: str
    target: str
    address: str
    correlation_id: str
    client_request_id: str = ""
    principal: str = ""
    roles: str = ""
    vault_id: str = HUB


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A line before it has its place."""

    vault_id: str
    at: datetime
    text: str


class AuditPlace(NamedTuple):
    """Where a line stands: the change it was stored with, and which of that change."""

    change: int
    position: int


@dataclass(frozen=True, slots=True)
class AuditLine:
    """A line as it is stored."""

    place: AuditPlace
    vault_id: str
    text: str
    hash: str


def entry_of(
    event: AuditEvent,
    asked: AskedRequest,
    now: datetime,
    *,
    status: int | None = None,
    code: str | None = None,
    job_id: str | None = None,
    unrecorded: int = 0,
    injection_id: str | None = None,
) -> AuditEntry:
    """Return a line; `unrecorded`: refusals of strangers before it that were only counted.

    `injection_id`: of the injected event by which the hub itself made the request.
    """
    told: dict[str, Any] = {
        "at": now.isoformat(),
        "event": event.value,
        "principal": _cut(asked.principal),
        "roles": asked.roles,
        "address": asked.address,
        "method": asked.method,
        "target": _cut(asked.target),
        "status": status,
        "error": code,
        "job_id": job_id,
        "correlation_id": asked.correlation_id,
        "client_request_id": _cut(asked.client_request_id),
    }
    if injection_id is not None:
        told["injection_id"] = injection_id
    if unrecorded:
        told["refusals_not_recorded"] = unrecorded
    # ASCII alone: whatever a stranger put into a path can be stored and printed.
    return AuditEntry(asked.vault_id.lower(), now, json.dumps(told, ensure_ascii=True))


def exported(line: AuditLine) -> dict[str, Any]:
    """Return a line as it is exported; `line` is the very text that the hash is over."""
    return {
        "number": f"{line.place.change}.{line.place.position}",
        "hash": line.hash,
        "line": line.text,
    }


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_CHARACTERS_MAX else text[:TEXT_CHARACTERS_MAX] + "..."
