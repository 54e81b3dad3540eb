"""Protected items and their recovery points (recorded protected_item_get.json, fields of 2021)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from service_hub.arm.failover_health import (
    failover_errors,
    failover_health,
    split_brain_errors,
)
from service_hub.arm.ids import (
    CONTAINERS,
    FABRICS,
    NO_JOB,
    PROTECTABLE_ITEMS,
    PROTECTED_ITEMS,
    PROVIDERS,
    RECOVERY_POINTS,
    VaultIds,
    resource_type,
)
from service_hub.arm.item_health import health_errors, replication_health, resolvable
from service_hub.arm.render_containers import MACHINE_TYPE, disk_body
from service_hub.arm.surroundings import clouds, title_of
from service_hub.arm.times import NO_SCENARIO_TIME, fine_time, whole_seconds
from service_hub.domain import open_tests
from service_hub.domain.network_mapping import pairs_of
from service_hub.domain.protection import (
    DESCRIPTIONS,
    TEST_DESCRIPTIONS,
    Operation,
    ProtectionState,
    allowed_operations,
)
from service_hub.domain.records import MachineObservation, ProtectedItem, Vault
from service_hub.domain.recovery_points import APPLICATION_CONSISTENT
from service_hub.ports.use_cases import ItemFacts, SeenFabric
from wire_contract.vmm_interface import NicView, RecoveryPointView
from wire_contract.vocabulary import ReplicationMode, Side

FABRIC_PROVIDER: Final = "VmmFabric"
ITEM_KINDS: Final = (FABRICS, CONTAINERS, PROTECTED_ITEMS)

_NO_NETWORK: Final = "00000000-0000-0000-0000-000000000000"
"""`recoveryVMNetworkId` of a network adapter whose network isn't mapped."""


_POINT_TYPES: Final = {
    "standard": "CrashConsistent",
    "planned": "CrashConsistent",
    APPLICATION_CONSISTENT: "ApplicationConsistent",
}
"""`recoveryPointType` by the fabric's word (arm-api.md, 2.7)."""


def item_id(vault: Vault, facts: ItemFacts) -> str:
    """Return an item's id: under the first primary's cloud, for good."""
    fabric, item = facts.primary.provider.fabric_name, facts.item
    return VaultIds(vault).in_container(fabric, item.primary_cloud_id, PROTECTED_ITEMS, item.id)


def item_body(vault: Vault, facts: ItemFacts, now: datetime) -> dict[str, Any]:
    """Return a protected item."""
    return {
        "id": item_id(vault, facts),
        "name": facts.item.id,
        "type": resource_type(*ITEM_KINDS),
        "properties": _places(vault, facts) | _states(vault, facts, now),
    }


def _places(vault: Vault, facts: ItemFacts) -> dict[str, Any]:
    """Return what never changes, whichever copy runs."""
    ids, item = VaultIds(vault), facts.item
    primary, recovery = facts.primary.provider, facts.recovery.provider
    return {
        "friendlyName": item.friendly_name,
        "protectedItemType": MACHINE_TYPE,
        "protectableItemId": ids.in_container(
            primary.fabric_name, item.primary_cloud_id, PROTECTABLE_ITEMS, item.primary_machine_id
        ),
        "recoveryServicesProviderId": ids.in_fabric(primary.fabric_name, PROVIDERS, primary.vmm_id),
        "primaryFabricFriendlyName": title_of(facts.primary),
        "primaryFabricProvider": FABRIC_PROVIDER,
        "recoveryFabricFriendlyName": title_of(facts.recovery),
        "recoveryFabricId": ids.fabric(recovery.fabric_name),
        "primaryProtectionContainerFriendlyName": _cloud(facts.primary, item.primary_cloud_id),
        "recoveryProtectionContainerFriendlyName": _cloud(facts.recovery, item.recovery_cloud_id),
        "recoveryContainerId": ids.container(recovery.fabric_name, item.recovery_cloud_id),
        "policyId": ids.policy(facts.policy.name),
        "policyFriendlyName": facts.policy.name,
    }


def _states(vault: Vault, facts: ItemFacts, now: datetime) -> dict[str, Any]:
    item = facts.item
    of_failover = failover_errors(facts, now)
    health, errors = item_health(facts, now)
    state, description = _protection_state(item)
    properties: dict[str, Any] = {
        "protectionState": state,
        "protectionStateDescription": description,
        "activeLocation": item.active_location.value,
        "testFailoverState": item.test_state.value,
        "testFailoverStateDescription": (
            open_tests.waiting_for(item) or TEST_DESCRIPTIONS[item.test_state]
        ),
        "allowedOperations": _allowed(facts),
        "replicationHealth": health,
        "failoverHealth": failover_health(of_failover),
        "healthErrors": errors,
        "currentScenario": _current_scenario(vault, item),
        "failoverRecoveryPointId": _failover_point(vault, facts),
        "providerSpecificDetails": _details(facts, state, description),
        "eventCorrelationId": item.relationship_id,
    }
    if item.last_failover_at is not None:
        properties["lastSuccessfulFailoverTime"] = fine_time(item.last_failover_at)
    if item.last_test_failover_at is not None:
        properties["lastSuccessfulTestFailoverTime"] = fine_time(item.last_test_failover_at)
    return properties


def item_health(facts: ItemFacts, now: datetime) -> tuple[str, list[dict[str, Any]]]:
    """Return the health of an item's replication, and all errors of the item."""
    errors = [*health_errors(facts, now), *split_brain_errors(facts, now)]
    repair = Operation.REPAIR.value in _allowed(facts)
    every = [*errors, *failover_errors(facts, now)]
    return replication_health(facts, errors), [resolvable(each, repair=repair) for each in every]


def _failover_point(vault: Vault, facts: ItemFacts) -> str:
    """Return the point that was chosen for the failover; "" as recorded, for the newest or none."""
    point_id = facts.item.failover_point_id
    return "" if point_id is None else f"{item_id(vault, facts)}/{RECOVERY_POINTS}/{point_id}"


def _protection_state(item: ProtectedItem) -> tuple[str, str]:
    """Return state and description; with an open test the state stays Protected (2.7)."""
    shown = ProtectionState.PROTECTED if item.state is ProtectionState.TEST_OPEN else item.state
    return shown.value, DESCRIPTIONS[item.state]


def _allowed(facts: ItemFacts) -> list[str]:
    item = facts.item
    if item.plan is not None:
        return []
    seen = facts.primary_machine if item.active_location is Side.PRIMARY else facts.recovery_machine
    view = None if seen is None else seen.machine.replication
    source = None if view is None else view.state
    return [each.value for each in allowed_operations(item.state, source)]


def _current_scenario(vault: Vault, item: ProtectedItem) -> dict[str, Any]:
    ids = VaultIds(vault)
    # A plan holds its items also between their own jobs.
    current = item.current or item.plan
    if current is None:
        return {
            "scenarioName": NO_JOB,
            "jobId": ids.job(NO_JOB),
            "startTime": NO_SCENARIO_TIME,
        }
    return {
        "scenarioName": current.scenario_name,
        "jobId": ids.job(current.job_id),
        "startTime": fine_time(current.started_at),
    }


def _details(facts: ItemFacts, state: str, description: str) -> dict[str, Any]:
    item, primary = facts.item, facts.primary_machine
    details: dict[str, Any] = {
        "instanceType": facts.policy.provider_type,
        "vmNics": _nics(facts),
        "vmId": item.id,
        "vmProtectionState": state,
        "vmProtectionStateDescription": description,
        "initialReplicationDetails": {
            "initialReplicationType": item.initial_replication_type,
            "initialReplicationProgressPercentage": str(_progress(facts)),
        },
        "vMDiskDetails": [disk_body(disk) for disk in primary.machine.disks] if primary else [],
    }
    last = _last_replicated(facts)
    if last is not None:
        details["lastReplicatedTime"] = whole_seconds(last)
    return details


def _observations(facts: ItemFacts) -> Sequence[MachineObservation]:
    return [each for each in (facts.primary_machine, facts.recovery_machine) if each is not None]


def _progress(facts: ItemFacts) -> int:
    """Return the percentage of the copy under way, as its sender sees it; 0 when none is."""
    for observation in _observations(facts):
        view = observation.machine.replication
        if view is not None and view.mode is ReplicationMode.PRIMARY and view.progress_percent:
            return int(view.progress_percent)
    return 0


def _last_replicated(facts: ItemFacts) -> datetime | None:
    moments = (
        observation.machine.replication.last_replication_at
        for observation in _observations(facts)
        if observation.machine.replication is not None
    )
    return max((moment for moment in moments if moment is not None), default=None)


def _nics(facts: ItemFacts) -> list[dict[str, Any]]:
    if facts.primary_machine is None:
        return []
    primary = facts.primary_machine.machine
    replica = facts.recovery_machine.machine if facts.recovery_machine else None
    known = {} if replica is None else {each.nic_id: each for each in replica.nics}
    pairs = pairs_of(facts.item.recovery_machine_id, primary, replica)
    chosen = {each.nic_id for each in facts.item.chosen_adapters}
    return [
        _nic(nic, known.get(pairs[nic.nic_id]), chosen=nic.nic_id in chosen) for nic in primary.nics
    ]


def _nic(nic: NicView, replica: NicView | None, *, chosen: bool) -> dict[str, Any]:
    mapped = None if replica is None else replica.network_id
    return {
        "nicId": nic.nic_id,
        "replicaNicId": None if replica is None else replica.nic_id,
        "sourceNicArmId": None,
        "vMNetworkName": nic.network_name,
        "recoveryVMNetworkId": mapped or _NO_NETWORK,
        "selectionType": "SelectedByUser" if chosen else "NotSelected",
        "ipConfigs": [
            {
                "isPrimary": True,
                "subnetName": nic.subnet,
                "staticIPAddress": nic.address,
                "ipAddressType": nic.address_type,
                "isSeletedForFailover": True,  # so spelt by the service
                "recoverySubnetName": None if replica is None else replica.subnet,
                "recoveryStaticIPAddress": None if replica is None else replica.address,
                "recoveryIPAddressType": (replica or nic).address_type,
            }
        ],
    }


def _cloud(fabric: SeenFabric, cloud_id: str) -> str:
    return next((each.friendly_name for each in clouds(fabric) if each.cloud_id == cloud_id), "")


# -------------------------------------------------------------------------------- recovery points


def recovery_points(facts: ItemFacts) -> list[RecoveryPointView]:
    """Return the moments that the replica can be started from, newest first."""
    points = [
        point
        for observation in _observations(facts)
        if (view := observation.machine.replication) is not None
        and view.mode is ReplicationMode.REPLICA
        for point in view.recovery_points
    ]
    return sorted(points, key=lambda point: point.taken_at, reverse=True)


def recovery_point_body(vault: Vault, facts: ItemFacts, point: RecoveryPointView) -> dict[str, Any]:
    """Return a recovery point."""
    return {
        "id": f"{item_id(vault, facts)}/{RECOVERY_POINTS}/{point.point_id}",
        "name": point.point_id,
        "type": resource_type(*ITEM_KINDS, RECOVERY_POINTS),
        "properties": {
            "recoveryPointTime": fine_time(point.taken_at),
            "recoveryPointType": _POINT_TYPES.get(point.kind, point.kind),
            "providerSpecificDetails": None,
        },
    }
