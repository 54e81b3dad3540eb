"""A job's log: every event that it was decided on, as text; pure.

Entry 0 holds the job as it was made, each further one an event. Readers take older versions up to
the present form, so that the log of an earlier release still replays (tests/fixtures/job_logs).
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, Final, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from service_hub.domain.decide import decide
from service_hub.domain.errors import DamagedLogError
from service_hub.domain.job_document import job_document
from service_hub.domain.jobs import Event, Job

VERSION: Final = 1
"""Of the entries written now."""

ENTRY_CHARACTERS_MAX: Final = 1_048_576
"""Longest entry that is read: a job with its facts stays far below."""

_TYPES: Final[Mapping[str, type[Event]]] = {kind.__name__: kind for kind in get_args(Event)}
_ADAPTERS: Final[Mapping[type[Event], TypeAdapter[Event]]] = {
    kind: TypeAdapter(kind) for kind in get_args(Event)
}
_WRITERS: Final = {kind: adapter.serializer.to_json for kind, adapter in _ADAPTERS.items()}
_FIELDS: Final[Mapping[type[Event], frozenset[str]]] = {
    kind: frozenset(each.name for each in fields(kind)) for kind in get_args(Event)
}
_JOB: Final = "Job"


def encode(event: Event) -> str:
    """Return an event as an entry of the log: JSON with "v" and "type"."""
    kind = type(event)
    body = _WRITERS[kind](event).decode()
    return f'{{"v":{VERSION},"type":"{kind.__name__}",{body[1:]}'


def decode(text: str) -> Event:
    """Return the event of an entry, of this version or an older one; DamagedLogError."""
    name, body = _opened(text)
    kind = _TYPES.get(name)
    if kind is None:
        msg = f"an entry of the job log has the unknown type {name[:40]!r}"
        raise DamagedLogError(msg)
    unknown = body.keys() - _FIELDS[kind]
    if unknown:
        msg = f"a {name} of the job log has the unknown field {min(unknown)[:40]!r}"
        raise DamagedLogError(msg)
    try:
        return _ADAPTERS[kind].validate_python(body)
    except (ValidationError, RecursionError) as error:
        raise DamagedLogError(_reason(name, error)) from error


def encode_first(job: Job) -> str:
    """Return entry 0: the job as it was made."""
    return first_entry(job_document(job))


def first_entry(document: str) -> str:
    """Return entry 0 of a job of which this is the text."""
    return f'{{"v":{VERSION},"type":"{_JOB}","job":{document}}}'


def decode_first(text: str) -> Job:
    """Return the job of entry 0; DamagedLogError."""
    name, body = _opened(text)
    if name != _JOB or body.keys() != {"job"}:
        msg = f"the job log does not begin with the job as it was made, but with {name[:40]!r}"
        raise DamagedLogError(msg)
    try:
        return Job.model_validate(body["job"])
    except (ValidationError, RecursionError) as error:
        raise DamagedLogError(_reason(name, error)) from error


def replay(first: Job, events: Iterable[Event]) -> Job:
    """Return the job as these events leave it; what was commanded then is not commanded again."""
    job = first
    for event in events:
        job, _ = decide(job, event)
    return job


def _opened(text: str) -> tuple[str, dict[str, Any]]:
    if len(text) > ENTRY_CHARACTERS_MAX:
        msg = f"an entry of the job log has more than {ENTRY_CHARACTERS_MAX} characters"
        raise DamagedLogError(msg)
    try:
        body = from_json(text)
    except ValueError as error:
        msg = f"an entry of the job log is no JSON: {error}"
        raise DamagedLogError(msg) from error
    if not isinstance(body, dict):
        msg = "an entry of the job log is no JSON object"
        raise DamagedLogError(msg)
    version, name = body.pop("v", None), body.pop("type", None)
    if not isinstance(version, int) or isinstance(version, bool) or not isinstance(name, str):
        msg = "an entry of the job log names no version or no type"
        raise DamagedLogError(msg)
    if not 1 <= version <= VERSION:
        msg = f"an entry of the job log has version {version}; this hub reads 1 to {VERSION}"
        raise DamagedLogError(msg)
    return name, body


def _reason(name: str, error: Exception) -> str:
    first = error.errors()[0] if isinstance(error, ValidationError) else None
    detail = f"{first['loc']}: {first['msg']}" if first else "it is nested too deep"
    return f"a {name} of the job log cannot be read: {detail}"
