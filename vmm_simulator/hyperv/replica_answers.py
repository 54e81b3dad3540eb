"""How a replication port answers: statuses, bodies, refusals; pure."""

from http import HTTPStatus
from typing import Final

from vmm_simulator.hyperv.backend import BackendStateError, TransferRefusedError
from vmm_simulator.hyperv.disk_errors import ROOM_ERRORS, is_of_disks
from vmm_simulator.hyperv.frames import FrameError
from vmm_simulator.hyperv.http1 import HttpError
from vmm_simulator.hyperv.transfer_header import encode_refusal
from vmm_simulator.problems import Code

Answer = tuple[HTTPStatus, bytes, str]
JSON: Final = "application/json"
BYTES: Final = "application/octet-stream"
_DENIED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


def refusal_answer(
    error: HttpError | TransferRefusedError | FrameError | BackendStateError,
) -> Answer:
    """Return how a request is refused."""
    if isinstance(error, HttpError):
        code = Code.ACCESS_DENIED if error.status in _DENIED else Code.INVALID_PARAMETER
        refused = TransferRefusedError(code, str(error))
        return error.status, encode_refusal(refused), JSON
    if isinstance(error, FrameError):
        refused = TransferRefusedError(Code.INVALID_PARAMETER, f"the transfer is damaged: {error}")
        return HTTPStatus.BAD_REQUEST, encode_refusal(refused), JSON
    if isinstance(error, BackendStateError):
        error = TransferRefusedError(Code.INVALID_STATE, str(error))
    return HTTPStatus.CONFLICT, encode_refusal(error), JSON


def failure_answer(error: OSError) -> Answer:
    """Return how an error of this host's disks is told."""
    status = HTTPStatus.SERVICE_UNAVAILABLE
    if error.errno in ROOM_ERRORS:
        status = HTTPStatus.INSUFFICIENT_STORAGE
    code = Code.FAILED if is_of_disks(error) else Code.NOT_AVAILABLE
    refused = TransferRefusedError(code, f"the replica host could not take it: {error}")
    return status, encode_refusal(refused), JSON
