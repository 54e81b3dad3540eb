from datetime import UTC, datetime

import pytest

from service_hub.domain.checks import refusal_of_pairing
from service_hub.domain.errors import CATALOGUE, OperationNotAllowedError
from service_hub.domain.planning import direction_of
from service_hub.domain.protection import (
    BUSY_STATES,
    DESCRIPTIONS,
    INTERNAL_OPERATIONS,
    REPAIRABLE,
    TRANSITIONS,
    Operation,
    ProtectionState,
    allowed_operations,
    arc_in_progress,
    arc_of,
)
from service_hub.domain.records import ContainerMapping
from service_hub.domain.scenarios import SCENARIOS, scenario_key
from wire_contract.vocabulary import Direction, ReplicationState, Side

NOW = datetime(2026, 1, 1, tzinfo=UTC)

# The recorded item table (recorded.md, section 0), without what this version cannot do yet.
FAILED_OVER = {"ReverseReplicate", "Commit", "DisableProtection", "ChangePit", "CancelFailover"}
RECORDED = {
    ProtectionState.PROTECTED: {
        "PlannedFailover",
        "UnplannedFailover",
        "DisableProtection",
        "TestFailover",
    },
    ProtectionState.PLANNED_FAILED_OVER: FAILED_OVER,
    ProtectionState.PLANNED_COMMITTED: {"ReverseReplicate", "DisableProtection"},
    ProtectionState.UNPLANNED_FAILED_OVER: FAILED_OVER,
    ProtectionState.UNPLANNED_COMMITTED: {"ReverseReplicate", "DisableProtection"},
    ProtectionState.TEST_OPEN: {"TestFailoverCleanup"},
    # Not recorded: while the first copy runs, and what failed; ending it is a way on.
    ProtectionState.ENABLE_FAILED: {"DisableProtection"},
    ProtectionState.INITIAL_REPLICATION: {"DisableProtection"},
    ProtectionState.PRIMARY_COMPLETED: {"DisableProtection"},
    ProtectionState.DISABLE_FAILED: {"DisableProtection"},
    # A commit of which a part may be done: points are gone, so that nothing leads back.
    ProtectionState.PLANNED_COMMIT_FAILED: {"ReverseReplicate", "Commit", "DisableProtection"},
    ProtectionState.UNPLANNED_COMMIT_FAILED: {"ReverseReplicate", "Commit", "DisableProtection"},
    # What a failed undo leaves behind, from which failing over again is the way on.
    ProtectionState.PLANNED_UNDO_FAILED: {
        "PlannedFailover",
        "UnplannedFailover",
        "DisableProtection",
    },
    ProtectionState.UNPLANNED_UNDO_FAILED: {
        "PlannedFailover",
        "UnplannedFailover",
        "DisableProtection",
    },
    ProtectionState.OVERRIDDEN: {"DisableProtection"},
}


@pytest.mark.parametrize("state", list(ProtectionState))
@pytest.mark.parametrize("operation", list(Operation))
def test_what_is_absent_is_refused_and_what_is_there_is_busy_on_its_way(
    state: ProtectionState, operation: Operation
) -> None:
    arc = TRANSITIONS.get(state, {}).get(operation)
    if arc is None:
        with pytest.raises(OperationNotAllowedError, match=operation.value):
            arc_of(state, operation)
        return
    assert arc_of(state, operation) is arc
    assert arc.via in BUSY_STATES
    assert arc.done not in BUSY_STATES
    assert arc.failed not in BUSY_STATES
    assert not allowed_operations(arc.via)
    assert arc_in_progress(arc.via, operation).done is arc.done


@pytest.mark.parametrize("state", list(ProtectionState))
def test_allowed_operations_are_the_recorded_ones(state: ProtectionState) -> None:
    allowed = {operation.value for operation in allowed_operations(state)}
    assert allowed == RECORDED.get(state, set())
    assert not allowed & {operation.value for operation in INTERNAL_OPERATIONS}


@pytest.mark.parametrize("source", list(ReplicationState))
def test_resynchronizing_is_offered_where_it_is_of_use(source: ReplicationState) -> None:
    offered = "RepairReplication" in allowed_operations(ProtectionState.PROTECTED, source)
    assert offered is (source in REPAIRABLE)
    assert "RepairReplication" not in allowed_operations(ProtectionState.TEST_OPEN, source)


def test_a_removal_looks_at_the_relation_that_there_is() -> None:
    back, ahead = Direction.PRIMARY_TO_RECOVERY, Direction.RECOVERY_TO_PRIMARY
    failed_over, reversed_ = ProtectionState.PLANNED_FAILED_OVER, ProtectionState.PROTECTED
    assert direction_of(Operation.DISABLE, Side.RECOVERY, failed_over) is back
    assert direction_of(Operation.DISABLE, Side.RECOVERY, reversed_) is ahead


def test_every_state_has_words_and_a_way_on() -> None:
    assert set(DESCRIPTIONS) == set(ProtectionState)
    for state in set(ProtectionState) - BUSY_STATES:
        assert TRANSITIONS.get(state), f"{state} leads nowhere"


def test_every_operation_has_a_plan_and_failed_states_are_in_the_table() -> None:
    for operation in Operation:
        for unplanned in (False, True):
            scenario = SCENARIOS[scenario_key(operation, unplanned=unplanned)]
            ids = [spec.task_id for spec in scenario.tasks]
            assert len(ids) == len(set(ids))
            for spec in scenario.tasks:
                assert spec.leaves is None or spec.leaves in TRANSITIONS
                assert spec.asks_inventory or (spec.verb is None) == (not spec.sides)


def test_a_commit_looks_back_and_all_else_ahead() -> None:
    ahead = Direction.PRIMARY_TO_RECOVERY
    assert direction_of(Operation.PLANNED_FAILOVER, Side.PRIMARY) is ahead
    assert direction_of(Operation.COMMIT, Side.RECOVERY) is ahead
    assert direction_of(Operation.REVERSE_REPLICATE, Side.RECOVERY) is Direction.RECOVERY_TO_PRIMARY
    assert ahead.place(Side.PRIMARY) is Side.PRIMARY
    assert Direction.RECOVERY_TO_PRIMARY.place(Side.PRIMARY) is Side.RECOVERY


def test_catalogue_entries_take_a_name_and_a_detail() -> None:
    for entry in CATALOGUE.values():
        words = {"name": "N", "detail": "D"}
        text = entry.message + entry.possible_causes + entry.recommended_action
        assert "{" not in text.format(**words)


def mapping(name: str, primary: str, recovery: str) -> ContainerMapping:
    return ContainerMapping(
        id=name,
        vault_id="v",
        name=name,
        policy_id="p",
        primary_provider_id="a",
        primary_cloud_id=primary,
        recovery_provider_id="b",
        recovery_cloud_id=recovery,
        mapping_state="Paired",
    )


@pytest.mark.parametrize(
    ("primary", "recovery", "refused"),
    [("c3", "c4", False), ("c1", "c3", True), ("c3", "c1", True), ("c2", "c1", True)],
)
def test_a_cloud_is_in_one_pair_only(primary: str, recovery: str, *, refused: bool) -> None:
    present = [mapping("m", "c1", "c2")]
    error = refusal_of_pairing(mapping("n", primary, recovery), present, {}, NOW)
    assert (error is not None) is refused
    assert refusal_of_pairing(mapping("m", "c1", "c2"), present, {}, NOW) is None
