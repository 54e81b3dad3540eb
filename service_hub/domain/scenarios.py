"""Operation to task list: what a job does, in which order, on which end, and how it is undone.

Names, order and texts are the recorded ones (recorded.md, sections 1 to 9 and 12); where a list
depends on how the item was failed over, that is chosen when the job is made. Ends are named as in
the forward direction; `Direction.place` gives the real one. In reverse replication the direction is
that of the *next* failover, so PRIMARY is the copy that runs now and RECOVERY the former primary
(hence the recorded name VmShutdownVmOnSecondary).

Over 400 lines because it is one table: to read it in one place is its use.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from pydantic import JsonValue

from service_hub.domain.protection import Operation, ProtectionState
from wire_contract.vocabulary import Side, Verb

TASK_SECONDS_MAX: Final = 900
"""Longest a fabric may take for a task before it counts as failed."""

FINAL_CHANGES_SECONDS_MAX: Final = 3600
"""Longest for sending what is still outstanding before a planned failover."""


INVENTORY_SECONDS_MAX: Final = 300
"""Longest that a server which was asked for its inventory is waited for."""


class Target(StrEnum):
    """What a task acts on."""

    MACHINE = "machine"
    TEST_MACHINE = "test_machine"
    CLOUD = "cloud"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a task is tried before it has failed, where the provider's error is one of these.

    A fabric that is busy or unreachable is insisted on by the provider itself until the deadline:
    this is for attempts that have ended.
    """

    attempts_max: int = 1
    pause_seconds: int = 0
    codes: frozenset[int] = frozenset()


TRANSIENT_CODES: Final = frozenset({32771, 32772, 32774, 32777, 32778})
"""WMI return codes that may be gone at the next attempt: state unknown, timed out, system in use,
system not available, out of memory (Msvm_ReplicationService). The others stay what they are."""

SETTLING_CODES: Final = TRANSIENT_CODES | {32775, 91006}
"""Also: a state that does not allow it, and resynchronization required (docs/vmm-simulator.md).

Both pass by themselves once a source that was failed over from compares with its replica again."""

NO_RETRY: Final = RetryPolicy()
TRANSIENT_RETRY: Final = RetryPolicy(attempts_max=3, pause_seconds=20, codes=TRANSIENT_CODES)
SETTLING_RETRY: Final = RetryPolicy(attempts_max=10, pause_seconds=30, codes=SETTLING_CODES)


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """Child jobs side by side: one of this operation for each member, an item id.

    `go_on_past_errors`: the next tasks run although some failed; the job then fails at its end.
    """

    operation: Operation
    members: tuple[str, ...]
    arguments: Mapping[str, JsonValue] = field(default_factory=dict)
    go_on_past_errors: bool = False


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One repeatable step.

    No `sides`: the hub's own check. `skipped_if` / `done_at_once_if` name a flag of the job.
    `undo` takes its effect back on the same ends: when the job is cancelled, and by itself when a
    task with `undo_on_failure` fails; the newest task first. `undo_must_hold`: when that fails,
    nothing older is taken back. `no_way_back`: once it may have been done, nothing older is either.
    `go_on_after_failure`: the failure is noted and the job continues. `leaves`: the item's state
    once it is done, if the job ends later without success and it is not taken back.
    `asks_inventory`: the ends are asked for their inventory, and the task succeeds when it has
    come. `group`: runs child jobs. `manual_action`: what a person has to do; the job is suspended
    until it is resumed.
    """

    task_id: str
    name: str
    friendly_name: str
    sides: tuple[Side, ...] = ()
    verb: Verb | None = None
    target: Target = Target.MACHINE
    seconds: int = TASK_SECONDS_MAX
    undo: Verb | None = None
    undo_on_failure: bool = False
    go_on_after_failure: bool = False
    raises_epoch: bool = False
    skipped_if: str | None = None
    done_at_once_if: str | None = None
    undo_must_hold: bool = False
    no_way_back: bool = False
    leaves: ProtectionState | None = None
    asks_inventory: bool = False
    retry: RetryPolicy = TRANSIENT_RETRY
    group: GroupSpec | None = None
    manual_action: str | None = None

    @property
    def is_check(self) -> bool:
        """Whether the hub itself does it, at once."""
        return (
            not self.sides
            and self.verb is None
            and self.group is None
            and self.manual_action is None
        )


@dataclass(frozen=True, slots=True)
class Scenario:
    """A job's plan: `name` is the ARM scenarioName."""

    name: str
    friendly_name: str
    target_type: str
    details_type: str
    tasks: tuple[TaskSpec, ...]
    _by_id: Mapping[str, TaskSpec] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_id", {spec.task_id: spec for spec in self.tasks})

    def task(self, task_id: str) -> TaskSpec:
        """Return the spec of a task of this scenario."""
        return self._by_id[task_id]


_P, _R = (Side.PRIMARY,), (Side.RECOVERY,)
_BOTH = (Side.PRIMARY, Side.RECOVERY)
_ENTITY, _ASR, _FAILOVER, _TEST = (
    "ProtectionEntity",
    "AsrJobDetails",
    "FailoverJobDetails",
    "TestFailoverJobDetails",
)


def _update_states(*, skipped_if: str | None = None) -> TaskSpec:
    return TaskSpec(
        "UpdateDraStateTask",
        "UpdateDraState",
        "Updating the provider states",
        _BOTH,
        Verb.UPDATE_PROTECTION,
        skipped_if=skipped_if,
    )


ENABLE: Final = Scenario(
    "EnableDr",
    "Enable replication",
    _ENTITY,
    _ASR,
    (
        TaskSpec(
            "EnableProtectionPreflightChecksTask",
            "EnableProtectionPrerequisitesCheck",
            "Prerequisites check for enabling protection",
        ),
        TaskSpec(
            "CreateProtectionTargetTask",
            "CreateProtectionTarget",
            "Identifying the replication target",
            _R,
            Verb.PLACE_REPLICA,
        ),
        TaskSpec(
            "EnableProtectionTask",
            "EnableProtection",
            "Enable replication",
            _P,
            Verb.ENABLE_REPLICATION,
        ),
        TaskSpec(
            "StartInitialReplicationTask",
            "VmStartInitialReplication",
            "Starting initial replication",
            _P,
            Verb.START_INITIAL_REPLICATION,
        ),
        _update_states(),
    ),
)


def _completion(name: str, friendly_name: str, side: tuple[Side, ...], *, final: bool) -> Scenario:
    return Scenario(
        name,
        friendly_name,
        _ENTITY,
        _ASR,
        (
            TaskSpec(
                "CompleteInitialReplicationTask",
                "CompleteInitialReplication",
                "Complete initial replication",
                side,
                Verb.COMPLETE_INITIAL_REPLICATION,
            ),
            TaskSpec(
                "ReplicaConfigurationPreflightChecksTask",
                "FailWorkflowOnIRFailureTask",
                "Finalizing initial replication",
            ),
            TaskSpec(
                "ReplicaConfigurationTask",
                "ReplicaConfiguration",
                "Complete network and post-replication configuration",
                skipped_if="no_network_mapping",
            ),
            _update_states(skipped_if=None if final else "states_updated_later"),
        ),
    )


COMPLETE_PRIMARY: Final = _completion(
    "PrimaryIrCompletion", "Finalize protection on the primary virtual machine", _P, final=False
)
COMPLETE_RECOVERY: Final = _completion(
    "SecondaryIrCompletion", "Finalize protection on the recovery virtual machine", _R, final=True
)

TEST_FAILOVER: Final = Scenario(
    "TestFailover",
    "Test failover",
    _ENTITY,
    _TEST,
    (
        TaskSpec(
            "TestFailoverPreflightChecksTask",
            "VmTfoPrerequisitesCheck",
            "Prerequisites check for test failover",
        ),
        TaskSpec(
            "BeginTestFailoverTask",
            "VmTfoInitiateFailover",
            "Create test virtual machine",
            _R,
            Verb.CREATE_TEST_MACHINE,
            Target.TEST_MACHINE,
            undo=Verb.REMOVE_TEST_MACHINE,
            undo_on_failure=True,
        ),
        TaskSpec(
            "PrepareTestProtectedEntitiesTask",
            "VmTfoPrepareTestVm",
            "Preparing the virtual machine",
            _R,
            Verb.PREPARE_TEST_MACHINE,
            Target.TEST_MACHINE,
            undo_on_failure=True,
        ),
        TaskSpec(
            "BootTestProtectedEntitiesTask",
            "VmTfoBootTestVm",
            "Start the virtual machine",
            _R,
            Verb.START,
            Target.TEST_MACHINE,
            undo=Verb.SHUT_DOWN,
            undo_on_failure=True,
        ),
    ),
)

TEST_FAILOVER_CLEANUP: Final = Scenario(
    "TestFailoverCleanup",
    "Test failover cleanup",
    _ENTITY,
    _TEST,
    (
        TaskSpec(
            "TestFailoverCleanupPreflightChecksTask",
            "VmTfoCleanupPreflightsCheck",
            "Prerequisites check for test failover cleanup",
        ),
        TaskSpec(
            "EndTestFailoverTask",
            "VmTfoEndFailover",
            "Ending test failover",
            _R,
            Verb.SHUT_DOWN,
            Target.TEST_MACHINE,
            undo=Verb.START,
        ),
        TaskSpec(
            "CleanupTestProtectedEntitiesTask",
            "VmTfoDeleteTestVm",
            "Clean up the test virtual machine",
            _R,
            Verb.REMOVE_TEST_MACHINE,
            Target.TEST_MACHINE,
            no_way_back=True,
        ),
    ),
)

# Before the former active copy is started again, this one must be known to be off.
_START_REPLICA: Final = TaskSpec(
    "StartVmOnSecondary",
    "VmFoStartVmOnSecondary",
    "Start the replica virtual machine",
    _R,
    Verb.START,
    undo=Verb.SHUT_DOWN,
    undo_must_hold=True,
)

PLANNED_FAILOVER: Final = Scenario(
    "PlannedFailover",
    "Planned failover",
    _ENTITY,
    _FAILOVER,
    (
        TaskSpec(
            "PlannedFailoverPreflightChecksTask",
            "VmPfoPrerequisitesCheck",
            "Prerequisites check for planned failover",
        ),
        TaskSpec(
            "ShutdownVmOnPrimary",
            "VmShutdownVmOnPrimary",
            "Shut down the virtual machine",
            _P,
            Verb.SHUT_DOWN,
            undo=Verb.START,
        ),
        TaskSpec(
            "PrepareForFailoverTask",
            "VmPrepareForFailover",
            "Preparing for failover",
            _P,
            Verb.PREPARE_FAILOVER,
            seconds=FINAL_CHANGES_SECONDS_MAX,
            undo=Verb.CANCEL_FAILOVER,
            undo_on_failure=True,
        ),
        TaskSpec(
            "FailoverTask",
            "VmFailover",
            "Start failover",
            _R,
            Verb.FAIL_OVER,
            undo=Verb.CANCEL_FAILOVER,
            undo_on_failure=True,
            raises_epoch=True,
            leaves=ProtectionState.PLANNED_FAILED_OVER,
        ),
        _START_REPLICA,
    ),
)

TAKE_BACK_FIRST: Final = TaskSpec(
    "TakeBackFailoverTask",
    "VmTakeBackFailover",
    "Take back the earlier failover",
    _BOTH,
    Verb.CANCEL_FAILOVER,
    retry=SETTLING_RETRY,
)
"""What a planned failover does first where an earlier one was not fully taken back (ours).

A replica that is failed over takes no changes, so that the source could not be prepared. Where
nothing is left to take back, this changes nothing."""

AFTER_FAILED_UNDO: Final = (
    TAKE_BACK_FIRST,
    # What ran at the replica meanwhile is compared first; that begins by itself.
    replace(PLANNED_FAILOVER.task("PrepareForFailoverTask"), retry=SETTLING_RETRY),
)
"""The specs of a planned failover's tasks that differ there."""

UNPLANNED_FAILOVER: Final = Scenario(
    "UnplannedFailover",
    "Failover",
    _ENTITY,
    _FAILOVER,
    (
        TaskSpec(
            "UnplannedFailoverPreflightChecksTask",
            "VmUfoPrerequisitesCheck",
            "Prerequisites check for failover",
        ),
        TaskSpec(
            "ShutdownVmOnPrimaryForUFO",
            "VmShutdownVmOnPrimary",
            "Shut down the virtual machine",
            _P,
            Verb.SHUT_DOWN,
            undo=Verb.START,
            go_on_after_failure=True,
            done_at_once_if="source_operations_not_required",
            retry=NO_RETRY,
        ),
        TaskSpec(
            "PrepareForUnPlannedFailoverTask",
            "VmPrepareForUnPlannedFailover",
            "Synchronizing the latest changes",
            _P,
            Verb.SYNCHRONIZE,
            # Lifts the fence of the copy that gets the authority back, so that it can be started.
            undo=Verb.CANCEL_FAILOVER,
            go_on_after_failure=True,
            retry=NO_RETRY,
            skipped_if="source_operations_not_required",
        ),
        TaskSpec(
            "FailoverTask",
            "VmFailover",
            "Start failover",
            _R,
            Verb.FAIL_OVER,
            undo=Verb.CANCEL_FAILOVER,
            undo_on_failure=True,
            raises_epoch=True,
            leaves=ProtectionState.UNPLANNED_FAILED_OVER,
        ),
        _START_REPLICA,
    ),
)

COMMIT: Final = Scenario(
    "CommitFailover",
    "Commit",
    _ENTITY,
    _ASR,
    (
        TaskSpec(
            "VmCommitPrerequisitesCheckTask", "VmCommitPrerequisitesCheck", "Prerequisite check"
        ),
        TaskSpec("VmCommitTask", "VmCommit", "Commit", _R, Verb.COMMIT, no_way_back=True),
    ),
)


def _reverse(*, planned: bool) -> tuple[TaskSpec, ...]:
    committed = (
        ProtectionState.PLANNED_COMMITTED if planned else ProtectionState.UNPLANNED_COMMITTED
    )
    shut_down = TaskSpec(
        "VmShutdownVmOnSecondaryTask",
        "VmShutdownVmOnSecondary",
        "Shut down the virtual machine",
        _R,
        Verb.SHUT_DOWN,
    )
    initial_replication = TaskSpec(
        "VmStartInitialReplicationTask",
        "VmStartInitialReplication",
        "Starting initial replication",
        _P,
        Verb.START_INITIAL_REPLICATION,
    )
    return (
        TaskSpec(
            "VmReverseReplicationPrerequisitesCheckTask",
            "VmReverseReplicationPrerequisitesCheck",
            "Prerequisites check",
        ),
        TaskSpec(
            "VmCommitTask",
            "VmCommit",
            "Commit",
            _P,
            Verb.COMMIT,
            skipped_if="already_committed",
            no_way_back=True,
            leaves=committed,
        ),
        *(() if planned else (shut_down,)),
        TaskSpec(
            "VmPrepareForReverseReplicationTask",
            "VmPrepareForReverseReplication",
            "Preparing for reverse replication",
            _R,
            Verb.PREPARE_REVERSE,
        ),
        TaskSpec(
            "VmInitiateReverseReplicationTask",
            "VmInitiateReverseReplication",
            "Start reverse replication",
            _P,
            Verb.REVERSE_REPLICATE,
        ),
        *(() if planned else (initial_replication,)),
        TaskSpec(
            "UpdateDraStateTask",
            "UpdateDraState",
            "Updating the provider states",
            _BOTH,
            Verb.UPDATE_PROTECTION,
        ),
    )


REVERSE_AFTER_PLANNED: Final = Scenario(
    "ReverseReplication", "Reverse replication", _ENTITY, _ASR, _reverse(planned=True)
)
REVERSE_AFTER_UNPLANNED: Final = Scenario(
    "ReverseReplication", "Reverse replication", _ENTITY, _ASR, _reverse(planned=False)
)

PAIR_CLOUDS: Final = Scenario(
    "AssociateProtectionProfile",
    "Associate replication policy",
    "ProtectionProfile",
    _ASR,
    (
        TaskSpec(
            "CloudPairingWfPreflightChecksTask",
            "CloudPairingPrerequisitesCheck",
            "Check protection prerequisites",
        ),
        TaskSpec(
            "CloudPairingWfPrepareSiteTask",
            "CloudPairingPrepareSite",
            "Prepare the server",
            _BOTH,
            Verb.CONFIGURE_HOSTS,
            Target.CLOUD,
        ),
        TaskSpec(
            "CloudPairingWfPrepareCloudForPairingTask",
            "CloudPairingPrepareCloud",
            "Prepare for configuring protection",
            _BOTH,
            Verb.PREPARE_CLOUD,
            Target.CLOUD,
        ),
        TaskSpec(
            "CloudPairingWfPairCloudsTask",
            "CloudPairingPairClouds",
            "Configure the protection settings",
            _BOTH,
            Verb.PAIR_CLOUD,
            Target.CLOUD,
            undo=Verb.UNPAIR_CLOUD,
        ),
    ),
)

CREATE_POLICY: Final = Scenario(
    "AddProtectionProfile",
    "Create replication policy",
    "ProtectionProfile",
    _ASR,
    (
        TaskSpec(
            "AddProtectionProfilePreflightsCheckTask",
            "AddProtectionProfilePreflightsCheckTask",
            "Prerequisites check for creating the replication policy",
        ),
        TaskSpec(
            "AddProtectionProfileTask",
            "AddProtectionProfileTask",
            "Creating the replication policy",
        ),
    ),
)

_SERVER: Final = "Server"

CREATE_SITE: Final = Scenario(
    "CreateSite",
    "Create a site",
    _SERVER,
    _ASR,
    # Recorded are the two jobs of a registration, not their tasks: those names are ours.
    (TaskSpec("CreateSiteTask", "CreateSite", "Creating the site"),),
)

REGISTER_PROVIDER: Final = Scenario(
    "RegisterDra",
    "Register the Azure Site Recovery Provider",
    _SERVER,
    _ASR,
    (TaskSpec("RegisterDraTask", "RegisterDra", "Registering the server"),),
)

UNREGISTER_SERVER: Final = Scenario(
    "UnregisterFabric",
    "Delete server",
    _SERVER,
    _ASR,
    (
        TaskSpec(
            "UnregisterFabricPreflightChecksTask",
            "UnregisterFabricPreflightCheckTask",
            "Prerequisites check for deleting the server",
        ),
        TaskSpec(
            "CleanupFabricTask",
            "CleanupFabricTask",
            "Cleaning up the provider settings",
            _P,
            Verb.CLEAN_UP,
            Target.SERVER,
            no_way_back=True,
        ),
        TaskSpec("UnregisterFabricTask", "UnregisterFabricTask", "Deleting the server"),
    ),
)

TIDY_PARTNER: Final = Scenario(
    "CloudUnPairing",
    "Remove the protection configuration",
    "ProtectionContainer",
    _ASR,
    (
        TaskSpec(
            "CloudUnPairingCleanupTask",
            "CloudUnPairingCleanup",
            "Clean up the protection configuration",
            _P,
            Verb.UNPAIR_CLOUD,
            Target.CLOUD,
            no_way_back=True,
        ),
    ),
)

REFRESH_SERVER: Final = Scenario(
    "RefreshProvider",
    "Refresh server",
    _SERVER,
    _ASR,
    (
        TaskSpec(
            "RefreshProviderPreflightChecksTask",
            "RefreshProviderPrerequisitesCheck",
            "Prerequisites check for refreshing the server",
        ),
        TaskSpec(
            "RefreshProviderTask",
            "RefreshProvider",
            "Refreshing the server",
            _P,
            seconds=INVENTORY_SECONDS_MAX,
            asks_inventory=True,
        ),
    ),
)

SCENARIOS: Final[Mapping[str, Scenario]] = {
    "enable": ENABLE,
    "complete_primary": COMPLETE_PRIMARY,
    "complete_recovery": COMPLETE_RECOVERY,
    "test_failover": TEST_FAILOVER,
    "test_failover_cleanup": TEST_FAILOVER_CLEANUP,
    "planned_failover": PLANNED_FAILOVER,
    "unplanned_failover": UNPLANNED_FAILOVER,
    "commit": COMMIT,
    "reverse_after_planned": REVERSE_AFTER_PLANNED,
    "reverse_after_unplanned": REVERSE_AFTER_UNPLANNED,
    "pair_clouds": PAIR_CLOUDS,
    "create_policy": CREATE_POLICY,
    "create_site": CREATE_SITE,
    "register_provider": REGISTER_PROVIDER,
    "unregister_server": UNREGISTER_SERVER,
    "refresh_server": REFRESH_SERVER,
    "tidy_partner": TIDY_PARTNER,
}
"""Every plan under the key that a stored job keeps."""

_PLAN: Final = "RecoveryPlan"

PLANS: Final[Mapping[str, Scenario]] = {
    "plan_planned_failover": Scenario("PlannedFailover", "Planned failover", _PLAN, _FAILOVER, ()),
    "plan_unplanned_failover": Scenario("UnplannedFailover", "Failover", _PLAN, _FAILOVER, ()),
    "plan_test_failover": Scenario("TestFailover", "Test failover", _PLAN, _TEST, ()),
    "plan_test_failover_cleanup": Scenario(
        "TestFailoverCleanup", "Test failover cleanup", _PLAN, _TEST, ()
    ),
    "plan_commit": Scenario("CommitFailover", "Commit", _PLAN, _ASR, ()),
    "plan_reverse": Scenario("ReverseReplication", "Reverse replication", _PLAN, _ASR, ()),
}
"""Jobs over many items: their tasks depend on the plan, so that each job carries its own."""


def plan_key(operation: Operation) -> str:
    """Return the key of an operation on a plan."""
    if operation is Operation.REVERSE_REPLICATE:
        return "plan_reverse"
    key = f"plan_{_BY_OPERATION[operation]}"
    assert key in PLANS, f"no plan does {operation}"
    return key


_BY_OPERATION: Final[Mapping[Operation, str]] = {
    Operation.ENABLE: "enable",
    Operation.COMPLETE_PRIMARY: "complete_primary",
    Operation.COMPLETE_RECOVERY: "complete_recovery",
    Operation.TEST_FAILOVER: "test_failover",
    Operation.TEST_FAILOVER_CLEANUP: "test_failover_cleanup",
    Operation.PLANNED_FAILOVER: "planned_failover",
    Operation.UNPLANNED_FAILOVER: "unplanned_failover",
    Operation.COMMIT: "commit",
}


def scenario_key(operation: Operation, *, unplanned: bool) -> str:
    """Return the plan of an operation; reverse replication depends on the kind of failover."""
    if operation is Operation.REVERSE_REPLICATE:
        return "reverse_after_unplanned" if unplanned else "reverse_after_planned"
    return _BY_OPERATION[operation]
