"""What one Hyper-V host asks another over the replication port, beside the bytes themselves."""

import re
from typing import Annotated, Final, TypeVar

from pydantic import Field, StringConstraints, ValidationError

from vmm_simulator.config import FQDN_PATTERN, IDENTITY_PATTERN
from vmm_simulator.hyperv.backend import Authentication
from vmm_simulator.problems import Code, RefusedError
from wire_contract.model import WireModel
from wire_contract.paths import REPLICA_RELATIONSHIP
from wire_contract.vmm_interface import Problem

BODY_BYTES_MAX: Final = 262_144
DISKS_MAX: Final = 16

_Identity = Annotated[str, StringConstraints(pattern=IDENTITY_PATTERN)]


class OfferedDisk(WireModel):
    """A disk that the replica needs, in the machine's order."""

    disk_id: str = Field(max_length=128)
    size_bytes: int = Field(ge=1, le=2**50)


class Offer(WireModel):
    """A primary's host offers a relationship: make the replica, or say that it is there.

    Repeating it changes nothing. `epoch` is the primary copy's; a replica that knows a higher one
    refuses. `records_per_second` is the guest's workload, `processors` and `memory_megabytes` what
    the machine has: like all of a machine's configuration they go with the machine.
    """

    relationship_id: _Identity
    epoch: int = Field(ge=0)
    hyperv_id: str = Field(max_length=128)
    replica_machine_id: _Identity
    primary_machine_id: _Identity
    primary_host: str = Field(max_length=253)
    primary_port: int = Field(ge=0, le=65_535)
    disks: tuple[OfferedDisk, ...] = Field(min_length=1, max_length=DISKS_MAX)
    interval_seconds: int = Field(ge=1, le=86_400)
    recovery_points: int = Field(default=0, ge=0, le=24)
    application_consistent_hours: int = Field(default=0, ge=0, le=12)
    compression: bool = False
    authentication: Authentication = Authentication.CERTIFICATE
    bypass_proxy: bool = False
    records_per_second: float = Field(default=0.0, ge=0, le=100_000)
    processors: int = Field(default=1, ge=1, le=64)
    memory_megabytes: int = Field(default=1024, ge=32, le=2**20)


class ReplicaLocation(WireModel):
    """On which node of its cluster a replica is now."""

    host: str = Field(pattern=FQDN_PATTERN, max_length=253)
    port: int = Field(ge=1, le=65_535)


class OfferAnswer(WireModel):
    """The replica as it is now, and the broker of its cluster.

    `node` is where it is; not `made`: only that was answered, by the broker. Offer it there.
    """

    machine_id: str
    state: int
    last_cut: int
    broker: str | None = Field(default=None, pattern=FQDN_PATTERN, max_length=253)
    node: ReplicaLocation | None = None
    made: bool = True


def asked_relationship(path: str) -> str:
    """Return the relationship that a question for a replica's node names, or refuse."""
    prefix = offer_path("")
    identity = path.removeprefix(prefix)
    if not path.startswith(prefix) or re.fullmatch(IDENTITY_PATTERN, identity) is None:
        raise RefusedError(Code.NOT_FOUND, "the path names no relationship")
    return identity


def parse_offer(method: str, path: str, body: bytes) -> Offer:
    """Return the offer of a request, or refuse (bounded, closed, and named as in the path)."""
    if method != "PUT":
        raise RefusedError(Code.NOT_FOUND, "a relationship is offered with PUT; nothing else is")
    if len(body) > BODY_BYTES_MAX:
        raise RefusedError(Code.INVALID_PARAMETER, "the offer is too large")
    try:
        offer = Offer.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        key = ".".join(str(step) for step in first["loc"])
        raise RefusedError(
            Code.INVALID_PARAMETER, f"the offer is not valid: {key}: {first['msg']}"
        ) from error
    if path != offer_path(offer.relationship_id):
        raise RefusedError(Code.NOT_FOUND, "the path names no relationship of the offer")
    return offer


def offer_path(relationship_id: str) -> str:
    """Return where an offer is put."""
    return REPLICA_RELATIONSHIP.format(relationship_id=relationship_id)


AnswerT = TypeVar("AnswerT", bound=WireModel)


def read_answer(peer: str, status: int, body: bytes, model: type[AnswerT]) -> AnswerT:
    """Return the answer of a replica host, or raise its refusal as ours."""
    try:
        if status == 200:  # noqa: PLR2004 -- HTTP
            return model.model_validate_json(body)
        problem = Problem.model_validate_json(body)
    except ValidationError as error:
        raise RefusedError(
            Code.FAILED, f"the replica host {peer} answered {status} with an unknown body"
        ) from error
    raise RefusedError(
        problem.code,
        f"the replica host {peer} refuses: {problem.message}",
        problem.recommended_action,
        problem.possible_causes,
    )
