"""The whole surface: read this file to know it.

Every handler stands behind `guarded`: authentication, limits, error bodies, headers.
docs/arm-surface.md says the same for operators; a test holds both together.
"""

from dataclasses import dataclass
from typing import Final

from service_hub.arm import handle_plans, paths
from service_hub.arm.api import ArmApi
from service_hub.arm.calls import Answer, Call, Handler
from service_hub.arm.edge import guarded
from service_hub.arm.handle_alerts import AlertHandlers
from service_hub.arm.handle_containers import ContainerHandlers, MappingHandlers
from service_hub.arm.handle_events import EventHandlers
from service_hub.arm.handle_fabrics import (
    classification_handlers,
    fabric_handlers,
    logical_network_handlers,
    network_handlers,
    provider_handlers,
)
from service_hub.arm.handle_items import (
    ItemHandlers,
    ReadArguments,
    cleanup_arguments,
    disable_arguments,
    no_arguments,
    planned_arguments,
    point_arguments,
    reverse_arguments,
    test_arguments,
    unplanned_arguments,
)
from service_hub.arm.handle_jobs import JobHandlers
from service_hub.arm.handle_mappings import NetworkMappingHandlers, StorageMappingHandlers
from service_hub.arm.handle_operations import operations_handler
from service_hub.arm.handle_policies import PolicyHandlers
from service_hub.arm.handle_servers import ServerHandlers
from service_hub.arm.handle_vault_facts import VaultFactHandlers
from service_hub.arm.handle_vaults import VaultHandlers
from service_hub.arm.long_running import operation_state
from service_hub.arm.not_offered import (
    LATER,
    OTHER_REPLICATION,
    not_implemented,
    not_supported,
    unknown,
)
from service_hub.arm.preconditions import without_versions
from service_hub.arm.rights import right_of
from service_hub.domain.access import Right
from service_hub.domain.protection import Operation
from service_hub.operator_door import GuardedRoute

ITEM_OPERATIONS: Final[dict[str, tuple[Operation, ReadArguments]]] = {
    "remove": (Operation.DISABLE, disable_arguments),
    "repairReplication": (Operation.REPAIR, no_arguments),
    "testFailover": (Operation.TEST_FAILOVER, test_arguments),
    "testFailoverCleanup": (Operation.TEST_FAILOVER_CLEANUP, cleanup_arguments),
    "plannedFailover": (Operation.PLANNED_FAILOVER, planned_arguments),
    "unplannedFailover": (Operation.UNPLANNED_FAILOVER, unplanned_arguments),
    "failoverCommit": (Operation.COMMIT, no_arguments),
    "applyRecoveryPoint": (Operation.CHANGE_RECOVERY_POINT, point_arguments),
    "failoverCancel": (Operation.CANCEL_FAILOVER, no_arguments),
    "reProtect": (Operation.REVERSE_REPLICATE, reverse_arguments),
}
"""What is posted to an item: each answers 202 and a job."""


PLAN_OPERATIONS: Final[dict[str, tuple[Operation, handle_plans.ReadArguments]]] = {
    "testFailover": (Operation.TEST_FAILOVER, handle_plans.test_arguments),
    "testFailoverCleanup": (Operation.TEST_FAILOVER_CLEANUP, handle_plans.cleanup_arguments),
    "plannedFailover": (Operation.PLANNED_FAILOVER, handle_plans.planned_arguments),
    "unplannedFailover": (Operation.UNPLANNED_FAILOVER, handle_plans.unplanned_arguments),
    "failoverCommit": (Operation.COMMIT, handle_plans.no_arguments),
    "failoverCancel": (Operation.CANCEL_FAILOVER, handle_plans.no_arguments),
    "reProtect": (Operation.REVERSE_REPLICATE, handle_plans.no_arguments),
}
"""What is posted to a recovery plan: each answers 202 and a job."""


ELSEWHERE: Final = "/{rest:(?s:.*)}"
"""Every other path, line breaks in it too: nothing is answered but by who checks the token."""


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of the surface."""

    method: str
    path: str
    handler: Handler
    versioned: bool = False
    """Whether the resource has an etag, which the handler compares with If-Match."""


def working_routes(api: ArmApi) -> list[Route]:
    """Return the operations that do what they say."""
    table = [
        *_vault_fact_routes(api),
        *_vault_routes(api),
        *_policy_and_job_routes(api),
        *_fabric_routes(api),
        *_mapped_routes(api),
        *_container_routes(api),
        *_item_routes(api),
        *_plan_routes(api),
    ]
    every = operations_handler((route.method, route.path) for route in table)
    return [
        *table,
        Route("GET", f"{paths.GROUP}{paths.NAMESPACE}/operations", every),
        Route("GET", f"{paths.NAMESPACE}/operations", every),
    ]


def missing_routes() -> list[Route]:
    """Return the operations of the dialect that are refused by name."""
    return [
        *(
            Route(method, each.path, not_implemented(each.says))
            for each in LATER
            for method in each.methods
        ),
        *(
            Route(method, each.path, not_supported(each.says))
            for each in OTHER_REPLICATION
            for method in each.methods
        ),
    ]


def arm_routes(api: ArmApi) -> list[GuardedRoute]:
    """Return the whole surface; the last routes take every other path, so that they come last."""
    return [
        *(
            _guarded(api, route, right_of(route.method, route.path))
            for route in (*working_routes(api), *missing_routes())
        ),
        _elsewhere(api, "GET", Right.READ),
        _elsewhere(api, "*", Right.CONFIGURE),
    ]


def _guarded(api: ArmApi, route: Route, right: Right) -> GuardedRoute:
    inner = route.handler if route.versioned else without_versions(route.handler)
    handler = guarded(api, inner, right)
    # What takes everything below itself has no form to be found by: it is tried after the others.
    segments = None if "{rest:" in route.path else paths.segments_of(route.path)
    return GuardedRoute(route.method, paths.folded(route.path), handler, right, segments)


def _elsewhere(api: ArmApi, method: str, right: Right) -> GuardedRoute:
    return GuardedRoute(method, ELSEWHERE, guarded(api, without_versions(unknown), right), right)


def _vault_routes(api: ArmApi) -> list[Route]:
    vaults = VaultHandlers(api)
    return [
        Route("GET", paths.SUBSCRIPTION + paths.VAULTS, vaults.list_by_subscription),
        Route("GET", paths.GROUP + paths.VAULTS, vaults.list_by_resource_group),
        Route("GET", paths.VAULT, vaults.get),
        Route("PUT", paths.VAULT, vaults.create, versioned=True),
        Route("PATCH", paths.VAULT, vaults.change, versioned=True),
        Route("DELETE", paths.VAULT, vaults.delete, versioned=True),
        Route("GET", paths.EXTENDED_INFO, vaults.extended_info),
        Route("PUT", paths.EXTENDED_INFO, vaults.set_extended_info, versioned=True),
        Route("PATCH", paths.EXTENDED_INFO, vaults.set_extended_info, versioned=True),
        Route("PUT", paths.CERTIFICATE, vaults.upload_certificate),
        Route("GET", paths.VAULT_OPERATION_STATE, vaults.operation_state),
        Route("GET", paths.VAULT + paths.RESULT, vaults.result),
    ]


def _vault_fact_routes(api: ArmApi) -> list[Route]:
    facts = VaultFactHandlers(api)
    return [
        Route("GET", paths.VAULT_HEALTH, facts.health),
        Route("POST", f"{paths.VAULT_HEALTH}/default/refresh", facts.health),
        Route("GET", paths.VAULT_SETTINGS, facts.list_settings),
        Route("GET", paths.VAULT_SETTING, facts.get_setting),
        Route("GET", f"{paths.VAULT}/replicationUsages", facts.replication_usages),
        Route("GET", f"{paths.VAULT}/usages", facts.usages),
    ]


def _policy_and_job_routes(api: ArmApi) -> list[Route]:
    policies, jobs, events = PolicyHandlers(api), JobHandlers(api), EventHandlers(api)
    alerts = AlertHandlers(api)

    async def state(call: Call) -> Answer:
        return await operation_state(api, call)

    return [
        Route("GET", paths.POLICIES, policies.list),
        Route("GET", paths.POLICY, policies.get),
        Route("PUT", paths.POLICY, policies.create),
        Route("PATCH", paths.POLICY, policies.change),
        Route("DELETE", paths.POLICY, policies.delete),
        Route("GET", paths.POLICY + paths.RESULT, policies.result),
        Route("GET", paths.JOBS, jobs.list),
        Route("GET", paths.JOB, jobs.get),
        Route("POST", f"{paths.JOB}/cancel", jobs.cancel),
        Route("POST", f"{paths.JOB}/restart", jobs.restart),
        Route("POST", f"{paths.JOB}/resume", jobs.resume),
        Route("GET", paths.JOB + paths.RESULT, jobs.result),
        Route("GET", paths.ALERT_SETTINGS, alerts.list),
        Route("GET", paths.ALERT_SETTING, alerts.get),
        Route("PUT", paths.ALERT_SETTING, alerts.change),
        Route("GET", paths.EVENTS, events.list),
        Route("GET", paths.EVENT, events.get),
        Route("GET", paths.OPERATION_STATE, state),
    ]


def _fabric_routes(api: ArmApi) -> list[Route]:
    fabrics, providers = fabric_handlers(api), provider_handlers(api)
    networks, logical = network_handlers(api), logical_network_handlers(api)
    classifications, servers = classification_handlers(api), ServerHandlers(api)
    return [
        Route("GET", paths.FABRICS, fabrics.list),
        Route("GET", paths.FABRIC, fabrics.get),
        Route("PUT", paths.FABRIC, servers.create),
        Route("PUT", paths.PROVIDER, servers.create),
        Route("POST", f"{paths.FABRIC}/checkConsistency", servers.refresh),
        Route("DELETE", paths.IDENTITY, servers.unregister),
        Route("GET", paths.VAULT + paths.PROVIDERS, providers.list),
        Route("GET", paths.FABRIC + paths.PROVIDERS, providers.list_by_fabric),
        Route("GET", paths.PROVIDER, providers.get),
        Route("POST", f"{paths.FABRIC}/remove", servers.remove),
        Route("DELETE", paths.FABRIC, servers.purge),
        Route("POST", f"{paths.PROVIDER}/remove", servers.remove),
        Route("DELETE", paths.PROVIDER, servers.purge),
        Route("POST", f"{paths.PROVIDER}/refreshProvider", servers.refresh),
        Route("GET", paths.FABRIC + paths.RESULT, servers.result),
        Route("GET", paths.PROVIDER + paths.RESULT, servers.result),
        Route("GET", paths.VAULT + paths.NETWORKS, networks.list),
        Route("GET", paths.FABRIC + paths.NETWORKS, networks.list_by_fabric),
        Route("GET", paths.NETWORK, networks.get),
        Route("GET", paths.LOGICAL_NETWORKS, logical.list_by_fabric),
        Route("GET", paths.LOGICAL_NETWORK, logical.get),
        Route("GET", paths.VAULT + paths.CLASSIFICATIONS, classifications.list),
        Route("GET", paths.FABRIC + paths.CLASSIFICATIONS, classifications.list_by_fabric),
        Route("GET", paths.CLASSIFICATION, classifications.get),
    ]


def _mapped_routes(api: ArmApi) -> list[Route]:
    networks, storage = NetworkMappingHandlers(api), StorageMappingHandlers(api)
    return [
        Route("GET", paths.VAULT + paths.NETWORK_MAPPINGS, networks.list),
        Route("GET", paths.NETWORK + paths.NETWORK_MAPPINGS, networks.list_by_part),
        Route("GET", paths.NETWORK_MAPPING, networks.get),
        Route("PUT", paths.NETWORK_MAPPING, networks.create),
        Route("PATCH", paths.NETWORK_MAPPING, networks.update),
        Route("DELETE", paths.NETWORK_MAPPING, networks.delete),
        Route("GET", paths.NETWORK_MAPPING + paths.RESULT, networks.result),
        Route("GET", paths.VAULT + paths.STORAGE_MAPPINGS, storage.list),
        Route("GET", paths.CLASSIFICATION + paths.STORAGE_MAPPINGS, storage.list_by_part),
        Route("GET", paths.STORAGE_MAPPING, storage.get),
        Route("PUT", paths.STORAGE_MAPPING, storage.create),
        Route("DELETE", paths.STORAGE_MAPPING, storage.delete),
        Route("GET", paths.STORAGE_MAPPING + paths.RESULT, storage.result),
    ]


def _container_routes(api: ArmApi) -> list[Route]:
    containers, mappings = ContainerHandlers(api), MappingHandlers(api)
    return [
        Route("GET", paths.VAULT + paths.CONTAINERS, containers.list),
        Route("GET", paths.FABRIC + paths.CONTAINERS, containers.list_by_fabric),
        Route("GET", paths.CONTAINER, containers.get),
        Route("PUT", paths.CONTAINER, containers.create),
        Route("POST", f"{paths.CONTAINER}/remove", containers.remove),
        Route("POST", f"{paths.CONTAINER}/discoverProtectableItem", containers.discover),
        Route("GET", paths.CONTAINER + paths.RESULT, containers.result),
        Route("GET", paths.PROTECTABLE_ITEMS, containers.list_protectable),
        Route("GET", paths.PROTECTABLE_ITEM, containers.get_protectable),
        Route("GET", paths.VAULT + paths.MAPPINGS, mappings.list),
        Route("GET", paths.CONTAINER + paths.MAPPINGS, mappings.list_by_container),
        Route("GET", paths.MAPPING, mappings.get),
        Route("PUT", paths.MAPPING, mappings.create),
        Route("POST", f"{paths.MAPPING}/remove", mappings.remove),
        Route("DELETE", paths.MAPPING, mappings.purge),
        Route("GET", paths.MAPPING + paths.RESULT, mappings.result),
    ]


def _item_routes(api: ArmApi) -> list[Route]:
    items = ItemHandlers(api)
    return [
        Route("GET", paths.VAULT + paths.ITEMS, items.list),
        Route("GET", paths.CONTAINER + paths.ITEMS, items.list_by_container),
        Route("GET", paths.ITEM, items.get),
        Route("PUT", paths.ITEM, items.enable),
        Route("PATCH", paths.ITEM, items.update),
        Route("POST", f"{paths.ITEM}/resolveHealthErrors", items.resolve),
        Route("DELETE", paths.ITEM, items.requests(Operation.PURGE, no_arguments)),
        Route("GET", paths.RECOVERY_POINTS, items.list_recovery_points),
        Route("GET", paths.RECOVERY_POINT, items.get_recovery_point),
        *(
            Route("POST", f"{paths.ITEM}/{verb}", items.requests(operation, arguments))
            for verb, (operation, arguments) in ITEM_OPERATIONS.items()
        ),
        Route("GET", paths.ITEM + paths.RESULT, items.result),
    ]


def _plan_routes(api: ArmApi) -> list[Route]:
    plans = handle_plans.PlanHandlers(api)
    return [
        Route("GET", paths.PLANS, plans.list),
        Route("GET", paths.PLAN, plans.get),
        Route("PUT", paths.PLAN, plans.create),
        Route("PATCH", paths.PLAN, plans.update),
        Route("DELETE", paths.PLAN, plans.delete),
        *(
            Route("POST", f"{paths.PLAN}/{verb}", plans.requests(operation, arguments))
            for verb, (operation, arguments) in PLAN_OPERATIONS.items()
        ),
        Route("GET", paths.PLAN + paths.RESULT, plans.result),
    ]
