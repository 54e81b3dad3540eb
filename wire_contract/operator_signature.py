"""The operator's own signature of an operation, end to end past the hub (ADR 0004).

The header is the recorded `Agent-Authentication` (arm-api, section 4): JSON with an HMAC-SHA256
keyed with the vault's ChannelIntegrityKey. What is signed is the very text of the header with its
two values `HashFunction` and `Hmac` written as null. The hub has no key and checks the form.
"""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wire_contract.vocabulary import Direction, Side, Verb

HEADER: Final = "Agent-Authentication"
HASH_FUNCTION: Final = "HMACSHA256"

SIGNATURE_CHARACTERS_MAX: Final = 4096
"""Longest header text; below what HTTP libraries take, so that our own sentence is heard."""

SIGNATURE_LIFE_MAX: Final = timedelta(days=7)
"""Longest life that was recorded (arm-api, section 4); ours live six hours."""

_DATE: Final = re.compile(r"/Date\((\d{1,14})\)/")
_HMAC: Final = re.compile(r'"Hmac"\s*:\s*"[A-Za-z0-9+/=\\]*"')
_HASH: Final = re.compile(r'"HashFunction"\s*:\s*"HMACSHA256"')
_NO_HMAC, _NO_HASH = '"Hmac":null', '"HashFunction":null'
# .NET's System.Version as it was recorded; -1 is a part that is not set.
_VERSION: Final = {
    "Major": 1,
    "Minor": 2,
    "Build": -1,
    "Revision": -1,
    "MajorRevision": -1,
    "MinorRevision": -1,
}


class SignedOperation(StrEnum):
    """Operations that an operator signs: each stops, fences, moves or discards a copy.

    Enabling too: who answers as a replica can have its primary stop and fence itself.
    """

    ENABLE = "EnableProtection"
    DISABLE = "DisableProtection"
    PURGE = "PurgeProtection"
    REPAIR = "RepairReplication"
    TEST_FAILOVER = "TestFailover"
    TEST_FAILOVER_CLEANUP = "TestFailoverCleanup"
    PLANNED_FAILOVER = "PlannedFailover"
    UNPLANNED_FAILOVER = "UnplannedFailover"
    COMMIT = "Commit"
    REVERSE_REPLICATE = "ReverseReplicate"
    CHANGE_RECOVERY_POINT = "ChangePit"
    CANCEL_FAILOVER = "CancelFailover"
    OVERRIDE_FENCE = "OverrideFence"


REQUESTS: Final[Mapping[str, SignedOperation]] = {
    "remove": SignedOperation.DISABLE,
    "repairreplication": SignedOperation.REPAIR,
    "testfailover": SignedOperation.TEST_FAILOVER,
    "testfailovercleanup": SignedOperation.TEST_FAILOVER_CLEANUP,
    "plannedfailover": SignedOperation.PLANNED_FAILOVER,
    "unplannedfailover": SignedOperation.UNPLANNED_FAILOVER,
    "failovercommit": SignedOperation.COMMIT,
    "reprotect": SignedOperation.REVERSE_REPLICATE,
    "applyrecoverypoint": SignedOperation.CHANGE_RECOVERY_POINT,
    "failovercancel": SignedOperation.CANCEL_FAILOVER,
}
"""The last segment of a POST's path on the ARM surface, in lower case; a PUT enables,
a DELETE purges."""

FIRST_EPOCH: Final = 1
"""The epoch of a machine that is newly protected."""

DESTRUCTIVE: Final[Mapping[Verb, bool]] = {
    # What is prepared on hosts and clouds touches no machine.
    Verb.CONFIGURE_HOSTS: False,
    Verb.PREPARE_CLOUD: False,
    Verb.PAIR_CLOUD: False,
    # How often and how replication goes; no copy is moved or lost by it.
    Verb.UPDATE_REPLICATION: False,
    # Refused by the fabric while a machine is protected: no machine is touched.
    Verb.UNPAIR_CLOUD: False,
    Verb.CLEAN_UP: False,
    # Make or fill a copy that is nobody's yet; a copy that is in use refuses them.
    Verb.PLACE_REPLICA: False,
    Verb.START_INITIAL_REPLICATION: False,
    Verb.IMPORT_INITIAL_REPLICATION: False,
    Verb.COMPLETE_INITIAL_REPLICATION: False,
    Verb.UPDATE_PROTECTION: False,
    # Networks that a test has of its own; refused while a machine is connected to one.
    Verb.CREATE_TEST_NETWORKS: False,
    Verb.REMOVE_TEST_NETWORKS: False,
    # Makes a machine beside the copy, which stays as it is.
    Verb.KEEP_COPY: False,
    # Refused on a copy that runs or is the active one.
    Verb.CONNECT_ADAPTERS: False,
    # Replication alone stops, goes on, or begins anew: no copy is lost by it.
    Verb.CANCEL_INITIAL_REPLICATION: False,
    Verb.PAUSE_REPLICATION: False,
    Verb.RESUME_REPLICATION: False,
    Verb.CANCEL_RESYNCHRONIZATION: False,
    Verb.SYNCHRONIZE: False,
    Verb.START: False,
    Verb.CREATE_TEST_MACHINE: False,
    Verb.PREPARE_TEST_MACHINE: False,
    # Put a machine into the hands of a replica, which can have it stopped.
    Verb.ENABLE_REPLICATION: True,
    # Writes all of a machine's bytes to where it is told.
    Verb.EXPORT_INITIAL_REPLICATION: True,
    # Overwrites the replica, whose recovery points go.
    Verb.RESYNCHRONIZE: True,
    # Ends the protection; the replica may be deleted.
    Verb.DISABLE_REPLICATION: True,
    # Stop, fence, move, discard.
    Verb.SHUT_DOWN: True,
    Verb.PREPARE_FAILOVER: True,
    Verb.FAIL_OVER: True,
    Verb.CHANGE_RECOVERY_POINT: True,
    Verb.CANCEL_FAILOVER: True,
    Verb.COMMIT: True,
    Verb.PREPARE_REVERSE: True,
    Verb.REVERSE_REPLICATE: True,
    Verb.REMOVE_TEST_MACHINE: True,
    Verb.CONFIRM_EPOCH: True,
    # Whatever an administrator has put into the server's library: each is signed for by itself.
    Verb.RUN_SCRIPT: True,
}
"""Every verb, and whether an insisting provider wants an operator's signature for it.

Whatever is false here is wanted signed too where it raises the epoch of a replica, or makes one
above the first epoch: its primary would be stopped and fenced at its next contact.
"""

_P, _R = frozenset({Side.PRIMARY}), frozenset({Side.RECOVERY})
_BOTH: Final = _P | _R

ORDERED: Final[Mapping[SignedOperation, Mapping[Verb, frozenset[Side]]]] = {
    SignedOperation.ENABLE: {
        Verb.PLACE_REPLICA: _R,
        Verb.ENABLE_REPLICATION: _P,
        Verb.START_INITIAL_REPLICATION: _P,
        Verb.EXPORT_INITIAL_REPLICATION: _P,
        Verb.UPDATE_PROTECTION: _BOTH,
        Verb.DISABLE_REPLICATION: _BOTH,
    },
    SignedOperation.DISABLE: {
        Verb.DISABLE_REPLICATION: _BOTH,
        Verb.UPDATE_PROTECTION: _BOTH,
    },
    SignedOperation.PURGE: {
        Verb.DISABLE_REPLICATION: _BOTH,
        Verb.UPDATE_PROTECTION: _BOTH,
    },
    SignedOperation.REPAIR: {
        Verb.RESYNCHRONIZE: _BOTH,
        Verb.UPDATE_PROTECTION: _BOTH,
    },
    SignedOperation.TEST_FAILOVER: {
        Verb.CREATE_TEST_NETWORKS: _R,
        Verb.REMOVE_TEST_NETWORKS: _R,
        Verb.CREATE_TEST_MACHINE: _R,
        Verb.PREPARE_TEST_MACHINE: _R,
        Verb.START: _R,
        Verb.SHUT_DOWN: _R,
        Verb.REMOVE_TEST_MACHINE: _R,
    },
    SignedOperation.TEST_FAILOVER_CLEANUP: {
        Verb.REMOVE_TEST_NETWORKS: _BOTH,
        Verb.START: _BOTH,
        Verb.SHUT_DOWN: _BOTH,
        Verb.REMOVE_TEST_MACHINE: _BOTH,
    },
    SignedOperation.PLANNED_FAILOVER: {
        Verb.SHUT_DOWN: _BOTH,
        Verb.PREPARE_FAILOVER: _P,
        Verb.FAIL_OVER: _R,
        Verb.CANCEL_FAILOVER: _BOTH,
        Verb.START: _BOTH,
    },
    SignedOperation.UNPLANNED_FAILOVER: {
        Verb.SHUT_DOWN: _BOTH,
        Verb.SYNCHRONIZE: _P,
        Verb.FAIL_OVER: _R,
        Verb.CANCEL_FAILOVER: _BOTH,
        Verb.START: _BOTH,
    },
    SignedOperation.COMMIT: {Verb.COMMIT: _BOTH},
    # On the copy that runs now, whichever end that is: the request names no direction.
    SignedOperation.CHANGE_RECOVERY_POINT: {
        Verb.SHUT_DOWN: _BOTH,
        Verb.CHANGE_RECOVERY_POINT: _BOTH,
        Verb.START: _BOTH,
    },
    SignedOperation.CANCEL_FAILOVER: {
        Verb.SHUT_DOWN: _BOTH,
        Verb.CANCEL_FAILOVER: _BOTH,
        Verb.START: _BOTH,
    },
    # As of a cancelled failover: the request names no direction.
    SignedOperation.OVERRIDE_FENCE: {
        Verb.CONFIRM_EPOCH: _BOTH,
        Verb.CANCEL_FAILOVER: _BOTH,
        Verb.START: _BOTH,
    },
    SignedOperation.REVERSE_REPLICATE: {
        Verb.COMMIT: _P,
        Verb.SHUT_DOWN: _R,
        Verb.KEEP_COPY: _R,
        Verb.PREPARE_REVERSE: _R,
        Verb.REVERSE_REPLICATE: _P,
        Verb.START_INITIAL_REPLICATION: _P,
        Verb.UPDATE_PROTECTION: _BOTH,
    },
}
"""What a signed operation allows, and on which end, named as in its direction: its tasks and what
takes them back when its job is cancelled (tested against the hub's scenarios)."""

UNDIRECTED: Final = frozenset(
    {
        SignedOperation.ENABLE,
        SignedOperation.DISABLE,
        SignedOperation.PURGE,
        SignedOperation.REPAIR,
        SignedOperation.TEST_FAILOVER_CLEANUP,
        SignedOperation.COMMIT,
        SignedOperation.CHANGE_RECOVERY_POINT,
        SignedOperation.CANCEL_FAILOVER,
        SignedOperation.OVERRIDE_FENCE,
    }
)
"""Requests of these name no direction."""

TESTING: Final = frozenset({SignedOperation.TEST_FAILOVER, SignedOperation.TEST_FAILOVER_CLEANUP})
"""These allow their verbs on a test machine alone."""


class SignatureMalformedError(ValueError):
    """The header cannot be read; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator signs: one operation on one protected item.

    `script` is the digest of a script (wire_contract.scripts) of the recovery plan `item`: that is
    run, and nothing else.
    """

    operation: SignedOperation
    item: str
    direction: Direction | None = None
    script: str | None = None


@dataclass(frozen=True, slots=True)
class OperatorSignature:
    """A header that was read; nothing is proven. `order` is null where it binds no operation."""

    signed_text: bytes
    hmac: bytes
    request_id: str
    not_before: datetime
    not_after: datetime
    order: Order | None


class _Header(BaseModel):
    """The recorded fields; what else stands there is covered by the HMAC all the same."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    not_before: str = Field(alias="NotBeforeTimestamp", max_length=40)
    not_after: str = Field(alias="NotAfterTimestamp", max_length=40)
    request_id: str = Field(alias="ClientRequestId", min_length=1, max_length=256)
    hash_function: str = Field(alias="HashFunction", max_length=40)
    hmac: str = Field(alias="Hmac", max_length=128)
    properties: dict[str, Any] = Field(alias="PropertyBag", default_factory=dict)


def unsigned_text(order: Order, request_id: str, not_before: datetime, not_after: datetime) -> str:
    """Return the text that is signed: the header without its HMAC."""
    properties = {"Operation": order.operation.value, "Item": order.item}
    if order.direction is not None:
        properties["Direction"] = order.direction.value
    if order.script is not None:
        properties["Script"] = order.script
    text = json.dumps(
        {
            "NotBeforeTimestamp": _date(not_before),
            "NotAfterTimestamp": _date(not_after),
            "ClientRequestId": request_id,
            "HashFunction": None,
            "Hmac": None,
            "Version": _VERSION,
            "PropertyBag": properties,
        },
        separators=(",", ":"),
    )
    return text.replace('"/Date(', '"\\/Date(').replace(')/"', ')\\/"')


def signed_header(unsigned: str, hmac: bytes) -> str:
    """Return the header's text for an unsigned one and its HMAC."""
    value = base64.b64encode(hmac).decode()
    text = unsigned.replace(_NO_HASH, f'"HashFunction":"{HASH_FUNCTION}"', 1)
    return text.replace(_NO_HMAC, f'"Hmac":"{value}"', 1)


def read_signature(text: str) -> OperatorSignature:
    """Return what a header says; SignatureMalformedError where it is no operator's signature."""
    if len(text) > SIGNATURE_CHARACTERS_MAX:
        raise SignatureMalformedError(f"it is longer than {SIGNATURE_CHARACTERS_MAX} characters")
    if not text.isascii():
        raise SignatureMalformedError("it has characters that are not ASCII")
    try:
        header = _Header.model_validate(json.loads(text, object_pairs_hook=_without_repeats))
        mac = base64.b64decode(header.hmac, validate=True)
    except SignatureMalformedError:
        raise
    except (ValidationError, ValueError, RecursionError):
        # The cause itself would repeat what was sent, which is never to be shown.
        raise SignatureMalformedError(
            "it is not the JSON of NotBeforeTimestamp, NotAfterTimestamp, ClientRequestId,"
            " HashFunction, Hmac and PropertyBag"
        ) from None
    if header.hash_function != HASH_FUNCTION:
        raise SignatureMalformedError(f"its HashFunction is not {HASH_FUNCTION}")
    return OperatorSignature(
        signed_text=_signed_text(text),
        hmac=mac,
        request_id=header.request_id,
        not_before=_moment(header.not_before),
        not_after=_moment(header.not_after),
        order=_order(header.properties),
    )


def _signed_text(text: str) -> bytes:
    text, hmacs = _HMAC.subn(_NO_HMAC, text)
    text, hashes = _HASH.subn(_NO_HASH, text)
    if (hmacs, hashes) != (1, 1):
        raise SignatureMalformedError("Hmac and HashFunction must stand in it once each")
    return text.encode("ascii")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise SignatureMalformedError("a name stands in it twice")
    return found


def _order(properties: Mapping[str, Any]) -> Order | None:
    """Return the bound operation; null for the recorded empty bag and for a half-filled one."""
    try:
        direction, script = properties.get("Direction"), properties.get("Script")
        return Order(
            SignedOperation(str(properties["Operation"])),
            str(properties["Item"]),
            None if direction is None else Direction(str(direction)),
            None if script is None else str(script),
        )
    except (KeyError, ValueError):
        return None


def _date(moment: datetime) -> str:
    return f"/Date({int(moment.timestamp() * 1000)})/"


def _moment(text: str) -> datetime:
    found = _DATE.fullmatch(text)
    try:
        return datetime.fromtimestamp(int(found[1]) / 1000, UTC) if found else _no_moment()
    except (OverflowError, ValueError, OSError):
        return _no_moment()


def _no_moment() -> datetime:
    raise SignatureMalformedError(r"its times are not written as \/Date(milliseconds)\/")
