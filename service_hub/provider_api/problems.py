"""How refusals look on the wire: `{code, message, remedy}`, made in this one place."""

from collections.abc import Mapping
from typing import Final

import structlog
from aiohttp import web
from pydantic import ValidationError

from certs.identity import RequestRefusedError
from service_hub.domain.errors import (
    ApprovalPendingError,
    ConflictError,
    DomainError,
    EnrolmentRejectedError,
    InvalidRequestError,
    NotFoundError,
    OperationNotAllowedError,
    StaleVersionError,
    StorageUnavailableError,
    UnauthenticatedError,
)

RETRY_AFTER_SECONDS: Final = 1
UNAVAILABLE_RETRY_SECONDS: Final = 5
"""How long a server waits before it asks a hub again whose database cannot be used."""
APPROVAL_RETRY_SECONDS: Final = 5
"""How long a server waits before it asks again whether an operator has decided."""

MESSAGE_CHARACTERS_MAX: Final = 500

log = structlog.get_logger(__name__)


class ProblemError(Exception):
    """A refusal of the provider API with all that its body says."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        remedy: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.remedy = remedy
        self.headers = dict(headers or {})

    def response(self) -> web.Response:
        """Return the answer."""
        return web.json_response(
            {
                "code": self.code,
                "message": self.message[:MESSAGE_CHARACTERS_MAX],
                "remedy": self.remedy,
            },
            status=self.status,
            headers=self.headers,
        )


def invalid(message: str, remedy: str = "Correct the request.") -> ProblemError:
    """Return the refusal of a request that cannot mean anything (400)."""
    return ProblemError(400, "InvalidRequest", message, remedy)


def unauthenticated(message: str, remedy: str) -> ProblemError:
    """Return the refusal of a caller that has not proven who it is (401; RFC 6750, 3)."""
    headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    return ProblemError(401, "Unauthenticated", message, remedy, headers)


def forbidden(code: str, message: str, remedy: str) -> ProblemError:
    """Return the refusal of a caller that is known, but may not do this (403)."""
    return ProblemError(403, code, message, remedy)


def problem_of(error: Exception) -> ProblemError:
    """Return what the caller is told of an error; an unknown one is our own fault and is logged."""
    match error:
        case ProblemError():
            return error
        case ValidationError():
            return invalid(_first_fault(error), "Send what the wire contract says.")
        case RequestRefusedError():
            return invalid(str(error), "Make a new key and a new certificate request.")
        case web.HTTPException():
            return _of_http(error)
        case DomainError():
            is_approval = isinstance(error, ApprovalPendingError | EnrolmentRejectedError)
            return _of_approval(error) if is_approval else _of_domain(error)
    log.error("provider_request_failed", exc_info=error)
    return ProblemError(
        500, "InternalError", "The hub failed.", "Try again; if it stays, read the hub's log."
    )


def _of_domain(error: DomainError) -> ProblemError:
    match error:
        case InvalidRequestError():
            where = f"{error.target}: " if error.target else ""
            return invalid(f"{where}{error}")
        case UnauthenticatedError():
            return unauthenticated(str(error), "Fetch a new access token.")
        case NotFoundError():
            return ProblemError(404, "NotFound", str(error), "Check the name.")
        case ConflictError() | OperationNotAllowedError():
            return ProblemError(409, "Conflict", str(error), "Look at what exists, then decide.")
        case StaleVersionError() | StorageUnavailableError():
            return _not_now(error)
    return invalid(str(error))


def _not_now(error: StaleVersionError | StorageUnavailableError) -> ProblemError:
    if isinstance(error, StaleVersionError):
        return ProblemError(
            503,
            "Busy",
            "Something else changed the same at the same time.",
            "Send the same request again.",
            {"Retry-After": str(RETRY_AFTER_SECONDS)},
        )
    return ProblemError(
        503,
        "ServiceUnavailable",
        "The hub's database cannot be used at this moment; nothing was stored.",
        "Send the same request again; the hub's log has the cause.",
        {"Retry-After": str(UNAVAILABLE_RETRY_SECONDS)},
    )


def _of_approval(error: DomainError) -> ProblemError:
    if not isinstance(error, ApprovalPendingError):
        return forbidden(
            "EnrolmentRejected", str(error), "Ask the operators of the vault, then register anew."
        )
    # RFC 7030, section 4.2.3: 202 with Retry-After, and the same request is sent again.
    return ProblemError(
        202,
        "ApprovalPending",
        str(error),
        f"site-recovery server approve {error.approval_id}",
        {"Retry-After": str(APPROVAL_RETRY_SECONDS)},
    )


def _of_http(error: web.HTTPException) -> ProblemError:
    remedy = "See docs/channel.md for the paths and methods of the provider API."
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
    return ProblemError(error.status, error.reason.replace(" ", ""), error.reason, remedy, headers)


def _first_fault(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(each) for each in first["loc"])
    return f"{where or 'the body'}: {first['msg']}"
