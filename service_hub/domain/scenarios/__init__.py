"""Operation to task list: what a job does, in which order, on which end, and how it is undone.

Names and texts come from `wire_contract.vocabulary.job_names`, with the source of each; order and
lists are the recorded ones. Where a list depends on how the item was failed over, that is chosen
when the job is made. A theme is a module: an item's life, failovers, tests of failovers, plans,
settings, servers. All of them are found here.
"""

from collections.abc import Mapping
from typing import Final

from service_hub.domain.protection import Operation
from service_hub.domain.scenarios.failover_tests import (
    CLEANUP_WITH_NETWORKS,
    CREATE_TEST_ENVIRONMENT,
    TEST_FAILOVER,
    TEST_FAILOVER_CLEANUP,
    TEST_FAILOVER_WITH_NETWORKS,
)
from service_hub.domain.scenarios.failovers import (
    AFTER_FAILED_UNDO,
    CANCEL_PLANNED_FAILOVER,
    CANCEL_UNPLANNED_FAILOVER,
    CHANGE_RECOVERY_POINT,
    COMMIT,
    FINAL_CHANGES_SECONDS_MAX,
    OTHER_COPY_LOST,
    OVERRIDE_FENCE,
    OVERRIDE_FENCE_COMMITTED,
    PLANNED_FAILOVER,
    REVERSE_AFTER_PLANNED,
    REVERSE_AFTER_UNPLANNED,
    REVERSE_KEEPING,
    TAKE_BACK_FIRST,
    UNPLANNED_FAILOVER,
)
from service_hub.domain.scenarios.injections import INJECT_EVENT
from service_hub.domain.scenarios.item_life import (
    AFTER_DELETION,
    COMPLETE_PRIMARY,
    COMPLETE_RECOVERY,
    DISABLE,
    ENABLE,
    PURGE,
    REPAIR,
    TAKE_OVER,
)
from service_hub.domain.scenarios.mappings import (
    MAP_NETWORK,
    MAP_STORAGE,
    UNMAP_NETWORK,
    UNMAP_STORAGE,
    UPDATE_NETWORKS,
)
from service_hub.domain.scenarios.offline import OFFLINE_SPECS
from service_hub.domain.scenarios.plans import CREATE_PLAN, DELETE_PLAN, PLANS, UPDATE_PLAN
from service_hub.domain.scenarios.servers import (
    CREATE_SITE,
    INVENTORY_SECONDS_MAX,
    REFRESH_SERVER,
    REGISTER_PROVIDER,
    UNREGISTER_SERVER,
)
from service_hub.domain.scenarios.settings import (
    CONFIGURE_HOSTS,
    CREATE_POLICY,
    DELETE_POLICY,
    MAPPING_REMOVAL_TASK,
    NO_CERTIFICATES,
    NOT_PAIRED,
    PAIR_CLOUDS,
    POLICY_REMOVAL_TASK,
    STILL_PAIRED,
    TIDY_PARTNER,
    UNPAIR_CLOUDS,
    UPDATE_POLICY,
)
from service_hub.domain.scenarios.specs import (
    NO_RETRY,
    SETTLING_CODES,
    SETTLING_RETRY,
    TASK_SECONDS_MAX,
    TRANSIENT_CODES,
    TRANSIENT_RETRY,
    GroupSpec,
    RetryPolicy,
    Scenario,
    ScriptSpec,
    Target,
    TaskSpec,
)

__all__ = [
    "AFTER_DELETION",
    "AFTER_FAILED_UNDO",
    "CANCEL_PLANNED_FAILOVER",
    "CANCEL_UNPLANNED_FAILOVER",
    "CHANGE_RECOVERY_POINT",
    "CLEANUP_WITH_NETWORKS",
    "COMMIT",
    "COMPLETE_PRIMARY",
    "COMPLETE_RECOVERY",
    "CONFIGURE_HOSTS",
    "CREATE_PLAN",
    "CREATE_POLICY",
    "CREATE_SITE",
    "CREATE_TEST_ENVIRONMENT",
    "DELETE_PLAN",
    "DELETE_POLICY",
    "DISABLE",
    "ENABLE",
    "FINAL_CHANGES_SECONDS_MAX",
    "INJECT_EVENT",
    "INVENTORY_SECONDS_MAX",
    "MAPPING_REMOVAL_TASK",
    "NOT_PAIRED",
    "NO_CERTIFICATES",
    "NO_RETRY",
    "OFFLINE_SPECS",
    "OTHER_COPY_LOST",
    "OVERRIDE_FENCE",
    "OVERRIDE_FENCE_COMMITTED",
    "PAIR_CLOUDS",
    "PLANNED_FAILOVER",
    "PLANS",
    "POLICY_REMOVAL_TASK",
    "PURGE",
    "REFRESH_SERVER",
    "REGISTER_PROVIDER",
    "REPAIR",
    "REVERSE_AFTER_PLANNED",
    "REVERSE_AFTER_UNPLANNED",
    "REVERSE_KEEPING",
    "SCENARIOS",
    "SETTLING_CODES",
    "SETTLING_RETRY",
    "STILL_PAIRED",
    "TAKE_BACK_FIRST",
    "TAKE_OVER",
    "TASK_SECONDS_MAX",
    "TEST_FAILOVER",
    "TEST_FAILOVER_CLEANUP",
    "TEST_FAILOVER_WITH_NETWORKS",
    "TIDY_PARTNER",
    "TRANSIENT_CODES",
    "TRANSIENT_RETRY",
    "UNPAIR_CLOUDS",
    "UNPLANNED_FAILOVER",
    "UNREGISTER_SERVER",
    "UPDATE_PLAN",
    "UPDATE_POLICY",
    "GroupSpec",
    "RetryPolicy",
    "Scenario",
    "ScriptSpec",
    "Target",
    "TaskSpec",
    "plan_key",
    "scenario_key",
]

SCENARIOS: Final[Mapping[str, Scenario]] = {
    "enable": ENABLE,
    "disable": DISABLE,
    "purge": PURGE,
    "repair": REPAIR,
    "complete_primary": COMPLETE_PRIMARY,
    "complete_recovery": COMPLETE_RECOVERY,
    "test_failover": TEST_FAILOVER,
    "test_failover_with_networks": TEST_FAILOVER_WITH_NETWORKS,
    "test_failover_cleanup_with_networks": CLEANUP_WITH_NETWORKS,
    "test_failover_cleanup": TEST_FAILOVER_CLEANUP,
    "planned_failover": PLANNED_FAILOVER,
    "unplanned_failover": UNPLANNED_FAILOVER,
    "commit": COMMIT,
    "change_recovery_point": CHANGE_RECOVERY_POINT,
    "cancel_planned_failover": CANCEL_PLANNED_FAILOVER,
    "cancel_unplanned_failover": CANCEL_UNPLANNED_FAILOVER,
    "reverse_after_planned": REVERSE_AFTER_PLANNED,
    "reverse_after_unplanned": REVERSE_AFTER_UNPLANNED,
    "reverse_keeping": REVERSE_KEEPING,
    "override_fence": OVERRIDE_FENCE,
    "override_fence_committed": OVERRIDE_FENCE_COMMITTED,
    "pair_clouds": PAIR_CLOUDS,
    "create_policy": CREATE_POLICY,
    "create_plan": CREATE_PLAN,
    "update_plan": UPDATE_PLAN,
    "delete_plan": DELETE_PLAN,
    "create_site": CREATE_SITE,
    "register_provider": REGISTER_PROVIDER,
    "unregister_server": UNREGISTER_SERVER,
    "refresh_server": REFRESH_SERVER,
    "unpair_clouds": UNPAIR_CLOUDS,
    "configure_hosts": CONFIGURE_HOSTS,
    "update_policy": UPDATE_POLICY,
    "delete_policy": DELETE_POLICY,
    "tidy_partner": TIDY_PARTNER,
    "inject_event": INJECT_EVENT,
    "update_networks": UPDATE_NETWORKS,
    "map_network": MAP_NETWORK,
    "unmap_network": UNMAP_NETWORK,
    "map_storage": MAP_STORAGE,
    "unmap_storage": UNMAP_STORAGE,
}
"""Every plan under the key that a stored job keeps."""

_BY_OPERATION: Final[Mapping[Operation, str]] = {
    Operation.ENABLE: "enable",
    Operation.DISABLE: "disable",
    Operation.PURGE: "purge",
    Operation.REPAIR: "repair",
    Operation.COMPLETE_PRIMARY: "complete_primary",
    Operation.COMPLETE_RECOVERY: "complete_recovery",
    Operation.TEST_FAILOVER: "test_failover",
    Operation.TEST_FAILOVER_CLEANUP: "test_failover_cleanup",
    Operation.PLANNED_FAILOVER: "planned_failover",
    Operation.UNPLANNED_FAILOVER: "unplanned_failover",
    Operation.COMMIT: "commit",
    Operation.CHANGE_RECOVERY_POINT: "change_recovery_point",
    Operation.UPDATE_NETWORKS: "update_networks",
}


_WITH_NETWORKS: Final[Mapping[Operation, str]] = {
    Operation.TEST_FAILOVER: "test_failover_with_networks",
    Operation.TEST_FAILOVER_CLEANUP: "test_failover_cleanup_with_networks",
}


def plan_key(operation: Operation) -> str:
    """Return the key of an operation on a plan."""
    if operation is Operation.REVERSE_REPLICATE:
        return "plan_reverse"
    if operation is Operation.CANCEL_FAILOVER:
        return "plan_cancel_failover"
    key = f"plan_{_BY_OPERATION[operation]}"
    assert key in PLANS, f"no plan does {operation}"
    return key


def scenario_key(
    operation: Operation,
    *,
    unplanned: bool,
    keeps: bool = False,
    networks: bool = False,
    committed: bool = False,
) -> str:
    """Return the plan of an operation; some depend on the kind of failover before them."""
    if operation is Operation.OVERRIDE_FENCE:
        return "override_fence_committed" if committed else "override_fence"
    if networks and operation in _WITH_NETWORKS:
        return _WITH_NETWORKS[operation]
    if operation is Operation.REVERSE_REPLICATE and unplanned and keeps:
        return "reverse_keeping"
    if operation is Operation.REVERSE_REPLICATE:
        return "reverse_after_unplanned" if unplanned else "reverse_after_planned"
    if operation is Operation.CANCEL_FAILOVER:
        return "cancel_unplanned_failover" if unplanned else "cancel_planned_failover"
    return _BY_OPERATION[operation]
