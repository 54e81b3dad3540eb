"""Faults on demand, as they are told to a simulated site's management port (`PUT /faults`)."""

from typing import Final, Self

from pydantic import Field, model_validator

from wire_contract.model import WireModel
from wire_contract.vocabulary import FaultKind, Verb

FAULTS_MAX: Final = 200
SLOW_SECONDS_MAX: Final = 3600.0


class Fault(WireModel):
    """One fault: on which verb and machine (null: any), what, and how often (null: always).

    `seconds` belongs to `slow`; `code` to `refuse` and `partial`. `machine` is a machine id or a
    Hyper-V id; for a verb on a cloud it is the cloud id.
    """

    verb: Verb
    machine: str | None = Field(default=None, max_length=128)
    kind: FaultKind
    seconds: float | None = Field(default=None, ge=0, le=SLOW_SECONDS_MAX)
    code: int | None = Field(default=None, ge=0, le=2**31)
    times: int | None = Field(default=None, ge=1, le=1_000_000)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind is FaultKind.SLOW and self.seconds is None:
            raise ValueError("a slow fault needs `seconds`")
        return self


class FaultRequest(WireModel):
    """Body of `PUT /faults`: the whole set."""

    faults: tuple[Fault, ...] = Field(max_length=FAULTS_MAX)
