"""How attempts end: the outcome reports, with the provider's own error codes."""

from collections.abc import Mapping
from datetime import datetime
from enum import IntEnum
from typing import Any, Final

from pydantic import JsonValue

from provider_agent.domain.inbox import Verdict
from provider_agent.domain.read_back import ReadBack
from wire_contract.events import Assignment, Withdrawal
from wire_contract.reports import ProviderError, TaskOutcome
from wire_contract.vmm_interface import Problem

MESSAGE_CHARACTERS_MAX: Final = 2000


class ErrorCode(IntEnum):
    """Codes of the provider itself; a fabric's own codes are passed on as they are."""

    POST_CONDITION = 90001
    WITHDRAWN = 90002
    EXPIRED = 90003
    FABRIC_UNREACHABLE = 90004
    FABRIC_ANSWER = 90005
    HOST_CERTIFICATES = 90006
    NOT_ORDERED = 90007
    SCRIPT_PATH = 90070
    SCRIPT_MISSING = 90071
    SCRIPT_NOT_RUNNABLE = 90072
    SCRIPT_FAILED = 90073
    SCRIPT_TIMED_OUT = 90074
    SCRIPT_OUTPUT = 90075
    SCRIPT_INTERRUPTED = 90076


class AttemptError(Exception):
    """An attempt ends as failed, with this error and what is known of the fabric's state."""

    def __init__(
        self, error: ProviderError, observed: Mapping[str, JsonValue] | None = None
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.observed = observed or {}


def succeeded(
    assignment: Assignment, report_id: str, now: datetime, observed: Mapping[str, JsonValue]
) -> TaskOutcome:
    """Return a success; `observed` proves it."""
    return _outcome(assignment, report_id, now, observed, None)


def failed(
    assignment: Assignment,
    report_id: str,
    now: datetime,
    error: ProviderError,
    observed: Mapping[str, JsonValue],
) -> TaskOutcome:
    """Return a failure, with what is known of the fabric's state."""
    return _outcome(assignment, report_id, now, observed, error)


def observed_facts(result: Mapping[str, JsonValue], seen: ReadBack) -> dict[str, JsonValue]:
    """Return the verb's result and what was read back, as JSON."""
    facts: dict[str, Any] = {"result": dict(result)}
    if seen.machine is not None:
        facts["machine"] = seen.machine.model_dump(mode="json")
    if seen.cloud is not None:
        facts["cloud"] = seen.cloud.model_dump(mode="json")
        facts["hosts"] = [host.model_dump(mode="json") for host in seen.hosts]
    return facts


def of_problem(problem: Problem) -> ProviderError:
    """Return the fabric's refusal in its own words."""
    return ProviderError(
        code=problem.code,
        message=problem.message[:MESSAGE_CHARACTERS_MAX],
        possible_causes=problem.possible_causes[:MESSAGE_CHARACTERS_MAX],
        recommended_action=problem.recommended_action[:MESSAGE_CHARACTERS_MAX],
    )


def own_error(
    code: ErrorCode, message: str, causes: str = "", recommended_action: str = ""
) -> ProviderError:
    """Return an error that the provider found itself."""
    return ProviderError(
        code=int(code),
        message=message[:MESSAGE_CHARACTERS_MAX],
        possible_causes=causes,
        recommended_action=recommended_action,
    )


def withdrawn_outcome(verdict: Verdict, report_id: str, now: datetime) -> TaskOutcome | None:
    """Return the outcome of a command that was withdrawn before it began, if there is one."""
    if verdict.withdrawn is None:
        return None
    error = own_error(ErrorCode.WITHDRAWN, "the task was withdrawn before it began")
    return _outcome(verdict.withdrawn, report_id, now, {}, error)


def _outcome(
    attempt: Assignment | Withdrawal,
    report_id: str,
    now: datetime,
    observed: Mapping[str, JsonValue],
    error: ProviderError | None,
) -> TaskOutcome:
    return TaskOutcome(
        report_id=report_id,
        job=attempt.job,
        task=attempt.task,
        attempt=attempt.attempt,
        succeeded=error is None,
        observed=dict(observed),
        observed_at=now,
        error=error,
    )
