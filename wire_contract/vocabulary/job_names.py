"""One table of job names, task_names.py beside it: code, docs/jobs-and-tasks.md and tests read it.

Each row says where its names come from: a section of recorded.md (what the real service answered;
it wins), one of behaviour.md (older recordings and documents), or "ours" where nothing public was
found.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple


class JobRow(NamedTuple):
    """A job's ARM scenarioName and text, the type of its target and of its details."""

    scenario_name: str
    text: str
    target_type: str
    details_type: str
    source: str


_ENTITY, _CLOUD, _POLICY = "ProtectionEntity", "ProtectionContainer", "ProtectionProfile"
_SERVER, _NETWORK, _STORAGE, _PLAN = "Server", "Network", "Storage", "RecoveryPlan"
_ASR, _FAILOVER, _TEST = "AsrJobDetails", "FailoverJobDetails", "TestFailoverJobDetails"

_DISSOCIATE = "Dissociate replication policy"
_PAIR_STORAGE, _UNPAIR_STORAGE = "Classification mapping", "Remove classification mapping"
_PRIMARY_DONE = "Finalize protection on the primary virtual machine"
_RECOVERY_DONE = "Finalize protection on the recovery virtual machine"
_REGISTER = "Register the Azure Site Recovery Provider"
_REVERSE = JobRow("ReverseReplication", "Reverse replication", _ENTITY, _ASR, "recorded.md 7")
_CANCEL = JobRow("CancelFailover", "Cancel failover", _ENTITY, _FAILOVER, "ours")
_OVERRIDE = JobRow("OverrideFence", "Override a fence", _ENTITY, _FAILOVER, "ours")
_CLEANUP = "Test failover cleanup"

JOBS: Final[Mapping[str, JobRow]] = {
    # An item's life.
    "enable": JobRow("EnableDr", "Enable replication", _ENTITY, _ASR, "recorded.md 1"),
    "complete_primary": JobRow(
        "PrimaryIrCompletion", _PRIMARY_DONE, _ENTITY, _ASR, "recorded.md 1"
    ),
    "complete_recovery": JobRow(
        "SecondaryIrCompletion", _RECOVERY_DONE, _ENTITY, _ASR, "recorded.md 1"
    ),
    "disable": JobRow("DisableDr", "Disable replication", _ENTITY, _ASR, "recorded.md 8"),
    "purge": JobRow("PurgeDr", "Remove protection by force", _ENTITY, _ASR, "ours"),
    "repair": JobRow("RepairReplication", "Resynchronize", _ENTITY, _ASR, "ours"),
    # Failovers of an item.
    "planned_failover": JobRow(
        "PlannedFailover", "Planned failover", _ENTITY, _FAILOVER, "recorded.md 4"
    ),
    "unplanned_failover": JobRow(
        "UnplannedFailover", "Failover", _ENTITY, _FAILOVER, "recorded.md 5"
    ),
    "commit": JobRow("CommitFailover", "Commit", _ENTITY, _ASR, "recorded.md 6"),
    "change_recovery_point": JobRow(
        "ChangeRecoveryPoint", "Change recovery point", _ENTITY, _FAILOVER, "behaviour.md 2.11"
    ),
    "cancel_planned_failover": _CANCEL,
    "cancel_unplanned_failover": _CANCEL,
    "reverse_after_planned": _REVERSE,
    "reverse_after_unplanned": _REVERSE,
    "reverse_keeping": _REVERSE,
    "override_fence": _OVERRIDE,
    "override_fence_committed": _OVERRIDE,
    # Tests of failovers.
    "test_failover": JobRow("TestFailover", "Test failover", _ENTITY, _TEST, "recorded.md 2"),
    "test_failover_with_networks": JobRow(
        "TestFailover", "Test failover", _ENTITY, _TEST, "behaviour.md 2.8"
    ),
    "test_failover_cleanup_with_networks": JobRow(
        "TestFailoverCleanup", _CLEANUP, _ENTITY, _TEST, "behaviour.md 2.8"
    ),
    "test_failover_cleanup": JobRow(
        "TestFailoverCleanup", _CLEANUP, _ENTITY, _TEST, "recorded.md 3"
    ),
    # Recovery plans: run as the items' jobs are; no run was recorded under ARM names.
    "plan_planned_failover": JobRow(
        "PlannedFailover", "Planned failover", _PLAN, _FAILOVER, "recorded.md 4"
    ),
    "plan_unplanned_failover": JobRow(
        "UnplannedFailover", "Failover", _PLAN, _FAILOVER, "recorded.md 5"
    ),
    "plan_test_failover": JobRow("TestFailover", "Test failover", _PLAN, _TEST, "recorded.md 2"),
    "plan_test_failover_cleanup": JobRow(
        "TestFailoverCleanup", _CLEANUP, _PLAN, _TEST, "recorded.md 3"
    ),
    "plan_commit": JobRow("CommitFailover", "Commit", _PLAN, _ASR, "recorded.md 6"),
    "plan_cancel_failover": JobRow("CancelFailover", "Cancel failover", _PLAN, _FAILOVER, "ours"),
    "plan_reverse": JobRow(
        "ReverseReplication", "Reverse replication", _PLAN, _ASR, "recorded.md 7"
    ),
    # That of creating was not recorded: the older name of saving (behaviour.md 2.7).
    "create_plan": JobRow(
        "SaveRecoveryPlan", "Save a recovery plan", _PLAN, _ASR, "behaviour.md 2.7"
    ),
    "update_plan": JobRow(
        "UpdateRecoveryPlan", "Save a recovery plan", _PLAN, _ASR, "recorded.md 11"
    ),
    "delete_plan": JobRow(
        "DeleteRecoveryPlan", "Delete a recovery plan", _PLAN, _ASR, "recorded.md 11"
    ),
    # Settings of clouds, networks and storage.
    "create_policy": JobRow(
        "AddProtectionProfile", "Create replication policy", _POLICY, _ASR, "recorded.md 12"
    ),
    "pair_clouds": JobRow(
        "AssociateProtectionProfile", "Associate replication policy", _POLICY, _ASR, "recorded.md 9"
    ),
    "unpair_clouds": JobRow(
        "DissociateProtectionProfile", _DISSOCIATE, _POLICY, _ASR, "recorded.md 9"
    ),
    "configure_hosts": JobRow(
        "CloudPairing", "Protection configuration", _CLOUD, _ASR, "behaviour.md 2.2"
    ),
    "update_policy": JobRow(
        "UpdateProtectionProfile", "Update replication policy", _POLICY, _ASR, "ours"
    ),
    "delete_policy": JobRow(
        "RemoveProtectionProfile", "Delete replication policy", _POLICY, _ASR, "ours"
    ),
    "tidy_partner": JobRow(
        "CloudUnPairing", "Remove the protection configuration", _CLOUD, _ASR, "behaviour.md 2.2"
    ),
    "map_network": JobRow("NetworkPairing", "Map Networks", _NETWORK, _ASR, "recorded.md 10"),
    "unmap_network": JobRow("NetworkUnPairing", "Remove map", _NETWORK, _ASR, "recorded.md 10"),
    "update_networks": JobRow(
        "VmNicUpdateJob", "Update network adapters", _ENTITY, _ASR, "recorded.md 10"
    ),
    "map_storage": JobRow(
        "ClassificationPairing", _PAIR_STORAGE, _STORAGE, _ASR, "behaviour.md 2.6"
    ),
    "unmap_storage": JobRow(
        "ClassificationUnpairing", _UNPAIR_STORAGE, _STORAGE, _ASR, "behaviour.md 2.6"
    ),
    # Servers.
    "create_site": JobRow("CreateSite", "Create a site", _SERVER, _ASR, "recorded.md 12"),
    "register_provider": JobRow("RegisterDra", _REGISTER, _SERVER, _ASR, "recorded.md 12"),
    "unregister_server": JobRow(
        "UnregisterFabric", "Delete server", _SERVER, _ASR, "recorded.md 12"
    ),
    "refresh_server": JobRow("RefreshProvider", "Refresh server", _SERVER, _ASR, "ours"),
    "inject_event": JobRow("InjectEvent", "Inject an event", _SERVER, _ASR, "ours"),
}
"""By the key that a stored job keeps."""


def job_names(key: str) -> tuple[str, str, str, str]:
    """Return scenario name, text, target type and details type; KeyError where there is no row."""
    return JOBS[key][:4]
