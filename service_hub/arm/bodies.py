"""Reading request bodies: foreign bytes in, checked values or an InvalidRequestError out.

Property names are compared without case, since real clients send `PolicyId` for `policyId`
(recorded.md, section 9). Unknown properties are ignored: clients of other versions send more
(`skipTestFailoverCleanup`). A wrong type is refused with the property's name.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, Literal, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from service_hub.domain.errors import InvalidRequestError

BODY_BYTES_MAX: Final = 1_048_576
PLAN_BODY_BYTES_MAX: Final = 4 * BODY_BYTES_MAX
"""Of a plan, which may have 5,000 machines: each is named by its whole ARM id, some 450 bytes."""

NESTING_MAX: Final = 32
"""Levels of a body; the deepest request of the dialect has six."""

INTEGER_MAX: Final = 2**31 - 1
"""The dialect's numbers are Int32."""

_TEXT_MAX: Final = 4_096

SITE_TO_SITE_TYPES: Final = frozenset(
    {
        "hypervreplica2012",
        "hypervreplica2012r2",
        # There is no subclass for site to site: the recorded client sends the base class's name.
        "enableprotectionproviderspecificinput",
        "providerspecificfailoverinput",
        "plannedfailoverproviderspecificfailoverinput",
        "unplannedfailoverproviderspecificinput",
        "testfailoverproviderspecificinput",
        "reversereplicationproviderspecificinput",
        "replicationproviderspecificcontainermappinginput",
        "disableprotectionproviderspecificinput",
        "updatereplicationprotecteditemproviderinput",
        "replicationprovidercontainerunmappinginput",
    }
)
"""What `instanceType` may say, in lower case (arm-api.md, section 2)."""


class Input(BaseModel):
    """A JSON object of a request; null counts as absent."""

    model_config = ConfigDict(
        extra="ignore", strict=True, frozen=True, alias_generator=to_camel, str_max_length=_TEXT_MAX
    )

    @model_validator(mode="before")
    @classmethod
    def _fold_names(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        aliases = {
            (field.alias or name).lower(): field.alias or name
            for name, field in cls.model_fields.items()
        }
        return {
            aliases[key.lower()]: part
            for key, part in value.items()
            if key.lower() in aliases and part is not None
        }


class ProviderInput(Input):
    """The provider-specific part of a request, which site to site leaves empty.

    Except that a failover or a test may name where to: the id of a recovery point, or one of the
    dialect's words for one (HyperVReplicaAzure inputs; the newest is the default).
    """

    instance_type: str | None = None
    recovery_point_id: str | None = None
    recovery_point_type: (
        Literal["Latest", "LatestProcessed", "LatestApplicationConsistent"] | None
    ) = None


class UnusedInput(Input):
    """A body of which nothing is used; it has to be well-formed all the same."""

    properties: dict[str, Any] | None = None


class PolicyProviderInput(Input):
    """The settings of a policy (arm-api.md, section 2.1)."""

    instance_type: Literal["HyperVReplica2012", "HyperVReplica2012R2"]
    replication_frequency_in_seconds: int | None = Field(default=None, ge=0, le=INTEGER_MAX)
    recovery_points: int | None = Field(default=None, ge=0, le=INTEGER_MAX)
    application_consistent_snapshot_frequency_in_hours: int | None = Field(
        default=None, ge=0, le=INTEGER_MAX
    )
    compression: Literal["Enable", "Disable"] | None = None
    initial_replication_method: Literal["OverNetwork", "Offline"] | None = None
    online_replication_start_time: str | None = None
    offline_replication_import_path: str | None = None
    offline_replication_export_path: str | None = None
    replication_port: int | None = Field(default=None, ge=0, le=65_535)
    allowed_authentication_type: Literal[1, 2] | None = None
    replica_deletion: Literal["Required", "NotRequired"] | None = None
    self_fence_seconds: int | None = Field(default=None, ge=0, le=INTEGER_MAX)


class PolicyProperties(Input):
    """Properties of a policy."""

    provider_specific_input: PolicyProviderInput


class PolicyInput(Input):
    """PUT of a replication policy."""

    properties: PolicyProperties


class PolicyChangeProperties(Input):
    """What is changed; settings that are not named stay (arm-api.md, section 2.1)."""

    replication_provider_settings: PolicyProviderInput


class PolicyChangeInput(Input):
    """PATCH of a replication policy."""

    properties: PolicyChangeProperties


class MappingProperties(Input):
    """Which cloud protects into which, and how."""

    target_protection_container_id: str
    policy_id: str
    provider_specific_input: ProviderInput | None = None


class MappingInput(Input):
    """PUT of a container mapping."""

    properties: MappingProperties


class MappingRemovalProperties(Input):
    """What the recorded client sends with a removal: an empty part (recorded.md, section 9)."""

    provider_specific_input: ProviderInput | None = None


class MappingRemovalInput(Input):
    """POST of a container mapping's removal."""

    properties: MappingRemovalProperties = Field(default_factory=MappingRemovalProperties)


class EnableProperties(Input):
    """Which machine is protected, and how."""

    policy_id: str
    protectable_item_id: str
    provider_specific_details: ProviderInput | None = None


class EnableInput(Input):
    """PUT of a protected item."""

    properties: EnableProperties


DirectionName = Literal["PrimaryToRecovery", "RecoveryToPrimary"]


class FailoverProperties(Input):
    """Where to; what a planned failover and a reverse replication say."""

    failover_direction: DirectionName
    provider_specific_details: ProviderInput | None = None


class FailoverInput(Input):
    """POST of a planned failover or a reverse replication."""

    properties: FailoverProperties


class ReverseProperties(FailoverProperties):
    """Also, after an unplanned failover, what becomes of what the former source alone holds."""

    source_changes: Literal["Keep", "Discard"] | None = None


class ReverseInput(Input):
    """POST of a reverse replication."""

    properties: ReverseProperties


class UnplannedFailoverProperties(FailoverProperties):
    """Also whether the source is asked to shut down and to send what it still has."""

    source_site_operations: Literal["Required", "NotRequired"] = "NotRequired"


class UnplannedFailoverInput(Input):
    """POST of an unplanned failover."""

    properties: UnplannedFailoverProperties


class TestFailoverProperties(FailoverProperties):
    """Also the network of the test machine."""

    network_type: (
        Literal["NoNetworkAttachAsInput", "VmNetworkAsInput", "LogicalNetworkAsInput"] | None
    ) = None
    network_id: str | None = None


class TestFailoverInput(Input):
    """POST of a test failover."""

    properties: TestFailoverProperties


class ApplyRecoveryPointProperties(Input):
    """Which point the machine is to stand at instead; none: the newest."""

    recovery_point_id: str | None = None
    provider_specific_details: ProviderInput


class ApplyRecoveryPointInput(Input):
    """POST of a change of the recovery point."""

    properties: ApplyRecoveryPointProperties


class DisableProperties(Input):
    """Why protection ends; the reason may be left out, as in the recorded body."""

    disable_protection_reason: Literal["NotSpecified", "MigrationComplete"] = "NotSpecified"
    replication_provider_input: ProviderInput | None = None


class DisableInput(Input):
    """POST of a removal."""

    properties: DisableProperties = Field(default_factory=DisableProperties)


class CleanupProperties(Input):
    """What the operator notes about the test."""

    comments: str = ""


class CleanupInput(Input):
    """POST of a test clean-up."""

    properties: CleanupProperties = Field(default_factory=CleanupProperties)


class ResumeProperties(Input):
    """What the operator notes about a manual action that is done."""

    comments: str = ""


class ResumeInput(Input):
    """POST of a resume of a suspended job."""

    properties: ResumeProperties = Field(default_factory=ResumeProperties)


I = TypeVar("I", bound=Input)  # noqa: E741 -- the usual one-letter name of a type variable


def read(body: bytes, kind: type[I]) -> I:
    """Return the body as `kind`, or raise InvalidRequestError with the property's name."""
    value = _parse(body)
    if not isinstance(value, dict):
        raise InvalidRequestError("The request body must be a JSON object.", "body")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InvalidRequestError(
            f"The property '{place}' of the request body can't be used: {first['msg']}.", place
        ) from None


def refuse_other_providers(part: ProviderInput | None, target: str) -> None:
    """Raise InvalidRequestError when a request is meant for another kind of replication."""
    named = part.instance_type if part is not None else None
    if named and named.lower() not in SITE_TO_SITE_TYPES:
        raise InvalidRequestError(
            f"'{named}' isn't replication between two VMM sites. Leave instanceType out, or use"
            " HyperVReplica2012 or HyperVReplica2012R2.",
            f"{target}.instanceType",
        )


def _parse(body: bytes) -> Any:
    if not body:
        raise InvalidRequestError("The request needs a JSON body and has none.", "body")
    try:
        value = json.loads(body.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        # Of json's own message nothing is passed on: it may quote the body.
        raise InvalidRequestError("The request body isn't valid JSON in UTF-8.", "body") from None
    _check_depth_and_text(value, NESTING_MAX)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _check_depth_and_text(value: Any, levels: int) -> None:
    """Refuse what could be read but not stored: endless nesting and half surrogates."""
    if levels == 0:
        raise InvalidRequestError(
            f"The request body is nested deeper than {NESTING_MAX} levels.", "body"
        )
    match value:
        case str():
            storable_text(value, "body")
        case Mapping():
            for key, part in value.items():
                storable_text(key, "body")
                _check_depth_and_text(part, levels - 1)
        case list():
            for part in value:
                _check_depth_and_text(part, levels - 1)
        case _:
            pass


def storable_text(text: str, target: str) -> None:
    """Refuse text that is no Unicode or holds NUL: it could be neither stored nor sent."""
    try:
        text.encode()
    except UnicodeEncodeError:
        storable = False
    else:
        storable = "\0" not in text
    if not storable:
        raise InvalidRequestError(
            "A text of the request holds characters that aren't text.", target
        )
