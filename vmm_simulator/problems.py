"""Refusals of the simulated fabric, with the return codes of the field and their HTTP status."""

from enum import IntEnum
from typing import Final

from wire_contract.vmm_interface import Problem


class Code(IntEnum):
    """Return codes: those of WMI (behaviour 1.1.3), of Windows, and (9xxxx) our own."""

    FAILED = 32768
    NOT_SUPPORTED = 32770
    TIMEOUT = 32772
    INVALID_PARAMETER = 32773
    IN_USE = 32774
    INVALID_STATE = 32775
    NOT_AVAILABLE = 32777
    NOT_FOUND = 32779
    NO_CONNECTION = 0x2EFD
    ACCESS_DENIED = 32769
    LOWER_EPOCH = 91001
    LOWER_FENCE = 91002
    DEADLINE_PASSED = 91003
    COPY_FENCED = 91004
    EPOCH_NOT_CONFIRMED = 91005
    RESYNCHRONIZATION_REQUIRED = 91006
    NO_SUITABLE_HOST = 91007
    COMMAND_REUSED = 91008
    DISK_SIZES_DIFFER = 91009
    # 91010 to 91019: the inventory of VMM.
    NO_FREE_ADDRESS = 91010
    RULE_BROKEN = 91011
    OFFLINE_FOLDER = 91012
    MACHINE_MOVED = 91013
    # 91020: what a replica's host says of who sends.
    OTHER_SOURCE = 91020
    # The original's own (behaviour 5): a live migration that would end the protection.
    MIGRATION_BREAKS_PROTECTION = 23848
    # The original's own for networks of a test failover (behaviour 2.8).
    NETWORK_NOT_AVAILABLE = 7004
    TEST_NETWORK_TYPE = 25080


NOT_NOW: Final = frozenset(
    {Code.TIMEOUT, Code.NOT_AVAILABLE, Code.NO_CONNECTION, Code.EPOCH_NOT_CONFIRMED}
)
"""Codes after which the same command may succeed later: HTTP 503."""

_STATUS: Final = {Code.INVALID_PARAMETER: 400, Code.NOT_FOUND: 404}


class RefusedError(Exception):
    """The fabric refuses: `code` says why, the message names cause and remedy."""

    def __init__(self, code: int, message: str, action: str = "", causes: str = "") -> None:
        super().__init__(message)
        self.code = int(code)
        self.message = message
        self.action = action
        self.causes = causes

    @property
    def status(self) -> int:
        """HTTP status of this refusal (docs/wire-contract.md: 400, 404, 409 or 503)."""
        if self.code in NOT_NOW:
            return 503
        return next((status for code, status in _STATUS.items() if code == self.code), 409)

    def problem(self) -> Problem:
        """Return the body that crosses the network."""
        return Problem(
            code=self.code,
            message=self.message,
            possible_causes=self.causes,
            recommended_action=self.action,
        )


def unknown(kind: str, identity: str) -> RefusedError:
    """Return the refusal for something that this fabric does not have."""
    return RefusedError(
        Code.NOT_FOUND,
        f"{kind} {identity} is not known to this VMM server",
        "refresh the server and use an id that its inventory lists",
    )


def bad_arguments(message: str) -> RefusedError:
    """Return the refusal for arguments that cannot be meant."""
    return RefusedError(Code.INVALID_PARAMETER, message, "correct the arguments and ask again")
