"""What the hub's own check of a job on an item finds against it, from what was observed."""

import pytest

from service_hub.domain.checks import SideFacts, check_item_job
from service_hub.domain.protection import Operation, ProtectionState
from tests.support.fabric_walk import planned
from tests.support.item_walk import NOW, item_in
from wire_contract.vocabulary import ReplicationState as R
from wire_contract.vocabulary import Side

S, O = ProtectionState, Operation  # noqa: E741 -- one letter, as in the table itself
COMPARING = (
    R.WAITING_TO_START_RESYNCHRONIZE,
    R.RESYNCHRONIZING,
    R.RESYNCHRONIZATION_SUSPENDED,
)


def found(operation: Operation, state: ProtectionState, source: R | None, replica: R | None) -> str:
    """Return the words against a job, empty where nothing is."""
    job = planned(item_in(state, Side.PRIMARY), operation, with_source=True)
    sides = {
        Side.PRIMARY: SideFacts("tokyo", connected=True, last_contact="", replication_state=source),
        Side.RECOVERY: SideFacts(
            "osaka", connected=True, last_contact="", replication_state=replica
        ),
    }
    error = check_item_job(job, sides, NOW)
    return "" if error is None else error.possible_causes


@pytest.mark.parametrize("source", COMPARING)
def test_while_the_copies_are_compared_only_an_unplanned_failover_is_possible(source: R) -> None:
    for operation in (O.PLANNED_FAILOVER, O.TEST_FAILOVER):
        assert "being compared" in found(operation, S.PROTECTED, source, R.REPLICATING)
    assert found(O.UNPLANNED_FAILOVER, S.PROTECTED, source, R.REPLICATING) == ""


@pytest.mark.parametrize("source", [*COMPARING, R.REPLICATING, None])
def test_after_a_failed_undo_a_failover_takes_both_ends_as_they_are(source: R | None) -> None:
    for operation in (O.PLANNED_FAILOVER, O.UNPLANNED_FAILOVER):
        for replica in (R.RECOVERED, R.FAILOVER_IN_PROGRESS, R.REPLICATING, None):
            assert found(operation, S.PLANNED_UNDO_FAILED, source, replica) == ""


def test_a_replica_that_is_failed_over_is_not_failed_over_to_again() -> None:
    assert "RECOVERED" in found(O.PLANNED_FAILOVER, S.PROTECTED, R.REPLICATING, R.RECOVERED)
