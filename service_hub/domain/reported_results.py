"""What a provider's report of success must say, or it is none; pure.

Facts that a later task needs come from the verb's answer (docs/wire-contract.md, verbs). A provider
that reports success without them has not said what came of the task: the hub takes the report for
a failure, so that the job goes its documented way, and never begins what it could not send.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from service_hub.domain import errors
from service_hub.domain.checks import job_error, provider_error
from service_hub.domain.jobs import UNDO_SUFFIX, Job, PartFailed, PartSucceeded
from wire_contract.reports import ProviderError, TaskOutcome
from wire_contract.vocabulary import Side, Verb

_REPLICA: Final[Mapping[str, type]] = {"replica_host": str, "replica_port": int}

NEEDED: Final[Mapping[Verb, Mapping[str, type]]] = {
    Verb.PLACE_REPLICA: _REPLICA,
    Verb.PREPARE_REVERSE: _REPLICA,
    Verb.PREPARE_FAILOVER: {"last_cut": int},
    Verb.EXPORT_INITIAL_REPLICATION: {"folder": str},
}
"""What is needed of the answer of a verb; what is absent here may answer nothing."""


def ending_of(
    job: Job, report: TaskOutcome, task_id: str, side: Side, now: datetime
) -> PartSucceeded | PartFailed:
    """Return how an attempt ended by a provider's report, which may claim more than it proves."""
    name = job.target_object_name
    if not report.succeeded:
        words = report.error or ProviderError(code=0, message="the provider gave no reason")
        error = provider_error(words, now, name=name)
        return PartFailed(now, task_id, side, report.attempt, error)
    lacking = _lacking(job, task_id, report.observed)
    if lacking:
        told = ", ".join(lacking)
        error = job_error(errors.SUCCESS_WITHOUT_FACTS, now, name=name, detail=told)
        return PartFailed(now, task_id, side, report.attempt, error)
    return PartSucceeded(now, task_id, side, report.attempt, report.observed, report.observed_at)


def _lacking(job: Job, task_id: str, observed: Mapping[str, JsonValue]) -> list[str]:
    # A task that the job never had needs nothing: the job's own rules refuse its report.
    if task_id.endswith(UNDO_SUFFIX) or job.run(task_id) is None:
        return []
    verb = job.spec(task_id).verb
    needed = {} if verb is None else NEEDED.get(verb, {})
    result = observed.get("result")
    given = result if isinstance(result, dict) else {}
    return [name for name, kind in needed.items() if not _is(given.get(name), kind)]


def _is(value: JsonValue, kind: type) -> bool:
    # True is an int to Python, and an empty text names nothing.
    return isinstance(value, kind) and not isinstance(value, bool) and value != ""
