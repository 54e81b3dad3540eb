"""Typed errors become ARM error bodies here, and nowhere else."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from service_hub.arm.calls import Answer
from service_hub.domain.access import ForbiddenError
from service_hub.domain.errors import (
    ConflictError,
    DomainError,
    InvalidRequestError,
    IssuerUnavailableError,
    JobRequestRefusedError,
    NotFoundError,
    OperationNotAllowedError,
    PreconditionFailedError,
    SignatureRequiredError,
    StaleVersionError,
    StorageUnavailableError,
    UnauthenticatedError,
)
from service_hub.ports.use_cases import RequestIdentity


class NotImplementedHereError(DomainError):
    """The dialect has this operation, this version of the hub doesn't; says what to do instead."""


class OperationNotSupportedError(DomainError):
    """The operation belongs to another kind of replication and will not come."""


class UnknownPathError(DomainError):
    """No operation has this method and path."""


class BodyTooLargeError(DomainError):
    """The body is longer than any request of the dialect."""


class BrokenRequestError(DomainError):
    """The request ended early, came too slowly, or its encoding is broken."""


@dataclass(frozen=True, slots=True)
class _Kind:
    status: HTTPStatus
    code: str


# Errors of this surface never carry Retry-After: the SDK would send the request again (arm-api.md,
# section 3). 5xx is only for our own faults.
_KINDS: dict[type[DomainError], _Kind] = {
    InvalidRequestError: _Kind(HTTPStatus.BAD_REQUEST, "InvalidRequest"),
    BrokenRequestError: _Kind(HTTPStatus.BAD_REQUEST, "InvalidRequest"),
    OperationNotSupportedError: _Kind(HTTPStatus.BAD_REQUEST, "OperationNotSupported"),
    UnauthenticatedError: _Kind(HTTPStatus.UNAUTHORIZED, "InvalidAuthenticationToken"),
    ForbiddenError: _Kind(HTTPStatus.FORBIDDEN, "AuthorizationFailed"),
    SignatureRequiredError: _Kind(HTTPStatus.FORBIDDEN, "OperatorSignatureRequired"),
    NotFoundError: _Kind(HTTPStatus.NOT_FOUND, "NotFound"),
    UnknownPathError: _Kind(HTTPStatus.NOT_FOUND, "InvalidResourceType"),
    ConflictError: _Kind(HTTPStatus.CONFLICT, "Conflict"),
    OperationNotAllowedError: _Kind(HTTPStatus.CONFLICT, "OperationNotAllowed"),
    StaleVersionError: _Kind(HTTPStatus.CONFLICT, "Conflict"),
    PreconditionFailedError: _Kind(HTTPStatus.PRECONDITION_FAILED, "PreconditionFailed"),
    BodyTooLargeError: _Kind(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "RequestEntityTooLarge"),
    NotImplementedHereError: _Kind(HTTPStatus.NOT_IMPLEMENTED, "NotImplemented"),
    JobRequestRefusedError: _Kind(HTTPStatus.CONFLICT, "Conflict"),
    IssuerUnavailableError: _Kind(HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailable"),
    StorageUnavailableError: _Kind(HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailable"),
}
_OTHER = _Kind(HTTPStatus.BAD_REQUEST, "InvalidRequest")


def error_answer(error: DomainError, identity: RequestIdentity) -> Answer:
    """Return what a caller is told about its own mistake."""
    kind = next((_KINDS[each] for each in type(error).__mro__ if each in _KINDS), _OTHER)
    content: dict[str, Any] = {"code": kind.code, "message": str(error)}
    headers = {}
    match error:
        case InvalidRequestError(target=str() as target):
            content["target"] = target
        case JobRequestRefusedError(code=code):
            content["code"] = code
        case NotFoundError():
            content["details"] = [_not_found_detail(str(error), identity)]
        case UnauthenticatedError():
            # No claims challenge: the SDK would ask for another token and try again.
            headers = {"WWW-Authenticate": "Bearer"}
        case _:
            pass
    return Answer(kind.status, {"error": content}, headers)


def fault_answer(reference: str) -> Answer:
    """Return what a caller is told about our own mistake: where to find it in the log."""
    return Answer(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        {
            "error": {
                "code": "InternalServerError",
                "message": "The hub failed to answer. Its log has the cause under the reference"
                f" {reference}.",
            }
        },
    )


def _not_found_detail(message: str, identity: RequestIdentity) -> dict[str, str]:
    # As recorded (recorded.md, section 0).
    return {
        "code": "ArmResourceDoesNotExist",
        "message": message,
        "possibleCauses": "Ensure correct resource name was specified.",
        "recommendedAction": "Verify ARM resource name details.",
        "clientRequestId": identity.client_request_id,
        "activityId": identity.correlation_id,
    }
