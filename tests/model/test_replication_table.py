from itertools import product

import pytest

from vmm_simulator.hyperv.backend import CutKind
from vmm_simulator.hyperv.replication import (
    NO_RELATIONSHIP,
    RESERVED,
    TABLE,
    Operation,
    Position,
    advance,
    allowed,
    receiving,
)
from vmm_simulator.hyperv.starting import Claim, start_blocked_by
from vmm_simulator.problems import Code, RefusedError
from wire_contract.vocabulary import ReplicationMode, ReplicationState

M, S = ReplicationMode, ReplicationState
O = Operation  # noqa: E741 -- as in the table
POSITIONS = [Position(mode, state, before) for mode, state, before in product(M, S, (None, *S))]
NUMBERS = range(22)
"""All numbers of Msvm_ReplicationRelationship.ReplicationState (behaviour 1.1.1)."""


def primary(state: ReplicationState, before: ReplicationState | None = None) -> Position:
    return Position(M.PRIMARY, state, before)


def replica(state: ReplicationState, before: ReplicationState | None = None) -> Position:
    return Position(M.REPLICA, state, before)


def test_every_number_is_a_state_of_the_table_or_reserved_with_its_reason() -> None:
    used = {int(position.state) for position in TABLE}
    assert used | RESERVED.keys() == set(NUMBERS)
    assert used & RESERVED.keys() == set()
    assert set(RESERVED) == {13, 14, 15, 16, 17, 18, 19, 20, 21}
    assert all(RESERVED.values())


def test_every_state_allows_what_the_table_says_and_refuses_the_rest() -> None:
    for position, operation in product(POSITIONS, Operation):
        if operation in TABLE.get(position, {}):
            assert advance(position, operation) == TABLE[position][operation]
            continue
        with pytest.raises(RefusedError) as refusal:
            advance(position, operation)
        assert refusal.value.code == 32775
        assert refusal.value.status == 409


def test_every_arc_ends_in_a_position_of_the_table() -> None:
    ends = {end for arcs in TABLE.values() for end in arcs.values()}
    assert ends <= TABLE.keys()


def test_every_position_can_be_reached_and_left() -> None:
    reached = {NO_RELATIONSHIP}
    while True:
        further = reached | {end for each in reached for end in TABLE[each].values()}
        if further == reached:
            break
        reached = further
    assert reached == set(TABLE)
    assert all(set(arcs.values()) - {position} for position, arcs in TABLE.items())


def test_a_relationship_can_be_removed_in_every_state() -> None:
    assert {arcs[O.REMOVE] for arcs in TABLE.values()} == {NO_RELATIONSHIP}


def test_every_operation_is_possible_somewhere() -> None:
    assert {operation for arcs in TABLE.values() for operation in arcs} == set(Operation)


# Behaviour 1.2 and 1.3, row by row: what is done, where, and where it leads.
COPY = S.WAITING_TO_COMPLETE_INITIAL_REPLICATION
DOCUMENTED = [
    (NO_RELATIONSHIP, O.CREATE_PRIMARY, primary(S.READY)),
    (primary(S.READY), O.START_INITIAL_REPLICATION, primary(COPY)),
    (primary(S.READY), O.EXPORT_INITIAL_REPLICATION, primary(COPY)),
    (primary(COPY), O.COMPLETE_INITIAL_REPLICATION, primary(S.REPLICATING)),
    (primary(COPY), O.CANCEL_INITIAL_REPLICATION, primary(S.READY)),
    (primary(COPY), O.FAIL, primary(S.CRITICAL, COPY)),
    (primary(S.REPLICATING), O.SUSPEND, primary(S.SUSPENDED)),
    (primary(S.SUSPENDED), O.RESUME, primary(S.REPLICATING)),
    (primary(S.REPLICATING), O.FAIL, primary(S.CRITICAL)),
    (primary(S.CRITICAL), O.RESUME, primary(S.REPLICATING)),
    (primary(S.CRITICAL, COPY), O.RESUME, primary(COPY)),
    (primary(S.REPLICATING), O.PREPARE_FAILOVER, primary(S.SYNCED_REPLICATION_COMPLETE)),
    (primary(S.SYNCED_REPLICATION_COMPLETE), O.REVERT_FAILOVER, primary(S.REPLICATING)),
    # Gone on without, and then the active copy again: what it was in the middle of stays.
    *(
        (position, O.REVERT_FAILOVER, position)
        for position in (
            primary(S.SUSPENDED),
            primary(S.CRITICAL),
            primary(S.WAITING_TO_START_RESYNCHRONIZE),
            primary(S.RESYNCHRONIZATION_SUSPENDED),
            primary(S.CRITICAL, S.RESYNCHRONIZING),
        )
    ),
    (
        primary(S.SYNCED_REPLICATION_COMPLETE),
        O.PREPARE_REVERSE_BY_CHANGES,
        replica(S.REPLICATING),
    ),
    *(
        (primary(state), O.REQUIRE_RESYNCHRONIZATION, primary(S.WAITING_TO_START_RESYNCHRONIZE))
        for state in (S.REPLICATING, S.SUSPENDED, S.CRITICAL)
    ),
    (primary(S.WAITING_TO_START_RESYNCHRONIZE), O.RESYNCHRONIZE, primary(S.RESYNCHRONIZING)),
    (primary(S.WAITING_TO_START_RESYNCHRONIZE), O.RESUME, primary(S.RESYNCHRONIZING)),
    (primary(S.SUSPENDED), O.RESYNCHRONIZE, primary(S.RESYNCHRONIZING)),
    (primary(S.RESYNCHRONIZING), O.SUSPEND, primary(S.RESYNCHRONIZATION_SUSPENDED)),
    (primary(S.RESYNCHRONIZATION_SUSPENDED), O.RESUME, primary(S.RESYNCHRONIZING)),
    *(
        (primary(state), O.CANCEL_RESYNCHRONIZATION, primary(S.WAITING_TO_START_RESYNCHRONIZE))
        for state in (S.RESYNCHRONIZING, S.RESYNCHRONIZATION_SUSPENDED)
    ),
    (primary(S.RESYNCHRONIZING), O.COMPLETE_RESYNCHRONIZATION, primary(S.REPLICATING)),
    (NO_RELATIONSHIP, O.CREATE_REPLICA, replica(COPY)),
    (replica(COPY), O.RECEIVE_WHOLE, replica(S.REPLICATING)),
    (replica(COPY), O.IMPORT_INITIAL_REPLICATION, replica(S.REPLICATING)),
    (replica(S.REPLICATING), O.FAIL, replica(S.CRITICAL)),
    (replica(S.CRITICAL), O.RECEIVE_CHANGES, replica(S.REPLICATING)),
    (replica(S.CRITICAL), O.RECEIVE_WHOLE, replica(S.REPLICATING)),
    (replica(S.REPLICATING), O.SUSPEND, replica(S.SUSPENDED)),
    (replica(S.SUSPENDED), O.RESUME, replica(S.REPLICATING)),
    (replica(S.REPLICATING), O.INITIATE_FAILOVER, replica(S.FAILOVER_IN_PROGRESS)),
    *(
        (replica(state), O.INITIATE_FAILOVER, replica(S.FAILOVER_IN_PROGRESS, state))
        for state in (S.SUSPENDED, S.CRITICAL)
    ),
    (replica(S.FAILOVER_IN_PROGRESS), O.COMPLETE_FAILOVER, replica(S.RECOVERED)),
    (replica(S.RECOVERED), O.REVERT_FAILOVER, replica(S.REPLICATING)),
    (replica(S.RECOVERED, S.SUSPENDED), O.REVERT_FAILOVER, replica(S.SUSPENDED)),
    (replica(S.RECOVERED, S.CRITICAL), O.REVERT_FAILOVER, replica(S.CRITICAL)),
    (replica(S.RECOVERED), O.CHANGE_RECOVERY_POINT, replica(S.FAILOVER_IN_PROGRESS)),
    (replica(S.RECOVERED), O.COMMIT_FAILOVER, replica(S.COMMITTED)),
    (replica(S.RECOVERED), O.REVERSE_BY_RESYNCHRONIZATION, primary(S.READY)),
    (replica(S.COMMITTED), O.REVERSE_BY_RESYNCHRONIZATION, primary(S.READY)),
    (replica(S.REPLICATING), O.TEST_REPLICA, replica(S.REPLICATING)),
]


@pytest.mark.parametrize(("position", "operation", "end"), DOCUMENTED)
def test_the_documented_rows(position: Position, operation: Operation, end: Position) -> None:
    assert advance(position, operation) == end


REFUSED = [
    # Planned and test failover while a resynchronization runs (1.3); the replica's part of it is
    # no state but a transfer under way.
    *(
        (primary(state), O.PREPARE_FAILOVER)
        for state in (
            S.WAITING_TO_START_RESYNCHRONIZE,
            S.RESYNCHRONIZING,
            S.RESYNCHRONIZATION_SUSPENDED,
            S.SUSPENDED,
            S.CRITICAL,
        )
    ),
    *((replica(state), O.TEST_REPLICA) for state in sorted(set(S) - {S.REPLICATING})),
    (replica(COPY), O.INITIATE_FAILOVER),
    (replica(S.SUSPENDED), O.RECEIVE_CHANGES),
    (replica(S.COMMITTED), O.CHANGE_RECOVERY_POINT),
    (primary(S.REPLICATING), O.CANCEL_INITIAL_REPLICATION),
    (primary(S.REPLICATING), O.RESYNCHRONIZE),
    (primary(S.READY), O.SUSPEND),
]


@pytest.mark.parametrize(("position", "operation"), REFUSED)
def test_what_the_documents_forbid_is_refused(position: Position, operation: Operation) -> None:
    with pytest.raises(RefusedError) as refusal:
        advance(position, operation)
    assert refusal.value.code == 32775


REPEATABLE = [
    (O.CREATE_PRIMARY, NO_RELATIONSHIP),
    (O.CREATE_REPLICA, NO_RELATIONSHIP),
    (O.START_INITIAL_REPLICATION, primary(S.READY)),
    (O.COMPLETE_INITIAL_REPLICATION, primary(S.WAITING_TO_COMPLETE_INITIAL_REPLICATION)),
    (O.REQUIRE_RESYNCHRONIZATION, primary(S.REPLICATING)),
    (O.RESYNCHRONIZE, primary(S.WAITING_TO_START_RESYNCHRONIZE)),
    (O.PREPARE_FAILOVER, primary(S.REPLICATING)),
    (O.REVERT_FAILOVER, primary(S.SYNCED_REPLICATION_COMPLETE)),
    (O.REVERT_FAILOVER, replica(S.RECOVERED)),
    (O.REVERT_FAILOVER, replica(S.FAILOVER_IN_PROGRESS)),
    (O.INITIATE_FAILOVER, replica(S.REPLICATING)),
    (O.COMMIT_FAILOVER, replica(S.RECOVERED)),
    (O.PREPARE_REVERSE_BY_CHANGES, primary(S.SYNCED_REPLICATION_COMPLETE)),
    (O.PREPARE_REVERSE_BY_RESYNCHRONIZATION, primary(S.REPLICATING)),
    (O.REVERSE_BY_CHANGES, replica(S.COMMITTED)),
    (O.REVERSE_BY_RESYNCHRONIZATION, replica(S.RECOVERED)),
    (O.TEST_REPLICA, replica(S.REPLICATING)),
    (O.EXPORT_INITIAL_REPLICATION, primary(S.READY)),
    (O.IMPORT_INITIAL_REPLICATION, replica(S.WAITING_TO_COMPLETE_INITIAL_REPLICATION)),
    (O.CANCEL_INITIAL_REPLICATION, primary(S.WAITING_TO_COMPLETE_INITIAL_REPLICATION)),
    (O.SUSPEND, primary(S.REPLICATING)),
    (O.SUSPEND, primary(S.RESYNCHRONIZING)),
    (O.SUSPEND, replica(S.REPLICATING)),
    (O.RESUME, primary(S.SUSPENDED)),
    (O.RESUME, primary(S.CRITICAL)),
    (O.RESUME, primary(S.RESYNCHRONIZATION_SUSPENDED)),
    (O.RESUME, replica(S.SUSPENDED)),
    (O.FAIL, primary(S.REPLICATING)),
    (O.FAIL, replica(S.REPLICATING)),
    (O.SCHEDULE_RESYNCHRONIZATION, primary(S.SUSPENDED)),
    (O.CANCEL_RESYNCHRONIZATION, primary(S.RESYNCHRONIZING)),
    (O.CHANGE_RECOVERY_POINT, replica(S.RECOVERED)),
    (O.REVERT_FAILOVER, replica(S.RECOVERED, S.SUSPENDED)),
    (O.REMOVE, primary(S.REPLICATING)),
]


@pytest.mark.parametrize(("operation", "position"), REPEATABLE)
def test_what_is_done_may_be_asked_again(operation: Operation, position: Position) -> None:
    once = advance(position, operation)
    assert advance(once, operation) == once


def test_a_commit_cannot_be_taken_back() -> None:
    assert O.REVERT_FAILOVER in allowed(replica(S.RECOVERED))
    assert O.REVERT_FAILOVER not in allowed(replica(S.COMMITTED))


STORY = [
    (O.CREATE_PRIMARY, primary(S.READY)),
    (O.START_INITIAL_REPLICATION, primary(S.WAITING_TO_COMPLETE_INITIAL_REPLICATION)),
    (O.COMPLETE_INITIAL_REPLICATION, primary(S.REPLICATING)),
    (O.PREPARE_FAILOVER, primary(S.SYNCED_REPLICATION_COMPLETE)),
    (O.PREPARE_REVERSE_BY_CHANGES, replica(S.REPLICATING)),
    (O.INITIATE_FAILOVER, replica(S.FAILOVER_IN_PROGRESS)),
    (O.COMPLETE_FAILOVER, replica(S.RECOVERED)),
    (O.COMMIT_FAILOVER, replica(S.COMMITTED)),
    (O.REVERSE_BY_CHANGES, primary(S.REPLICATING)),
]


def test_the_life_of_a_copy_there_and_back() -> None:
    position = NO_RELATIONSHIP
    for operation, expected in STORY:
        position = advance(position, operation)
        assert position == expected


@pytest.mark.parametrize("state", sorted(set(S) - {S.REPLICATING, S.CRITICAL, COPY}))
def test_changes_are_taken_while_replicating_only(state: ReplicationState) -> None:
    # In state 8 they are the trial whether its disks work again; the bytes refuse what they must.
    assert O.RECEIVE_CHANGES not in allowed(replica(state))


def test_changes_that_come_before_an_import_complete_no_copy() -> None:
    assert advance(replica(COPY), O.RECEIVE_CHANGES) == replica(COPY)


@pytest.mark.parametrize(
    ("kind", "operation"),
    [
        (CutKind.FULL, O.RECEIVE_WHOLE),
        (CutKind.DIFFERENCES, O.RECEIVE_WHOLE),
        (CutKind.DELTA, O.RECEIVE_CHANGES),
        (CutKind.FINAL, O.RECEIVE_CHANGES),
    ],
)
def test_kinds_of_change_sets(kind: CutKind, operation: Operation) -> None:
    assert receiving(kind) is operation


def claim(position: Position, **changes: bool | int) -> Claim:
    facts = {
        "epoch": 2,
        "fenced": False,
        "reserved": False,
        "protected": True,
        "epoch_confirmed": True,
        **changes,
    }
    return Claim(position=position, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize("position", [each for each in POSITIONS if each.before is None], ids=str)
def test_which_positions_may_start(position: Position) -> None:
    blocked = position.state is S.SYNCED_REPLICATION_COMPLETE or (
        position.mode is M.REPLICA and position.state not in (S.RECOVERED, S.COMMITTED)
    )
    found = start_blocked_by(claim(position), 2)
    assert (found is not None) is blocked
    if found is not None:
        assert found.code is Code.INVALID_STATE


@pytest.mark.parametrize(
    ("changes", "command_epoch", "code"),
    [
        ({}, 1, Code.LOWER_EPOCH),
        ({}, 2, None),
        ({"fenced": True}, 2, Code.COPY_FENCED),
        ({"fenced": True}, 9, Code.COPY_FENCED),
        ({"reserved": True}, 2, Code.INVALID_STATE),
        ({"epoch_confirmed": False}, 2, Code.EPOCH_NOT_CONFIRMED),
        ({"epoch_confirmed": False}, None, Code.EPOCH_NOT_CONFIRMED),
        ({"epoch_confirmed": False}, 3, None),
        ({"epoch_confirmed": False, "protected": False}, None, None),
    ],
)
def test_rules_of_the_epoch(
    changes: dict[str, bool | int], command_epoch: int | None, code: Code | None
) -> None:
    found = start_blocked_by(claim(primary(S.REPLICATING), **changes), command_epoch)
    assert (None if found is None else found.code) is code
