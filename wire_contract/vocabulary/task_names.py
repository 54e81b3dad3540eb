"""One table of task names, by taskId; job_names.py beside it says what a source is.

A row with fields in braces is a pattern: who uses it gives the fields.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple


class TaskRow(NamedTuple):
    """A task's ARM name and text; its taskId is the key."""

    name: str
    text: str
    source: str


_CHECK_PAIR, _CHECK_UNPAIR = "CloudPairingPrerequisitesCheck", "CloudUnpairingPrerequisitesCheck"
_CHECK_REVERSE = "VmReverseReplicationPrerequisitesCheck"
_PREPARE_REVERSE, _INITIATE_REVERSE = (
    "VmPrepareForReverseReplication",
    "VmInitiateReverseReplication",
)
_SHUT_DOWN = "Shut down the virtual machine"
_START_COPY = "Starting initial replication"

TASKS: Final[Mapping[str, TaskRow]] = {
    # An item's life.
    "EnableProtectionPreflightChecksTask": TaskRow(
        "EnableProtectionPrerequisitesCheck",
        "Prerequisites check for enabling protection",
        "recorded.md 1",
    ),
    "CreateProtectionTargetTask": TaskRow(
        "CreateProtectionTarget", "Identifying the replication target", "recorded.md 1"
    ),
    "EnableProtectionTask": TaskRow("EnableProtection", "Enable replication", "recorded.md 1"),
    "StartInitialReplicationTask": TaskRow(
        "VmStartInitialReplication", _START_COPY, "recorded.md 1"
    ),
    "UpdateDraStateTask": TaskRow(
        "UpdateDraState", "Updating the provider states", "recorded.md 1"
    ),
    "UpdateDraStateOnSecondaryTask": TaskRow(
        "UpdateDraState", "Updating the provider states", "ours"
    ),
    "CompleteInitialReplicationTask": TaskRow(
        "CompleteInitialReplication", "Complete initial replication", "recorded.md 1"
    ),
    "ReplicaConfigurationPreflightChecksTask": TaskRow(
        "FailWorkflowOnIRFailureTask", "Finalizing initial replication", "recorded.md 1"
    ),
    "ReplicaConfigurationTask": TaskRow(
        "ReplicaConfiguration",
        "Complete network and post-replication configuration",
        "recorded.md 1",
    ),
    "DisableProtectionOnPrimaryTask": TaskRow(
        "DisableProtectionOnPrimary", "Disable replication on the source location", "recorded.md 8"
    ),
    "DisableProtectionOnSecondaryTask": TaskRow(
        "DisableProtectionOnSecondary",
        "Disable replication on the target location",
        "recorded.md 8",
    ),
    "PurgeProtectionPreflightChecksTask": TaskRow(
        "PurgeProtectionPrerequisitesCheck",
        "Prerequisites check for removing the protection by force",
        "ours",
    ),
    "RepairReplicationPreflightChecksTask": TaskRow(
        "RepairReplicationPrerequisitesCheck", "Prerequisites check for resynchronization", "ours"
    ),
    "RepairReplicationTask": TaskRow("RepairReplication", "Starting resynchronization", "ours"),
    # Failovers of an item.
    "PlannedFailoverPreflightChecksTask": TaskRow(
        "VmPfoPrerequisitesCheck", "Prerequisites check for planned failover", "recorded.md 4"
    ),
    "ShutdownVmOnPrimary": TaskRow("VmShutdownVmOnPrimary", _SHUT_DOWN, "recorded.md 4"),
    "PrepareForFailoverTask": TaskRow(
        "VmPrepareForFailover", "Preparing for failover", "recorded.md 4"
    ),
    "FailoverTask": TaskRow("VmFailover", "Start failover", "recorded.md 4"),
    "StartVmOnSecondary": TaskRow(
        "VmFoStartVmOnSecondary", "Start the replica virtual machine", "recorded.md 4"
    ),
    "TakeBackFailoverTask": TaskRow("VmTakeBackFailover", "Take back the earlier failover", "ours"),
    "UnplannedFailoverPreflightChecksTask": TaskRow(
        "VmUfoPrerequisitesCheck", "Prerequisites check for failover", "recorded.md 5"
    ),
    "ShutdownVmOnPrimaryForUFO": TaskRow("VmShutdownVmOnPrimary", _SHUT_DOWN, "recorded.md 5"),
    "PrepareForUnPlannedFailoverTask": TaskRow(
        "VmPrepareForUnPlannedFailover", "Synchronizing the latest changes", "recorded.md 5"
    ),
    # The taskIds of commit and reversal were recorded as random ones: these are ours.
    "VmCommitPrerequisitesCheckTask": TaskRow(
        "VmCommitPrerequisitesCheck", "Prerequisite check", "recorded.md 6"
    ),
    "VmCommitTask": TaskRow("VmCommit", "Commit", "recorded.md 6"),
    "VmReverseReplicationPrerequisitesCheckTask": TaskRow(
        _CHECK_REVERSE, "Prerequisites check", "recorded.md 7"
    ),
    "VmShutdownVmOnSecondaryTask": TaskRow("VmShutdownVmOnSecondary", _SHUT_DOWN, "recorded.md 7"),
    "VmPrepareForReverseReplicationTask": TaskRow(
        _PREPARE_REVERSE, "Preparing for reverse replication", "recorded.md 7"
    ),
    "VmInitiateReverseReplicationTask": TaskRow(
        _INITIATE_REVERSE, "Start reverse replication", "recorded.md 7"
    ),
    "VmStartInitialReplicationTask": TaskRow(
        "VmStartInitialReplication", _START_COPY, "recorded.md 7"
    ),
    "KeepFormerSourceTask": TaskRow(
        "VmKeepFormerSource", "Set the disks of the former source aside", "ours"
    ),
    # No change of the recovery point was recorded: its steps are behaviour.md's, their names ours.
    "ChangeRecoveryPointPreflightChecksTask": TaskRow(
        "VmChangePitPrerequisitesCheck",
        "Prerequisites check for changing the recovery point",
        "behaviour.md 2.11",
    ),
    "ShutdownFailedOverVmTask": TaskRow("VmShutdownFailedOverVm", _SHUT_DOWN, "behaviour.md 2.11"),
    "ChangeRecoveryPointTask": TaskRow(
        "VmChangePit", "Change the recovery point", "behaviour.md 2.11"
    ),
    "StartAtRecoveryPointTask": TaskRow(
        "VmStartAtPit", "Start the replica virtual machine", "behaviour.md 2.11"
    ),
    "CancelFailoverPreflightChecksTask": TaskRow(
        "VmCancelFailoverPrerequisitesCheck",
        "Prerequisites check for cancelling the failover",
        "ours",
    ),
    "CancelFailoverOnReplicaTask": TaskRow(
        "VmCancelFailoverOnReplica", "Cancel the failover of the replica", "ours"
    ),
    "CancelFailoverOnSourceTask": TaskRow(
        "VmCancelFailoverOnSource", "Go on replicating from the source", "ours"
    ),
    "StartSourceTask": TaskRow("VmStartSource", "Start the virtual machine", "ours"),
    "OverrideFencePreflightChecksTask": TaskRow(
        "VmOverrideFencePrerequisitesCheck", "Prerequisites check for overriding a fence", "ours"
    ),
    "FenceOtherCopyTask": TaskRow("VmFenceOtherCopy", "Stop and fence the other copy", "ours"),
    "LiftFenceTask": TaskRow("VmLiftFence", "Lift the fence of the former source", "ours"),
    # Tests of failovers.
    "TestFailoverPreflightChecksTask": TaskRow(
        "VmTfoPrerequisitesCheck", "Prerequisites check for test failover", "recorded.md 2"
    ),
    "CreateTestEnvironmentTask": TaskRow(
        "CreateTestEnvironment", "Create test environment", "behaviour.md 2.8"
    ),
    "BeginTestFailoverTask": TaskRow(
        "VmTfoInitiateFailover", "Create test virtual machine", "recorded.md 2"
    ),
    "PrepareTestProtectedEntitiesTask": TaskRow(
        "VmTfoPrepareTestVm", "Preparing the virtual machine", "recorded.md 2"
    ),
    "BootTestProtectedEntitiesTask": TaskRow(
        "VmTfoBootTestVm", "Start the virtual machine", "recorded.md 2"
    ),
    "TestFailoverCleanupPreflightChecksTask": TaskRow(
        "VmTfoCleanupPreflightsCheck",
        "Prerequisites check for test failover cleanup",
        "recorded.md 3",
    ),
    "EndTestFailoverTask": TaskRow("VmTfoEndFailover", "Ending test failover", "recorded.md 3"),
    "CleanupTestProtectedEntitiesTask": TaskRow(
        "VmTfoDeleteTestVm", "Clean up the test virtual machine", "recorded.md 3"
    ),
    "CleanupTestEnvironmentTask": TaskRow(
        "CleanupTestEnvironment", "Clean up the test environment", "behaviour.md 2.8"
    ),
    # Recovery plans.
    "RecoveryPlanPrerequisitesCheckTask": TaskRow(
        "RecoveryPlanPrerequisitesCheck", "Recovery plan preflight checks", "behaviour.md 2.7"
    ),
    "RecoveryPlanFailoverTask": TaskRow(
        "RecoveryPlanFailover", "Recovery plan failover", "behaviour.md 2.7"
    ),
    "AllGroupsPreStepsTask": TaskRow(
        "AllGroupsPreSteps", "All groups failover: Pre steps ({count})", "behaviour.md 2.7"
    ),
    "Group{number}ManualActionTask": TaskRow("ManualActionTask", "{group}: manual action", "ours"),
    "Group{number}Task": TaskRow("RecoveryPlanGroupTask", "{group}", "ours"),
    "{key}{when}{place}ActionTask": TaskRow(
        "{kind}", "{group}: {steps} ({place}) {action}", "behaviour.md 2.7"
    ),
    "SaveRecoveryPlanTask": TaskRow(
        "SaveRecoveryPlanTask", "Save a recovery plan task", "recorded.md 11"
    ),
    "DeleteRecoveryPlanTask": TaskRow(
        "DeleteRecoveryPlanTask", "Delete a recovery plan task", "recorded.md 11"
    ),
    # Settings of clouds, networks and storage.
    "AddProtectionProfilePreflightsCheckTask": TaskRow(
        "AddProtectionProfilePreflightsCheckTask",
        "Prerequisites check for creating the replication policy",
        "behaviour.md 2.2",
    ),
    "AddProtectionProfileTask": TaskRow(
        "AddProtectionProfileTask", "Creating the replication policy", "behaviour.md 2.2"
    ),
    "UpdateProtectionProfilePreflightsCheckTask": TaskRow(
        "UpdateProtectionProfilePreflightsCheckTask",
        "Prerequisites check for updating the replication policy",
        "ours",
    ),
    "WaitForSelfFenceTask": TaskRow(
        "WaitForSelfFence", "Waiting until the source has stopped by itself", "ours"
    ),
    "UpdateReplicationSettingsTask": TaskRow(
        "UpdateReplicationSettings", "Update the settings of replication", "ours"
    ),
    "RemoveProtectionProfilePreflightsCheckTask": TaskRow(
        "RemoveProtectionProfilePreflightsCheckTask",
        "Prerequisites check for deleting the replication policy",
        "ours",
    ),
    "RemoveProtectionProfileTask": TaskRow(
        "RemoveProtectionProfileTask", "Deleting the replication policy", "ours"
    ),
    "CloudPairingWfPreflightChecksTask": TaskRow(
        _CHECK_PAIR, "Check protection prerequisites", "recorded.md 9"
    ),
    "CloudPairingWfPrepareSiteTask": TaskRow(
        "CloudPairingPrepareSite", "Prepare the server", "recorded.md 9"
    ),
    "CloudPairingWfPrepareCloudForPairingTask": TaskRow(
        "CloudPairingPrepareCloud", "Prepare for configuring protection", "recorded.md 9"
    ),
    "CloudPairingWfPairCloudsTask": TaskRow(
        "CloudPairingPairClouds", "Configure the protection settings", "recorded.md 9"
    ),
    "CloudUnpairingWfPreflightChecksTask": TaskRow(
        _CHECK_UNPAIR,
        "Prerequisites check for dissociating the replication policy",
        "recorded.md 9",
    ),
    "CloudUnpairingWfUnpairCloudsTask": TaskRow(
        "CloudUnpairingUnpairClouds", "Remove the protection configuration", "recorded.md 9"
    ),
    "CloudUnpairingWfCleanupCloudsTask": TaskRow(
        "CloudUnpairingCleanupClouds", "Clean up the protection configuration", "recorded.md 9"
    ),
    "CloudUnpairingWfCleanupSiteTask": TaskRow(
        "CloudUnpairingCleanupSite", "Clean up the configuration", "recorded.md 9"
    ),
    "CloudUnPairingCleanupTask": TaskRow(
        "CloudUnPairingCleanup", "Clean up the protection configuration", "behaviour.md 2.2"
    ),
    "ModifyVMNetworksPairingStatusTask": TaskRow(
        "ModifyVMNetworksPairingStatusTask", "Map network", "recorded.md 10"
    ),
    "VMNetworksUpdateVMNicsTask": TaskRow(
        "VMNetworksUpdateVMNicsTask", "Attach network ({count})", "recorded.md 10"
    ),
    "ModifyVMNetworksUnPairingStatusTask": TaskRow(
        "ModifyVMNetworksUnPairingStatusTask", "Unmap network", "recorded.md 10"
    ),
    "VMNetworksUpdateVMNicsTaskDetach": TaskRow(
        "VMNetworksUpdateVMNicsTaskDetach", "Detach network ({count})", "recorded.md 10"
    ),
    "VmNicUpdateTask": TaskRow("VmNicUpdate", "Updating the network adapters", "ours"),
    "ClassificationPairingPreflightChecksTask": TaskRow(
        "ClassificationPairingPrerequisitesCheck",
        "Prerequisites check for mapping classifications",
        "behaviour.md 2.6",
    ),
    "ClassificationPairingTask": TaskRow(
        "ClassificationPairing", "Mapping classifications", "behaviour.md 2.6"
    ),
    "ClassificationUnpairingPreflightChecksTask": TaskRow(
        "ClassificationUnpairingPrerequisitesCheck",
        "Prerequisites check for unmapping classifications",
        "behaviour.md 2.6",
    ),
    "ClassificationUnpairingTask": TaskRow(
        "ClassificationUnpairing", "Unmapping classifications", "behaviour.md 2.6"
    ),
    # Servers. Recorded are the two jobs of a registration, not their tasks.
    "CreateSiteTask": TaskRow("CreateSite", "Creating the site", "ours"),
    "RegisterDraTask": TaskRow("RegisterDra", "Registering the server", "behaviour.md 2.1"),
    "UnregisterFabricPreflightChecksTask": TaskRow(
        "UnregisterFabricPreflightCheckTask",
        "Prerequisites check for deleting the server",
        "recorded.md 12",
    ),
    "CleanupFabricTask": TaskRow(
        "CleanupFabricTask", "Cleaning up the provider settings", "recorded.md 12"
    ),
    "UnregisterFabricTask": TaskRow(
        "UnregisterFabricTask", "Deleting the server", "recorded.md 12"
    ),
    "RefreshProviderPreflightChecksTask": TaskRow(
        "RefreshProviderPrerequisitesCheck", "Prerequisites check for refreshing the server", "ours"
    ),
    "RefreshProviderTask": TaskRow("RefreshProvider", "Refreshing the server", "ours"),
    "InjectEventTask": TaskRow("InjectEvent", "Injecting the event into the site", "ours"),
}
"""By taskId."""


def task_names(task_id: str, **fields: str | int) -> tuple[str, str, str]:
    """Return taskId, name and text of a row, its pattern filled in; KeyError without a row."""
    row = TASKS[task_id]
    if not fields:
        return task_id, row.name, row.text
    return task_id.format(**fields), row.name.format(**fields), row.text.format(**fields)
