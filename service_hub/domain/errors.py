"""Typed errors of the hub's decisions, and the catalogue of codes that jobs show.

Codes of the original keep their numbers (behaviour.md, section 5); our own begin with 9 and have
five digits. The words are ours.

Over 400 lines because it is one catalogue with the words of each code.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final


class DomainError(Exception):
    """The base: something the caller may mend; never a fault of the program."""


class OperationNotAllowedError(DomainError):
    """The table has no arc for this operation from this state."""

    def __init__(self, operation: str, state_description: str) -> None:
        super().__init__(f"{operation} is not allowed while the item is '{state_description}'")
        self.operation = operation
        self.state_description = state_description


class NotFoundError(DomainError):
    """Nothing of that name exists."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Specified resource with name '{name}' does not exist.")
        self.name = name


class InvalidRequestError(DomainError):
    """The request cannot mean anything here; `target` names the property."""

    def __init__(self, message: str, target: str | None = None) -> None:
        super().__init__(message)
        self.target = target


class UnauthenticatedError(DomainError):
    """Who asks has not proven who it is; the message says what was wrong, never with a secret."""


class SignatureRequiredError(DomainError):
    """The vault wants the operator's own signature for this operation, and there is none."""

    def __init__(self, operation: str, vault: str) -> None:
        super().__init__(
            f"90017: The vault '{vault}' requires an operator signature for {operation}, and the"
            " request has no Agent-Authentication header. Sign it with the vault's channel"
            " integrity key: log in with --channel-integrity-key-file, or add the"
            " OperatorSignaturePolicy to the SDK's client (docs/operating.md)."
        )


class SignatureEndedError(SignatureRequiredError):
    """The signature that a job was requested with has ended: an operator signs what follows."""

    def __init__(self, operation: str, request: str, ended_at: datetime) -> None:
        DomainError.__init__(
            self,
            f"90019: The operator signature for {operation} ended at {ended_at:%Y-%m-%dT%H:%M:%SZ}:"
            f" nothing was sent. Sign {request} anew: site-recovery does it where the login has"
            " --channel-integrity-key-file; other clients add the header that"
            " OperatorSignaturePolicy.header makes, a plan's job one for each machine and script in"
            " properties.operatorSignatures (docs/operating.md).",
        )


class ConflictError(DomainError):
    """The request contradicts what exists."""


class PreconditionFailedError(DomainError):
    """The client insists on a version that what it wants to change is not at."""


class ApprovalPendingError(DomainError):
    """The server is known already: an operator decides whether the new key is its own."""

    def __init__(self, approval_id: str, message: str) -> None:
        super().__init__(message)
        self.approval_id = approval_id


class EnrolmentRejectedError(DomainError):
    """An operator has decided that this key is not the server's."""


class KeyRefusedError(DomainError):
    """A registration key that enrols nobody: unknown, revoked, expired, or another vault's."""


class StaleVersionError(DomainError):
    """A record changed between reading and committing: read again and decide again."""


class JobRequestRefusedError(DomainError):
    """A job cannot be cancelled, restarted or resumed now; `code` is what clients see."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class DamagedLogError(DomainError):
    """An entry of a job's log cannot be read: the store is damaged, or a newer hub wrote it."""


class LeaseLostError(StaleVersionError):
    """Another hub holds the job now: forget it here."""


class RefusedChangeError(StaleVersionError):
    """A rule of the database's tables is broken: deciding again on the same leads here again."""


class StorageUnavailableError(DomainError):
    """The database cannot be used at this moment: nothing is stored, the same may be asked again.

    The one error of this family that an operator of the hub mends, not who asks.
    """

    needs_no_trace: ClassVar[bool] = True
    """To logs: the words are enough."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(
            f"The hub's database cannot be used at this moment ({cause}); nothing was stored. The"
            f" hub's operator: {remedy}; the hub then goes on by itself. Then send the same"
            " request again."
        )
        self.cause = cause
        self.remedy = remedy


class IssuerUnavailableError(DomainError):
    """Whether a token holds, its issuer's keys alone can tell, and they can't be read now.

    Strangers see this: why it is so stands in the hub's log alone.
    """

    def __init__(self, issuer: str) -> None:
        super().__init__(
            f"The token cannot be checked at this moment: the keys of its issuer {issuer} cannot be"
            " read. The hub's operator finds the cause in its log (issuer_keys_unread). Then send"
            " the same request again."
        )


@dataclass(frozen=True, slots=True)
class Catalogued:
    """An entry of the error catalogue."""

    code: str
    message: str
    possible_causes: str
    recommended_action: str


BUSY: Final = "532"
NOT_CONNECTED: Final = "25018"
COMMIT_NOT_READY: Final = "25009"
REVERSE_NOT_READY: Final = "25010"
PLAN_NOT_READY: Final = "25014"
NOT_ALLOWED: Final = "90010"
WRONG_DIRECTION: Final = "90011"
DEADLINE: Final = "90012"
NO_CERTIFICATE_PORT: Final = "90013"
NOT_PROTECTABLE: Final = "90014"
PROVIDER_FAILED: Final = "28020"
CLOUD_IN_USE: Final = "90015"
SERVER_IN_USE: Final = "90016"
GROUP_FAILED: Final = "90018"
SITE_NOT_INJECTED: Final = "90080"
PAIR_IN_USE: Final = "90050"
POLICY_IN_USE: Final = "90051"
NOT_READY: Final = "90052"
NO_HYPERV_PROFILE: Final = "90053"
NO_HOST_GROUP: Final = "90054"
EMPTY_HOST_GROUP: Final = "90055"
HOST_VERSION: Final = "90056"
NO_BROKER: Final = "90057"
NOT_FORCED: Final = "90030"
TOO_FEW_POINTS: Final = "90135"
CLEAN_UP_THERE: Final = "90031"
NOTHING_TO_REPAIR: Final = "90032"
SOURCE_HOLDS_MORE: Final = "90040"
OVERRIDE_UNREASONED: Final = "90115"
OTHER_COPY_SILENT: Final = "90116"
OTHER_COPY_HEARD: Final = "90117"
SUCCESS_WITHOUT_FACTS: Final = "90125"
SOURCE_REVERSED: Final = "90146"
TEST_NETWORK_TYPE: Final = "25080"
NETWORK_MISSING: Final = "7004"
NETWORK_NOT_OFFERED: Final = "90060"
NETWORK_MAPPED: Final = "90061"
CLASSIFICATION_NOT_FOUND: Final = "90062"
CLASSIFICATION_NOT_AVAILABLE: Final = "90063"
CLASSIFICATION_MAPPED: Final = "90064"

CATALOGUE: Final[dict[str, Catalogued]] = {
    entry.code: entry
    for entry in (
        Catalogued(
            BUSY,
            "The operation couldn't be completed.",
            "Another operation on {name} is in progress: {detail}.",
            "Wait until that operation has ended, or cancel it, and then try again.",
        ),
        Catalogued(
            NOT_CONNECTED,
            "The server {name} isn't connected to the hub.",
            "The provider on that server does not run, or cannot reach the hub: {detail}.",
            "Start the provider and look at its log, then try again.",
        ),
        Catalogued(
            COMMIT_NOT_READY,
            "The virtual machine {name} isn't ready for a commit.",
            "It has not been failed over, or its failover is already committed: {detail}.",
            "Look at the item's state and its allowed operations.",
        ),
        Catalogued(
            REVERSE_NOT_READY,
            "The virtual machine {name} isn't ready for reverse replication.",
            "It has not been failed over: {detail}.",
            "Fail the virtual machine over first.",
        ),
        Catalogued(
            PLAN_NOT_READY,
            "The virtual machines of {name} aren't ready for a planned failover.",
            "{detail}.",
            "Commit and reverse replicate those that are failed over, wait for those that are "
            "busy, and try again.",
        ),
        Catalogued(
            NOT_ALLOWED,
            "The operation isn't possible in the present state of {name}.",
            "{detail}.",
            "Choose one of the item's allowed operations.",
        ),
        Catalogued(
            WRONG_DIRECTION,
            "The direction of the request doesn't fit where {name} runs.",
            "{detail}.",
            "Name the direction that leads away from the item's active location.",
        ),
        Catalogued(
            DEADLINE,
            "The task on {name} wasn't finished in time.",
            "{detail}.",
            "Look at the server's connection and at the provider's log, then try again.",
        ),
        Catalogued(
            NO_CERTIFICATE_PORT,
            "The replication settings can't be used for {name}.",
            "{detail}.",
            "Use certificates (authentication type 2), over the network.",
        ),
        Catalogued(
            NOT_PROTECTABLE,
            "The virtual machine {name} can't be protected.",
            "{detail}.",
            "Mend the cause, refresh the server, and try again.",
        ),
        Catalogued(
            TOO_FEW_POINTS,
            "The virtual machine {name} has fewer recovery points in VMM than its cloud.",
            "{detail}.",
            "In VMM, set at least as many recovery points at the virtual machine, or none of its "
            "own; or ask for fewer in the policy. Then try again.",
        ),
        Catalogued(
            PROVIDER_FAILED,
            "The requested operation failed on {name}.",
            "{detail}.",
            "See the provider's part of this error.",
        ),
        Catalogued(
            SUCCESS_WITHOUT_FACTS,
            "The server of {name} reported success without what the next task needs.",
            "The report says nothing of: {detail}. Nobody can tell what came of the task.",
            "Bring the server's provider and its VMM server to one version with the hub, look at "
            "the virtual machine there, and restart the job.",
        ),
        Catalogued(
            CLOUD_IN_USE,
            "The cloud {name} can't be paired.",
            "{detail}.",
            "A cloud belongs to one pair only, as primary or as target: remove the other pair.",
        ),
        Catalogued(
            SERVER_IN_USE,
            "The server {name} can't be deleted.",
            "It is still in use: {detail}.",
            "End the protection of its machines, then remove its pairings (container mappings).",
        ),
        Catalogued(
            PAIR_IN_USE,
            "The container mapping {name} can't be removed.",
            "Virtual machines are protected under it: {detail}.",
            "Disable the protection of these virtual machines first.",
        ),
        Catalogued(
            POLICY_IN_USE,
            "The replication policy {name} can't be deleted.",
            "It is {detail}.",
            "Remove these container mappings first.",
        ),
        *(
            Catalogued(
                code,
                "The cloud {name} isn't ready for protection.",
                "{detail}.",
                action + " Refresh the server, then restart this job.",
            )
            for code, action in (
                (NOT_READY, "Mend what is named."),
                (NO_HYPERV_PROFILE, "Give the cloud the capability profile Hyper-V in VMM."),
                (NO_HOST_GROUP, "Add a host group to the cloud in VMM."),
                (EMPTY_HOST_GROUP, "Put a host with a virtual machine into the host group."),
                (HOST_VERSION, "Take the host out of the cloud, or bring it up to date."),
                (NO_BROKER, "Create the Hyper-V Replica Broker of the cluster by hand."),
            )
        ),
        Catalogued(
            SITE_NOT_INJECTED,
            "The event was not injected into the site of {name}.",
            "{detail}.",
            "Look at the laboratory's site and at the hub's configuration, then restart this job.",
        ),
        Catalogued(
            SOURCE_HOLDS_MORE,
            "The replication of {name} isn't reversed without a choice: something would be lost.",
            "The failover was not planned, and {detail}. Reversing overwrites it.",
            "Look at the former source, then reverse with sourceChanges Keep (its disks are set "
            "aside in a machine of their own) or Discard.",
        ),
        Catalogued(
            TEST_NETWORK_TYPE,
            "The network type for the test failover of {name} isn't right.",
            "{detail}.",
            "Choose a network of a fitting type, or none.",
        ),
        Catalogued(
            NETWORK_MISSING,
            "The network for {name} isn't available.",
            "{detail}.",
            "Refresh the server; choose a network that is available in the cloud of the replica.",
        ),
        Catalogued(
            NETWORK_NOT_OFFERED,
            "The VM network {name} can't be mapped to this one.",
            "It is not offered: {detail}.",
            "Pair the clouds first; in VMM, attach the logical network of the target to the target "
            "cloud; or choose a network that is offered (GET network-offers shows them).",
        ),
        Catalogued(
            NETWORK_MAPPED,
            "The VM network {name} is mapped already.",
            "A network is mapped to one of each server: {detail}.",
            "Change that mapping under its own name, or remove it first.",
        ),
        Catalogued(
            CLASSIFICATION_NOT_FOUND,
            "The storage classification couldn't be found {detail}.",
            "It was removed, or made after the server's last inventory.",
            "Refresh the server, then choose a classification that it lists.",
        ),
        Catalogued(
            CLASSIFICATION_NOT_AVAILABLE,
            "The storage classification {name} can't be mapped to this one.",
            "There is no pair of clouds whose hosts see storage of both: {detail}.",
            "Pair the clouds first; give hosts of both clouds storage of the classification.",
        ),
        Catalogued(
            CLASSIFICATION_MAPPED,
            "The storage classification {name} is mapped already.",
            "A classification is mapped to one of each server: {detail}.",
            "Change that mapping under its own name, or remove it first.",
        ),
        Catalogued(
            GROUP_FAILED,
            "The operation failed on some virtual machines of {name}.",
            "{detail}.",
            "Look at the jobs of these virtual machines, mend the cause, and restart this job: it "
            "goes on with those that failed.",
        ),
        Catalogued(
            NOT_FORCED,
            "The protection of {name} isn't removed by force.",
            "{detail}.",
            "Disable the protection instead: then both servers remove it themselves. Where that has"
            " failed, it can be removed by force.",
        ),
        Catalogued(
            CLEAN_UP_THERE,
            "The server {name} has not removed the protection: it isn't connected to the hub.",
            "The protection was removed by force; what that server has of it is still there.",
            "Once it runs again, and before its virtual machine is used, run beside its provider: "
            "provider-agent cleanup --machine {detail}",
        ),
        Catalogued(
            OVERRIDE_UNREASONED,
            "The fence of {name} isn't overridden without a reason.",
            "{detail}.",
            "Say why the former source is to run again; the reason is kept with the job.",
        ),
        Catalogued(
            OTHER_COPY_SILENT,
            "The fence of {name} isn't overridden: its other copy can't be stopped first.",
            "{detail}.",
            "Bring that server back into contact. Where nothing of it can run any more, declare "
            "the copy lost: it is fenced should it ever come back.",
        ),
        Catalogued(
            OTHER_COPY_HEARD,
            "The other copy of {name} isn't lost.",
            "{detail}.",
            "Ask again without declaring it lost: it is stopped and fenced first.",
        ),
        Catalogued(
            SOURCE_REVERSED,
            "The former source of {name} can't be started again: it is a replica by now.",
            "{detail}.",
            "Complete the reversal: reverse replicate again. Where the other copy is gone, disable "
            "the protection and start this machine in VMM.",
        ),
        Catalogued(
            NOTHING_TO_REPAIR,
            "The replication of {name} needs no resynchronization.",
            "{detail}.",
            "Look at the item's health; resynchronize where it says that it is required.",
        ),
    )
}
