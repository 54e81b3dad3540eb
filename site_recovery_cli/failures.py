"""Every failure becomes one sentence with cause and remedy, and an exit code."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

import aiohttp
from azure.core.exceptions import HttpResponseError, ServiceRequestError, ServiceResponseError

from service_shell.errors import ProgramError
from site_recovery_cli.exit_codes import ExitCode

_BY_STATUS: Final = {
    HTTPStatus.UNAUTHORIZED: (
        ExitCode.NOT_LOGGED_IN,
        "get a new token and log in again: site-recovery login",
    ),
    HTTPStatus.FORBIDDEN: (
        ExitCode.NOT_PERMITTED,
        "log in with a token whose role may do this (Contributor for changes)",
    ),
    HTTPStatus.NOT_FOUND: (ExitCode.NOT_FOUND, "check the name with the list command"),
    HTTPStatus.NOT_IMPLEMENTED: (
        ExitCode.NOT_OFFERED,
        "upgrade the hub, or do what its message says instead",
    ),
}
_REFUSED: Final = (ExitCode.REFUSED, "mend what the message names and repeat the command")
_BROKEN: Final = (ExitCode.REFUSED, "look at the hub's log")


class CommandError(ProgramError):
    """A command could not do what it was asked; the message names cause and remedy."""

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message, exit_code=int(code))


def answer_error(what: str, status: int, message: str) -> CommandError:
    """Return what an operator is told about an answer that is an error."""
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.NOT_IMPLEMENTED:
        code, remedy = _BROKEN
    else:
        code, remedy = _BY_STATUS.get(HTTPStatus(status), _REFUSED)
    return CommandError(f"{what}: {message.rstrip(' .')} (HTTP {status}); {remedy}", code)


def unreachable(what: str, hub: str, cause: object) -> CommandError:
    """Return what an operator is told when no answer came."""
    text = str(cause) or type(cause).__name__
    if "CERTIFICATE_VERIFY_FAILED" in text or isinstance(
        cause, aiohttp.ClientConnectorCertificateError
    ):
        return CommandError(
            f"{what}: the certificate of {hub} is not signed by the trusted root ({text});"
            " a proxy that intercepts TLS shows this too; log in with the hub's own root.pem",
            ExitCode.NOT_REACHABLE,
        )
    return CommandError(
        f"{what}: {hub} does not answer ({text}); check the address, and that the hub runs",
        ExitCode.NOT_REACHABLE,
    )


@contextmanager
def explained(what: str, hub: str) -> Iterator[None]:
    """Turn errors of the SDK inside the block into a CommandError that begins with `what`."""
    try:
        yield
    except HttpResponseError as error:
        if error.status_code is None:
            raise unreachable(what, hub, error) from error
        raise answer_error(what, error.status_code, error_text(error)) from error
    except (ServiceRequestError, ServiceResponseError, aiohttp.ClientError, TimeoutError) as error:
        raise unreachable(what, hub, error) from error


def error_text(error: HttpResponseError) -> str:
    """Return the service's own sentence, without the SDK's decoration."""
    detail = getattr(error, "error", None)
    message = getattr(detail, "message", None)
    return str(message or error.reason or error.message)
