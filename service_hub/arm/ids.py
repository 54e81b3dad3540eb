"""ARM ids: made for what is answered, read from what is asked (case does not matter there)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.records import Vault

PROVIDER_NAMESPACE: Final = "Microsoft.RecoveryServices"

FABRICS: Final = "replicationFabrics"
CONTAINERS: Final = "replicationProtectionContainers"
PROTECTABLE_ITEMS: Final = "replicationProtectableItems"
PROTECTED_ITEMS: Final = "replicationProtectedItems"
MAPPINGS: Final = "replicationProtectionContainerMappings"
PROVIDERS: Final = "replicationRecoveryServicesProviders"
NETWORKS: Final = "replicationNetworks"
LOGICAL_NETWORKS: Final = "replicationLogicalNetworks"
CLASSIFICATIONS: Final = "replicationStorageClassifications"
POLICIES: Final = "replicationPolicies"
PLANS: Final = "replicationRecoveryPlans"
JOBS: Final = "replicationJobs"
EVENTS: Final = "replicationEvents"
RECOVERY_POINTS: Final = "recoveryPoints"
OPERATION_STATES: Final = "replicationOperationStatus"
OPERATION_RESULTS: Final = "operationresults"

NO_JOB: Final = "None"
"""Name of the job of an item on which none runs (recorded.md, section 0)."""

_VAULT_SEGMENTS: Final = 8


@dataclass(frozen=True, slots=True)
class VaultIds:
    """Makes the ids of one vault; they begin with `/Subscriptions/`, as the recorded ones do."""

    vault: Vault

    @property
    def root(self) -> str:
        """The vault as the site-recovery service spells it."""
        vault = self.vault
        return (
            f"/Subscriptions/{vault.subscription_id}/resourceGroups/{vault.resource_group}"
            f"/providers/{PROVIDER_NAMESPACE}/vaults/{vault.name}"
        )

    def policy(self, name: str) -> str:
        """Return the id of a replication policy."""
        return f"{self.root}/{POLICIES}/{name}"

    def plan(self, name: str) -> str:
        """Return the id of a recovery plan."""
        return f"{self.root}/{PLANS}/{name}"

    def job(self, job_id: str) -> str:
        """Return the id of a job."""
        return f"{self.root}/{JOBS}/{job_id}"

    def event(self, event_id: str) -> str:
        """Return the id of an event."""
        return f"{self.root}/{EVENTS}/{event_id}"

    def fabric(self, fabric_name: str) -> str:
        """Return the id of a VMM server."""
        return f"{self.root}/{FABRICS}/{fabric_name}"

    def in_fabric(self, fabric_name: str, kind: str, name: str) -> str:
        """Return the id of something that lies directly in a fabric."""
        return f"{self.fabric(fabric_name)}/{kind}/{name}"

    def container(self, fabric_name: str, cloud_id: str) -> str:
        """Return the id of a cloud."""
        return self.in_fabric(fabric_name, CONTAINERS, cloud_id)

    def in_container(self, fabric_name: str, cloud_id: str, kind: str, name: str) -> str:
        """Return the id of something that lies directly in a cloud."""
        return f"{self.container(fabric_name, cloud_id)}/{kind}/{name}"


def resource_type(*kinds: str) -> str:
    """Return the `type` of a resource below a vault."""
    return "/".join((f"{PROVIDER_NAMESPACE}/vaults", *kinds))


def names_in_id(text: str, vault: Vault, kinds: Sequence[str], target: str) -> tuple[str, ...]:
    """Return the names in a resource id of this vault, one for each of `kinds`.

    InvalidRequestError with the property's name when it is another kind of id, or another vault's.
    """
    segments = text.strip("/").split("/")
    expected = VaultIds(vault).root.strip("/").split("/")
    head, tail = segments[:_VAULT_SEGMENTS], segments[_VAULT_SEGMENTS:]
    form = "/".join(f"{kind}/{{name}}" for kind in kinds)
    if [s.lower() for s in head] != [s.lower() for s in expected]:
        raise InvalidRequestError(
            f"The property '{target}' must be the id of a resource of this vault, ending in"
            f" '{form}'.",
            target,
        )
    found_kinds, names = tail[0::2], tail[1::2]
    if [k.lower() for k in found_kinds] != [k.lower() for k in kinds] or not all(names):
        raise InvalidRequestError(f"The property '{target}' must end in '{form}'.", target)
    if len(names) != len(kinds):
        raise InvalidRequestError(f"The property '{target}' must end in '{form}'.", target)
    return tuple(names)
