"""The field's words as the programs exchange them; every spelling that crosses a wire is here."""

from enum import IntEnum, StrEnum
from operator import attrgetter
from typing import TYPE_CHECKING, Final

CERTIFICATE_PORT: Final = 8084
"""Port of replication with certificates (HTTPS), as the original opens it (seed, step 4.10)."""

KERBEROS_PORT: Final = 8083
"""Port of replication with Kerberos (HTTP), as the original opens it (seed, step 4.10)."""


class Word(StrEnum):
    """A StrEnum whose `value` costs a third: writing a decision asks eighteen times for one.

    Python 3.11 calls a function of its own for each (`enum.property`); here it is only read.
    """

    if not TYPE_CHECKING:
        # What it is like a type checker knows of every StrEnum.
        value = property(attrgetter("_value_"))


class Side(Word):
    """The two ends of a protected item; the names stay through failover and reversal."""

    PRIMARY = "Primary"
    RECOVERY = "Recovery"

    @property
    def other(self) -> "Side":
        """The opposite end."""
        return Side.RECOVERY if self is Side.PRIMARY else Side.PRIMARY


class Direction(Word):
    """Where a failover goes (ARM `failoverDirection`)."""

    PRIMARY_TO_RECOVERY = "PrimaryToRecovery"
    RECOVERY_TO_PRIMARY = "RecoveryToPrimary"

    def place(self, side: Side) -> Side:
        """Return the real end for a side named as in the forward direction."""
        return side if self is Direction.PRIMARY_TO_RECOVERY else side.other


class EventType(Word):
    """What the hub tells a provider (design: channel, event envelope)."""

    ASSIGNMENT = "assignment"
    WITHDRAWAL = "withdrawal"
    REFRESH = "refresh"
    CONFIGURATION = "configuration"
    TOMBSTONE = "tombstone"


class ReceiptKind(StrEnum):
    """What became of a verified event in the provider's journal."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REFUSED = "refused"


class RefusalReason(StrEnum):
    """Why a verified event was refused; it is final for the cursor all the same."""

    EXPIRED = "expired"
    LOWER_FENCE = "lower_fence"
    LOWER_EPOCH = "lower_epoch"
    UNKNOWN_VERB = "unknown_verb"
    UNKNOWN_TYPE = "unknown_type"
    BAD_BODY = "bad_body"


class Verb(Word):
    """The verbs of the fabric driver; faults, effects and assignments all use these names."""

    # On a cloud (container): arguments name the cloud.
    CONFIGURE_HOSTS = "configure_hosts"
    PREPARE_CLOUD = "prepare_cloud"
    PAIR_CLOUD = "pair_cloud"
    UPDATE_REPLICATION = "update_replication"
    UNPAIR_CLOUD = "unpair_cloud"
    # On the VMM server.
    CLEAN_UP = "clean_up"
    CREATE_TEST_NETWORKS = "create_test_networks"
    REMOVE_TEST_NETWORKS = "remove_test_networks"
    # On a machine.
    PLACE_REPLICA = "place_replica"
    ENABLE_REPLICATION = "enable_replication"
    START_INITIAL_REPLICATION = "start_initial_replication"
    CANCEL_INITIAL_REPLICATION = "cancel_initial_replication"
    EXPORT_INITIAL_REPLICATION = "export_initial_replication"
    IMPORT_INITIAL_REPLICATION = "import_initial_replication"
    COMPLETE_INITIAL_REPLICATION = "complete_initial_replication"
    PAUSE_REPLICATION = "pause_replication"
    RESUME_REPLICATION = "resume_replication"
    RESYNCHRONIZE = "resynchronize"
    CANCEL_RESYNCHRONIZATION = "cancel_resynchronization"
    DISABLE_REPLICATION = "disable_replication"
    UPDATE_PROTECTION = "update_protection"
    CONNECT_ADAPTERS = "connect_adapters"
    SHUT_DOWN = "shut_down"
    PREPARE_FAILOVER = "prepare_failover"
    SYNCHRONIZE = "synchronize"
    FAIL_OVER = "fail_over"
    CHANGE_RECOVERY_POINT = "change_recovery_point"
    CANCEL_FAILOVER = "cancel_failover"
    START = "start"
    COMMIT = "commit"
    PREPARE_REVERSE = "prepare_reverse"
    REVERSE_REPLICATE = "reverse_replicate"
    KEEP_COPY = "keep_copy"
    CREATE_TEST_MACHINE = "create_test_machine"
    PREPARE_TEST_MACHINE = "prepare_test_machine"
    REMOVE_TEST_MACHINE = "remove_test_machine"
    CONFIRM_EPOCH = "confirm_epoch"
    # Done by the provider itself; no fabric knows it.
    RUN_SCRIPT = "run_script"


CLOUD_VERBS: Final = frozenset(
    {
        Verb.CONFIGURE_HOSTS,
        Verb.PREPARE_CLOUD,
        Verb.PAIR_CLOUD,
        Verb.UPDATE_REPLICATION,
        Verb.UNPAIR_CLOUD,
    }
)
"""Verbs whose target is a cloud."""

HOST_VERBS: Final = frozenset({Verb.CONFIGURE_HOSTS, Verb.PREPARE_CLOUD, Verb.UNPAIR_CLOUD})
"""Those that change the hosts of a cloud, which other clouds may have too."""

SERVER_VERBS: Final = frozenset(
    {Verb.CLEAN_UP, Verb.CREATE_TEST_NETWORKS, Verb.REMOVE_TEST_NETWORKS}
)
"""Verbs whose target is the VMM server itself; all others have a machine as target."""

AGENT_VERBS: Final = frozenset({Verb.RUN_SCRIPT})
"""Verbs that the provider does by itself; their target is a recovery plan."""

FABRIC_VERBS: Final = tuple(verb for verb in Verb if verb not in AGENT_VERBS)
"""Verbs that a fabric carries out."""


class RunState(StrEnum):
    """Whether a machine runs; read back from its guest process, never remembered.

    A paused one writes nothing and answers nothing, but goes on the moment that somebody resumes
    it: where two running copies are looked for, whatever is not off counts as running.
    """

    RUNNING = "Running"
    PAUSED = "Paused"
    OFF = "Off"


class ReplicationMode(StrEnum):
    """Role of one copy in a relationship (Msvm_ComputerSystem.ReplicationMode, WMI names)."""

    NONE = "None"
    PRIMARY = "Primary"
    REPLICA = "Replica"
    TEST_REPLICA = "TestReplica"


class ReplicationState(IntEnum):
    """Msvm_ReplicationRelationship.ReplicationState with its WMI numbers (behaviour 1.1.1).

    Numbers 15 to 21 exist from Windows 10 1703 on only: reserved, not used here.
    """

    DISABLED = 0
    READY = 1
    WAITING_TO_COMPLETE_INITIAL_REPLICATION = 2
    REPLICATING = 3
    SYNCED_REPLICATION_COMPLETE = 4
    RECOVERED = 5
    COMMITTED = 6
    SUSPENDED = 7
    CRITICAL = 8
    WAITING_TO_START_RESYNCHRONIZE = 9
    RESYNCHRONIZING = 10
    RESYNCHRONIZATION_SUSPENDED = 11
    FAILOVER_IN_PROGRESS = 12
    FAILBACK_IN_PROGRESS = 13
    FAILBACK_COMPLETE = 14


class Health(StrEnum):
    """Replication health; never a transition by itself."""

    NOT_APPLICABLE = "NotApplicable"
    NORMAL = "Normal"
    WARNING = "Warning"
    CRITICAL = "Critical"


class FaultKind(StrEnum):
    """What a simulated fabric does wrong when told to (management port)."""

    SLOW = "slow"
    HOLD = "hold"
    REFUSE = "refuse"
    VANISH_BEFORE = "vanish_before"
    VANISH_AFTER = "vanish_after"
    LIE = "lie"
    PARTIAL = "partial"
