"""Replication policies (arm-api.md, section 2.1; recorded policy_get.json)."""

from typing import Any, Final

from service_hub.arm.ids import POLICIES, VaultIds, resource_type
from service_hub.domain.records import ReplicationPolicy, Vault

# The words of answers differ from those of requests; of the second only the meaning is documented
# (the SDK's docstring: "String.Empty, None, OnRecoveryCloud").
_DELETE_REPLICA: Final = "SecondaryVMOnRecoveryCloud"
_KEEP_REPLICA: Final = "None"


def policy_body(vault: Vault, policy: ReplicationPolicy) -> dict[str, Any]:
    """Return a policy."""
    return {
        "id": VaultIds(vault).policy(policy.name),
        "name": policy.name,
        "type": resource_type(POLICIES),
        "properties": {
            "friendlyName": policy.name,
            "providerSpecificDetails": _settings(policy),
        },
    }


def _settings(policy: ReplicationPolicy) -> dict[str, Any]:
    settings: dict[str, Any] = {"instanceType": policy.provider_type}
    if policy.provider_type == "HyperVReplica2012R2":
        # 2012 hosts replicate every five minutes: the type has no such field.
        settings["replicationFrequencyInSeconds"] = policy.replication_frequency_seconds
    settings |= {
        "recoveryPoints": policy.recovery_points,
        "applicationConsistentSnapshotFrequencyInHours": policy.application_consistent_hours,
        "compression": "Enabled" if policy.compression else "Disabled",
        "initialReplicationMethod": policy.initial_replication_method,
        "offlineReplicationImportPath": policy.offline_import_path,
        "offlineReplicationExportPath": policy.offline_export_path,
        "replicationPort": policy.replication_port,
        "allowedAuthenticationType": policy.allowed_authentication_type,
        "replicaDeletionOption": (
            _DELETE_REPLICA if policy.replica_deletion_required else _KEEP_REPLICA
        ),
    }
    if policy.self_fence_seconds:
        # No property of the dialect: the official SDK passes over it.
        settings["selfFenceSeconds"] = policy.self_fence_seconds
    if policy.online_start_time:
        settings["onlineReplicationStartTime"] = policy.online_start_time
    return settings
