"""What golden stories are told of: every job of the tables, and the command that asks for it.

A scenario or a plan that is new is told by itself; only its command is to be written down here,
and a test says so.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pydantic import JsonValue

from service_hub.domain.item_life import key_of
from service_hub.domain.jobs import Job
from service_hub.domain.planning import ItemPlan, JobIdentity, plan_item_job
from service_hub.domain.plans import PlanGroup, PlannedAction, PlanRequest, plan_job
from service_hub.domain.protection import TRANSITIONS, Operation, ProtectionState
from service_hub.domain.records import ProtectedItem, ReplicationPolicy
from service_hub.domain.scenarios import OTHER_COPY_LOST, SCENARIOS, ScriptSpec, plan_key
from tests.support.item_walk import NOW, UNPLANNED, item_in, provider
from tests.support.job_plans import scenario_job
from wire_contract.vocabulary import Side

COMMANDS: Final = {
    "enable": "PUT …/replicationProtectedItems/web01",
    "disable": "POST …/replicationProtectedItems/web01/remove",
    "purge": "DELETE …/replicationProtectedItems/web01",
    "repair": "POST …/replicationProtectedItems/web01/repairReplication",
    "complete_primary": "nobody's: the hub begins it once the first copy is there",
    "complete_recovery": "nobody's: the hub begins it once the primary end is complete",
    "test_failover": "POST …/replicationProtectedItems/web01/testFailover",
    "test_failover_with_networks": (
        "POST …/replicationProtectedItems/web01/testFailover, networks made for it"
    ),
    "test_failover_cleanup": "POST …/replicationProtectedItems/web01/testFailoverCleanup",
    "test_failover_cleanup_with_networks": (
        "POST …/replicationProtectedItems/web01/testFailoverCleanup, its networks go too"
    ),
    "planned_failover": "POST …/replicationProtectedItems/web01/plannedFailover",
    "unplanned_failover": "POST …/replicationProtectedItems/web01/unplannedFailover",
    "commit": "POST …/replicationProtectedItems/web01/failoverCommit",
    "change_recovery_point": "POST …/replicationProtectedItems/web01/applyRecoveryPoint",
    "cancel_planned_failover": "POST …/replicationProtectedItems/web01/failoverCancel",
    "cancel_unplanned_failover": "POST …/replicationProtectedItems/web01/failoverCancel",
    "reverse_after_planned": "POST …/replicationProtectedItems/web01/reProtect",
    "reverse_after_unplanned": (
        "POST …/replicationProtectedItems/web01/reProtect, what the source wrote is discarded"
    ),
    "reverse_keeping": (
        "POST …/replicationProtectedItems/web01/reProtect, what the source wrote is kept"
    ),
    "override_fence": "site-recovery authority override web01 --reason …",
    "override_fence_committed": (
        "site-recovery authority override web01 --reason …, after the commit"
    ),
    "override_fence with the other copy lost": (
        "site-recovery authority override web01 --reason … --other-copy-lost"
    ),
    "pair_clouds": "PUT …/replicationProtectionContainerMappings/m",
    "unpair_clouds": "POST …/replicationProtectionContainerMappings/m/remove",
    "configure_hosts": "nobody's: the hub begins it once a paired cloud has another host",
    "create_policy": "PUT …/replicationPolicies/p",
    "update_policy": "PATCH …/replicationPolicies/p",
    "delete_policy": "DELETE …/replicationPolicies/p",
    "create_plan": "PUT …/replicationRecoveryPlans/Payroll",
    "update_plan": "PATCH …/replicationRecoveryPlans/Payroll",
    "delete_plan": "DELETE …/replicationRecoveryPlans/Payroll",
    "create_site": "nobody's: the hub begins it when the first server of a site registers",
    "register_provider": "provider-agent register",
    "unregister_server": "site-recovery server remove vmm01",
    "refresh_server": "site-recovery server refresh vmm01",
    "tidy_partner": "nobody's: the hub begins it once the partner's server was purged",
    "inject_event": "site-recovery inject run",
    "update_networks": "nobody's: the hub begins it when a mapping of its networks changes",
    "map_network": "PUT …/replicationNetworkMappings/map",
    "unmap_network": "DELETE …/replicationNetworkMappings/map",
    "map_storage": "PUT …/replicationStorageClassificationMappings/gold",
    "unmap_storage": "DELETE …/replicationStorageClassificationMappings/gold",
    "plan_planned_failover": "POST …/replicationRecoveryPlans/Payroll/plannedFailover",
    "plan_unplanned_failover": "POST …/replicationRecoveryPlans/Payroll/unplannedFailover",
    "plan_test_failover": "POST …/replicationRecoveryPlans/Payroll/testFailover",
    "plan_test_failover_cleanup": "POST …/replicationRecoveryPlans/Payroll/testFailoverCleanup",
    "plan_commit": "POST …/replicationRecoveryPlans/Payroll/failoverCommit",
    "plan_cancel_failover": "POST …/replicationRecoveryPlans/Payroll/failoverCancel",
    "plan_reverse": "POST …/replicationRecoveryPlans/Payroll/reProtect",
    "plan_test_failover in networks of its own": (
        "POST …/replicationRecoveryPlans/Payroll/testFailover, LogicalNetworkAsInput"
    ),
    "enable taking over": "PUT …/replicationProtectedItems/web01, which has a replica already",
    "enable offline": "PUT …/replicationProtectedItems/web01, whose first copy travels",
    "complete_primary offline": "nobody's: the hub waits for the medium with the first copy",
    "complete_recovery offline": "nobody's: the hub begins it once the medium was read",
    "disable with its replica": "POST …/replicationProtectedItems/web01/remove, the replica goes",
    "planned_failover after a failed undo": (
        "POST …/replicationProtectedItems/web01/plannedFailover, an earlier one half taken back"
    ),
}
"""By the key of what is told: what is asked, as a request of the surface or a command."""

STATES: Final = (ProtectionState.PROTECTED, *TRANSITIONS)
"""Where operations begin; of those with several beginnings, from the usual one."""

OVERRIDDEN_FROM: Final = (
    ProtectionState.UNPLANNED_FAILED_OVER,
    ProtectionState.UNPLANNED_COMMITTED,
)

ARGUMENTS: Final[tuple[dict[str, JsonValue], ...]] = (
    {},
    {"source_changes": "Keep"},
    {"drill": {"networks": []}},
)
ENDS: Final = {side: f"{side.value.lower()}-provider" for side in Side}
GROUPS: Final = (
    PlanGroup(
        "Group 1",
        ("web01", "web02"),
        before=(
            PlannedAction("update DNS", script=ScriptSpec("update-dns.sh", 600, Side.PRIMARY)),
        ),
    ),
    PlanGroup("Group 2", ("db01",), manual_action="lead the users to the other site"),
)


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a story begins with: the job, not begun, and the item that it is about, if there is."""

    key: str
    job: Job
    item: ProtectedItem | None = None

    @property
    def command(self) -> str:
        """What is asked; an AssertionError says where a new one is to be written down."""
        command = COMMANDS.get(self.key)
        assert command is not None, f"golden_commands.COMMANDS has no command for '{self.key}'"
        return command


def beginnings() -> dict[str, Beginning]:
    """Return the beginning of each story: of every scenario, every plan and every variant."""
    found = {each.key: each for each in _of_items()}
    for key in SCENARIOS:
        found.setdefault(key, Beginning(key, scenario_job(key)))
    found |= {each.key: each for each in (*_variants(), *_of_plans())}
    return found


def _of_items() -> Iterator[Beginning]:
    told = set[str]()
    for state in STATES:
        for operation in TRANSITIONS[state]:
            for arguments in ARGUMENTS:
                item = _item(state, drilled="drill" in arguments)
                key = key_of(item, operation, arguments)
                if key not in told:
                    told.add(key)
                    yield Beginning(key, _job(item, operation, arguments), item)


def _item(state: ProtectionState, *, drilled: bool = False, **facts: Any) -> ProtectedItem:
    moved = state.value.endswith("StatesBegin") or state.value.endswith("CommitRequired")
    item = item_in(state, Side.RECOVERY if moved else Side.PRIMARY)
    update = {"test_networks": drilled, "failed_over_unplanned": state in UNPLANNED, **facts}
    return item.model_copy(update=update)


def _job(
    item: ProtectedItem,
    operation: Operation,
    arguments: dict[str, JsonValue],
    **settings: Any,
) -> Job:
    policy = ReplicationPolicy(
        id="p", vault_id="v", name="p", provider_type="HyperVReplica2012R2", **settings
    )
    plan = ItemPlan(item, policy, provider("a"), provider("b"), {}, None)
    asked = {"test_machine_id": "t", "source_operations_required": True, **arguments}
    return plan_item_job(plan, operation, asked, JobIdentity("j", "activity", NOW))


def _variants() -> Iterator[Beginning]:
    """Yield what some items have of their own (item_life.own_specs_of)."""
    fresh = _item(ProtectionState.UNPROTECTED)
    known = _item(ProtectionState.UNPROTECTED, taken_over=True)
    yield Beginning("enable taking over", _job(known, Operation.ENABLE, {}), known)
    offline = _job(
        fresh,
        Operation.ENABLE,
        {},
        initial_replication_method="Offline",
        offline_export_path=r"\\tokyo\out",
        offline_import_path=r"\\osaka\in",
    )
    yield Beginning("enable offline", offline, fresh)
    for operation, state in (
        (Operation.COMPLETE_PRIMARY, ProtectionState.INITIAL_REPLICATION),
        (Operation.COMPLETE_RECOVERY, ProtectionState.PRIMARY_COMPLETED),
    ):
        travels = _item(state, initial_replication_type="Offline")
        key = f"{key_of(travels, operation, {})} offline"
        yield Beginning(key, _job(travels, operation, {}), travels)
    resting = _item(ProtectionState.PROTECTED)
    removal = _job(resting, Operation.DISABLE, {}, replica_deletion_required=True)
    yield Beginning("disable with its replica", removal, resting)
    # Told from where it is of use; it may be repeated from where it leads.
    moved, kept = (_item(state) for state in OVERRIDDEN_FROM)
    yield Beginning("override_fence", _job(moved, Operation.OVERRIDE_FENCE, {}), moved)
    yield Beginning("override_fence_committed", _job(kept, Operation.OVERRIDE_FENCE, {}), kept)
    lost = _job(moved, Operation.OVERRIDE_FENCE, {OTHER_COPY_LOST: True})
    yield Beginning("override_fence with the other copy lost", lost, moved)
    half = _item(ProtectionState.PLANNED_UNDO_FAILED)
    again = _job(half, Operation.PLANNED_FAILOVER, {})
    yield Beginning("planned_failover after a failed undo", again, half)


def _of_plans() -> Iterator[Beginning]:
    for operation in Operation:
        try:
            key = plan_key(operation)
        except (AssertionError, KeyError):
            continue  # no plan does it
        request = PlanRequest("plan-id", "Payroll", operation, GROUPS, {})
        job = plan_job("v", request, JobIdentity("j", "activity", NOW))
        yield Beginning(key, job)
    drill: dict[str, JsonValue] = {
        "logical_network_id": "logical",
        "cloud_ids": ["osaka-cloud"],
        "networks": [],
        "sources": [],
    }
    asked = PlanRequest(
        "plan-id", "Payroll", Operation.TEST_FAILOVER, GROUPS, {"drill": drill}, providers=ENDS
    )
    job = plan_job("v", asked, JobIdentity("j", "activity", NOW))
    yield Beginning("plan_test_failover in networks of its own", job)
