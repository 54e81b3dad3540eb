"""What the operator asks of the vault and of one protected machine, in the SDK's own words."""

from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from azure.mgmt.recoveryservicessiterecovery import models

from lab.operator_client import FinishedJob, Operator, TaskListener
from wire_contract.vocabulary import CERTIFICATE_PORT, Direction

CERTIFICATE_AUTHENTICATION: Final = 2
"""HyperVReplicaBluePolicyInput.allowedAuthenticationType: certificates (1 is Kerberos)."""

PROVIDER: Final = "HyperVReplica2012R2"
"""instanceType of everything between two VMM sites of 2012 R2 hosts."""

SourceChanges = Literal["Keep", "Discard"]
"""What becomes of what a former source alone holds when replication is reversed."""


@dataclass(frozen=True, slots=True)
class Place:
    """A cloud on the ARM surface: fabric name, container name, ARM id."""

    fabric: str
    container: str
    arm_id: str

    @classmethod
    def of(cls, operator: Operator, fabric: str, container: str) -> "Place":
        """Return the place of a cloud in the operator's vault."""
        arm_id = (
            f"{operator.vault_arm_id}/replicationFabrics/{fabric}"
            f"/replicationProtectionContainers/{container}"
        )
        return cls(fabric, container, arm_id)


@dataclass(frozen=True, slots=True)
class ItemOperations:
    """One machine of a cloud, protected or to be protected; `item` is its GUID."""

    operator: Operator
    place: Place
    item: str
    name: str
    on_task: TaskListener | None = None

    @property
    def path(self) -> tuple[str, str, str, str, str]:
        """The first arguments of every call about this item."""
        return (*self.operator.scope, self.place.fabric, self.place.container, self.item)

    async def get(self) -> models.ReplicationProtectedItemProperties:
        """Return the protected item's properties."""
        item = await self.operator.recovery.replication_protected_items.get(*self.path)
        return item.properties or models.ReplicationProtectedItemProperties()

    async def enable(self, policy_id: str) -> FinishedJob:
        """Enable protection; initial replication goes on after the job."""
        content = models.EnableProtectionInput(
            properties=models.EnableProtectionInputProperties(
                policy_id=policy_id,
                protectable_item_id=(
                    f"{self.place.arm_id}/replicationProtectableItems/{self.item}"
                ),
                provider_specific_details=models.EnableProtectionProviderSpecificInput(
                    instance_type=PROVIDER
                ),
            )
        )
        begin = partial(
            self.operator.recovery.replication_protected_items.begin_create, *self.path, content
        )
        return await self.operator.run(f"enabling {self.name}", begin, self.on_task)

    async def planned_failover(self, direction: Direction) -> FinishedJob:
        """Shut down, send the rest, fail over, start."""
        content = models.PlannedFailoverInput(
            properties=models.PlannedFailoverInputProperties(
                failover_direction=direction.value,
                provider_specific_details=models.PlannedFailoverProviderSpecificFailoverInput(
                    instance_type=PROVIDER
                ),
            )
        )
        items = self.operator.recovery.replication_protected_items
        begin = partial(items.begin_planned_failover, *self.path, content)
        return await self.operator.run(f"planned failover of {self.name}", begin, self.on_task)

    async def unplanned_failover(self, direction: Direction) -> FinishedJob:
        """Fail over without the source."""
        content = models.UnplannedFailoverInput(
            properties=models.UnplannedFailoverInputProperties(
                failover_direction=direction.value,
                source_site_operations="NotRequired",
                provider_specific_details=models.UnplannedFailoverProviderSpecificInput(
                    instance_type=PROVIDER
                ),
            )
        )
        items = self.operator.recovery.replication_protected_items
        begin = partial(items.begin_unplanned_failover, *self.path, content)
        return await self.operator.run(f"failover of {self.name}", begin, self.on_task)

    async def test_failover(self) -> FinishedJob:
        """Start a copy that is connected to nothing."""
        content = models.TestFailoverInput(
            properties=models.TestFailoverInputProperties(
                failover_direction=Direction.PRIMARY_TO_RECOVERY.value,
                network_type="NoNetworkAttachAsInput",
                provider_specific_details=models.TestFailoverProviderSpecificInput(
                    instance_type=PROVIDER
                ),
            )
        )
        items = self.operator.recovery.replication_protected_items
        begin = partial(items.begin_test_failover, *self.path, content)
        return await self.operator.run(f"test failover of {self.name}", begin, self.on_task)

    async def clean_up_test(self, comments: str) -> FinishedJob:
        """Remove the test copy."""
        content = models.TestFailoverCleanupInput(
            properties=models.TestFailoverCleanupInputProperties(comments=comments)
        )
        items = self.operator.recovery.replication_protected_items
        begin = partial(items.begin_test_failover_cleanup, *self.path, content)
        return await self.operator.run(f"test clean-up of {self.name}", begin, self.on_task)

    async def commit(self) -> FinishedJob:
        """Accept the failover."""
        items = self.operator.recovery.replication_protected_items
        begin = partial(items.begin_failover_commit, *self.path)
        return await self.operator.run(f"commit of {self.name}", begin, self.on_task)

    async def reverse_replicate(
        self, direction: Direction, source_changes: SourceChanges | None = None
    ) -> FinishedJob:
        """Replicate back; `direction` is that of the next failover (recorded.md section 7).

        `source_changes`: what becomes of what the former source alone holds (docs/arm-surface.md).
        """
        properties = models.ReverseReplicationInputProperties(
            failover_direction=direction.value,
            provider_specific_details=models.ReverseReplicationProviderSpecificInput(
                instance_type=PROVIDER
            ),
        ).as_dict()
        if source_changes is not None:
            # Our own property: the SDK's model has none of the name, and takes any JSON.
            properties["sourceChanges"] = source_changes
        content = {"properties": properties}
        items = self.operator.recovery.replication_protected_items
        begin = partial(items.begin_reprotect, *self.path, content)
        return await self.operator.run(f"reversal of {self.name}", begin, self.on_task)


async def create_policy(
    operator: Operator, name: str, seconds: int, on_task: TaskListener | None = None
) -> str:
    """Create a replication policy (latest point only, certificates, port 8084); return its id."""
    content = models.CreatePolicyInput(
        properties=models.CreatePolicyInputProperties(
            provider_specific_input=models.HyperVReplicaBluePolicyInput(
                replication_frequency_in_seconds=seconds,
                recovery_points=0,
                application_consistent_snapshot_frequency_in_hours=0,
                compression="Disable",
                initial_replication_method="OverNetwork",
                replication_port=CERTIFICATE_PORT,
                allowed_authentication_type=CERTIFICATE_AUTHENTICATION,
                replica_deletion="NotRequired",
            )
        )
    )
    policies = operator.recovery.replication_policies
    begin = partial(policies.begin_create, *operator.scope, name, content)
    await operator.run("creating the policy", begin, on_task)
    return f"{operator.vault_arm_id}/replicationPolicies/{name}"


async def pair_clouds(
    operator: Operator,
    primary: Place,
    recovery: Place,
    policy_id: str,
    on_task: TaskListener | None = None,
) -> FinishedJob:
    """Pair two clouds under a policy."""
    content = models.CreateProtectionContainerMappingInput(
        properties=models.CreateProtectionContainerMappingInputProperties(
            target_protection_container_id=recovery.arm_id,
            policy_id=policy_id,
            provider_specific_input=models.ReplicationProviderSpecificContainerMappingInput(
                instance_type=PROVIDER
            ),
        )
    )
    mappings = operator.recovery.replication_protection_container_mappings
    begin = partial(
        mappings.begin_create,
        *(*operator.scope, primary.fabric, primary.container, "lab-pairing", content),
    )
    return await operator.run("pairing the clouds", begin, on_task)
