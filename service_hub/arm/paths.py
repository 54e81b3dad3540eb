"""The paths of the surface, built up from the subscription; only routes are made of them.

Fixed parts match in any case (arm-api.md: clients spell `/Subscriptions/`, `reProtect` and
`operationresults` in more than one way).
"""

import re
from typing import Final

SUBSCRIPTION: Final = "/subscriptions/{subscription}"
GROUP: Final = SUBSCRIPTION + "/resourceGroups/{resource_group}"
NAMESPACE: Final = "/providers/Microsoft.RecoveryServices"
VAULTS: Final = f"{NAMESPACE}/vaults"
VAULT: Final = GROUP + VAULTS + "/{vault}"

EXTENDED_INFO: Final = VAULT + "/extendedInformation/vaultExtendedInfo"
IDENTITY: Final = VAULT + "/registeredIdentities/{identity}"
POLICIES: Final = f"{VAULT}/replicationPolicies"
POLICY: Final = POLICIES + "/{policy}"
PLANS: Final = f"{VAULT}/replicationRecoveryPlans"
PLAN: Final = PLANS + "/{plan}"
JOBS: Final = f"{VAULT}/replicationJobs"
JOB: Final = JOBS + "/{job}"
EVENTS: Final = f"{VAULT}/replicationEvents"
EVENT: Final = EVENTS + "/{event}"
ALERT_SETTINGS: Final = f"{VAULT}/replicationAlertSettings"
ALERT_SETTING: Final = ALERT_SETTINGS + "/{setting}"
VAULT_HEALTH: Final = f"{VAULT}/replicationVaultHealth"
VAULT_SETTINGS: Final = f"{VAULT}/replicationVaultSettings"
VAULT_SETTING: Final = VAULT_SETTINGS + "/{setting}"
FABRICS: Final = f"{VAULT}/replicationFabrics"
FABRIC: Final = FABRICS + "/{fabric}"

PROVIDERS: Final = "/replicationRecoveryServicesProviders"
PROVIDER: Final = FABRIC + PROVIDERS + "/{provider}"
NETWORKS: Final = "/replicationNetworks"
NETWORK: Final = FABRIC + NETWORKS + "/{network}"
LOGICAL_NETWORKS: Final = f"{FABRIC}/replicationLogicalNetworks"
LOGICAL_NETWORK: Final = LOGICAL_NETWORKS + "/{logical_network}"
CLASSIFICATIONS: Final = "/replicationStorageClassifications"
CLASSIFICATION: Final = FABRIC + CLASSIFICATIONS + "/{classification}"

NETWORK_MAPPINGS: Final = "/replicationNetworkMappings"
NETWORK_MAPPING: Final = NETWORK + NETWORK_MAPPINGS + "/{mapping}"
STORAGE_MAPPINGS: Final = "/replicationStorageClassificationMappings"
STORAGE_MAPPING: Final = CLASSIFICATION + STORAGE_MAPPINGS + "/{mapping}"

CONTAINERS: Final = "/replicationProtectionContainers"
CONTAINER: Final = FABRIC + CONTAINERS + "/{container}"
PROTECTABLE_ITEMS: Final = f"{CONTAINER}/replicationProtectableItems"
PROTECTABLE_ITEM: Final = PROTECTABLE_ITEMS + "/{protectable_item}"
MAPPINGS: Final = "/replicationProtectionContainerMappings"
MAPPING: Final = CONTAINER + MAPPINGS + "/{mapping}"
ITEMS: Final = "/replicationProtectedItems"
ITEM: Final = CONTAINER + ITEMS + "/{item}"
RECOVERY_POINTS: Final = f"{ITEM}/recoveryPoints"
RECOVERY_POINT: Final = RECOVERY_POINTS + "/{recovery_point}"

OPERATION_STATE: Final = VAULT + "/replicationOperationStatus/{operation}"
VAULT_OPERATION_STATE: Final = VAULT + "/operationStatus/{operation}"
RESULT: Final = "/operationresults/{operation}"
CERTIFICATE: Final = VAULT + "/certificates/{certificate}"

_PARTS: Final = re.compile(r"(\{[^{}]*\})")


def segments_of(path: str) -> tuple[str | None, ...]:
    """Return the parts between slashes in lower case, None for each that may be anything."""
    return tuple(
        None if each.startswith("{") else each.lower() for each in path.removeprefix("/").split("/")
    )


def folded(path: str) -> str:
    """Return a path for the router whose fixed parts match in any case."""
    parts = _PARTS.split(path)
    return "".join(
        part if part.startswith("{") else _any_case(index, part)
        for index, part in enumerate(parts)
        if part
    )


def _any_case(index: int, part: str) -> str:
    # The router wants a slash in front, outside of any group.
    bare = part.removeprefix("/")
    slash = "/" if part.startswith("/") else ""
    return f"{slash}{{_{index}:(?i:{re.escape(bare)})}}" if bare else slash
