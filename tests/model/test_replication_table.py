from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from vmm_simulator.hyperv.backend import CutKind
from vmm_simulator.hyperv.replication import (
    NO_RELATIONSHIP,
    TABLE,
    Claim,
    CycleFacts,
    Operation,
    Position,
    advance,
    allowed,
    health,
    receiving,
    start_blocked_by,
)
from vmm_simulator.problems import Code, RefusedError
from wire_contract.vocabulary import Health, ReplicationMode, ReplicationState

M, S = ReplicationMode, ReplicationState
O = Operation  # noqa: E741 -- as in the table
NOW = datetime(2026, 1, 1, tzinfo=UTC)
POSITIONS = [Position(mode, state) for mode, state in product(M, S)]


def primary(state: ReplicationState) -> Position:
    return Position(M.PRIMARY, state)


def replica(state: ReplicationState) -> Position:
    return Position(M.REPLICA, state)


@pytest.mark.parametrize("position", POSITIONS, ids=str)
def test_every_state_allows_what_the_table_says_and_refuses_the_rest(position: Position) -> None:
    for operation in Operation:
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


@pytest.mark.parametrize("state", set(S) - {S.REPLICATING})
def test_changes_are_taken_while_replicating_only(state: ReplicationState) -> None:
    assert O.RECEIVE_CHANGES not in allowed(replica(state))


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


@pytest.mark.parametrize("position", POSITIONS, ids=str)
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


def facts(**changes: object) -> CycleFacts:
    usual = {
        "fenced": False,
        "failures_in_a_row": 0,
        "successful_cycles": 8,
        "missed_cycles": 0,
        "last_replication_at": NOW - timedelta(seconds=30),
        "established_at": NOW - timedelta(days=1),
        **changes,
    }
    return CycleFacts(**usual)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("position", "changes", "expected"),
    [
        (NO_RELATIONSHIP, {}, Health.NOT_APPLICABLE),
        (Position(M.TEST_REPLICA, S.DISABLED), {}, Health.NOT_APPLICABLE),
        (primary(S.REPLICATING), {}, Health.NORMAL),
        (primary(S.REPLICATING), {"failures_in_a_row": 1}, Health.NORMAL),
        (primary(S.REPLICATING), {"failures_in_a_row": 2}, Health.CRITICAL),
        (primary(S.REPLICATING), {"fenced": True}, Health.CRITICAL),
        (primary(S.WAITING_TO_START_RESYNCHRONIZE), {}, Health.CRITICAL),
        (primary(S.RESYNCHRONIZING), {}, Health.WARNING),
        (primary(S.READY), {}, Health.WARNING),
        (primary(S.REPLICATING), {"missed_cycles": 2}, Health.NORMAL),
        (primary(S.REPLICATING), {"missed_cycles": 3}, Health.WARNING),
        (
            primary(S.REPLICATING),
            {"last_replication_at": NOW - timedelta(minutes=61)},
            Health.WARNING,
        ),
        (primary(S.REPLICATING), {"last_replication_at": None}, Health.WARNING),
        (replica(S.RECOVERED), {}, Health.WARNING),
        (replica(S.COMMITTED), {}, Health.WARNING),
        (replica(S.REPLICATING), {}, Health.NORMAL),
    ],
)
def test_health(position: Position, changes: dict[str, object], expected: Health) -> None:
    assert health(position, facts(**changes), NOW) is expected
