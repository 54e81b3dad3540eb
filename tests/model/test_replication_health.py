from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from vmm_simulator.hyperv.health import CODES, RULES, Facts, codes, health, reasons
from vmm_simulator.hyperv.replication import NO_RELATIONSHIP, Position
from vmm_simulator.hyperv.statistics import Monitoring, Statistics
from wire_contract.vocabulary import Health, ReplicationMode, ReplicationState

M, S = ReplicationMode, ReplicationState
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def primary(state: ReplicationState) -> Position:
    return Position(M.PRIMARY, state)


def replica(state: ReplicationState) -> Position:
    return Position(M.REPLICA, state)


def facts(position: Position, **changes: object) -> Facts:
    usual = {
        "position": position,
        "fenced": False,
        "failures_in_a_row": 0,
        "statistics": Statistics(
            success_count=8, latency_seconds=8.0, last_test_failover_at=NOW - DAY
        ),
        "monitoring": Monitoring(),
        "last_replication_at": NOW - timedelta(seconds=30),
        "established_at": NOW - DAY,
        "now": NOW,
        **changes,
    }
    return Facts(**usual)  # type: ignore[arg-type]


def counted(**changes: float) -> Statistics:
    return Statistics.model_validate({"success_count": 8, **changes})


@pytest.mark.parametrize(
    ("position", "changes", "expected"),
    [
        (NO_RELATIONSHIP, {}, Health.NOT_APPLICABLE),
        (Position(M.TEST_REPLICA, S.DISABLED), {}, Health.NOT_APPLICABLE),
        (primary(S.REPLICATING), {}, Health.NORMAL),
        (replica(S.REPLICATING), {}, Health.NORMAL),
        (primary(S.REPLICATING), {"failures_in_a_row": 1}, Health.NORMAL),
        (primary(S.REPLICATING), {"failures_in_a_row": 2}, Health.CRITICAL),
        (primary(S.REPLICATING), {"fenced": True}, Health.CRITICAL),
        (primary(S.CRITICAL), {}, Health.CRITICAL),
        (replica(S.CRITICAL), {}, Health.CRITICAL),
        (primary(S.WAITING_TO_START_RESYNCHRONIZE), {}, Health.CRITICAL),
        (replica(S.SUSPENDED), {}, Health.CRITICAL),
        (primary(S.SUSPENDED), {}, Health.WARNING),
        (primary(S.RESYNCHRONIZING), {}, Health.WARNING),
        (primary(S.RESYNCHRONIZATION_SUSPENDED), {}, Health.WARNING),
        (primary(S.READY), {}, Health.WARNING),
        (primary(S.SYNCED_REPLICATION_COMPLETE), {}, Health.WARNING),
        (primary(S.REPLICATING), {"statistics": counted(miss_count=2)}, Health.NORMAL),
        (primary(S.REPLICATING), {"statistics": counted(miss_count=3)}, Health.WARNING),
        (
            primary(S.REPLICATING),
            {
                "statistics": counted(miss_count=3),
                "monitoring": Monitoring(missed_share_max=0.5),
            },
            Health.NORMAL,
        ),
        (primary(S.REPLICATING), {"last_replication_at": NOW - 60 * DAY / 1440}, Health.NORMAL),
        (primary(S.REPLICATING), {"last_replication_at": NOW - 61 * DAY / 1440}, Health.WARNING),
        (primary(S.REPLICATING), {"last_replication_at": None}, Health.WARNING),
        (primary(S.REPLICATING), {"statistics": counted(latency_seconds=8 * 299)}, Health.NORMAL),
        (primary(S.REPLICATING), {"statistics": counted(latency_seconds=8 * 300)}, Health.WARNING),
        (replica(S.RECOVERED), {}, Health.WARNING),
        (replica(S.COMMITTED), {}, Health.WARNING),
    ],
)
def test_health(position: Position, changes: dict[str, object], expected: Health) -> None:
    assert health(facts(position, **changes)) is expected


def test_the_worst_comes_first_and_every_rule_can_be_the_reason() -> None:
    assert [rule.health for rule in RULES] == sorted(
        (rule.health for rule in RULES), key=[Health.CRITICAL, Health.WARNING].index
    )
    cases: tuple[dict[str, object], ...] = (
        {},
        {"last_replication_at": NOW - DAY},
        {"statistics": counted(miss_count=9)},
        {"statistics": counted(latency_seconds=9000)},
        {"fenced": True},
    )
    found = set()
    for mode, state, changes in product((M.PRIMARY, M.REPLICA), S, cases):
        found |= {rule.because for rule in reasons(facts(Position(mode, state), **changes))}
    found |= {r.because for r in reasons(facts(primary(S.REPLICATING), failures_in_a_row=2))}
    assert found == {rule.because for rule in RULES}


LATE = {"last_replication_at": NOW - timedelta(minutes=18)}
BUSY = Statistics(success_count=1, miss_count=9, last_test_failover_at=NOW - DAY)


@pytest.mark.parametrize(
    ("position", "changes", "numbers"),
    [
        (primary(S.REPLICATING), {}, set()),
        (replica(S.REPLICATING), {}, set()),
        # As recorded: after an unplanned failover, on both ends.
        (primary(S.SUSPENDED), {"fenced": True, "statistics": BUSY}, {67501, 67502, 67518}),
        (replica(S.RECOVERED), {"statistics": BUSY}, {67506, 67518}),
        # As recorded: 18 minutes after a planned failover, commit pending.
        (replica(S.RECOVERED), LATE, {67506, 67512}),
        (replica(S.COMMITTED), {}, {67506}),
        (primary(S.SUSPENDED), {}, {67502}),
        (replica(S.SUSPENDED), {}, {67501, 67502}),
        (primary(S.RESYNCHRONIZATION_SUSPENDED), {}, {67502}),
        (primary(S.CRITICAL), {}, {67501}),
        (primary(S.WAITING_TO_START_RESYNCHRONIZE), {}, {67501}),
        (primary(S.REPLICATING), {"statistics": counted(miss_count=3)}, {67518}),
        (primary(S.REPLICATING), LATE, {67512}),
        (primary(S.READY), LATE, set()),
        (replica(S.REPLICATING), {"statistics": Statistics()}, {161011}),
        (
            replica(S.REPLICATING),
            {"statistics": Statistics(), "established_at": NOW - timedelta(hours=3)},
            set(),
        ),
        (NO_RELATIONSHIP, LATE, set()),
    ],
)
def test_recorded_codes(position: Position, changes: dict[str, object], numbers: set[int]) -> None:
    assert {each.code for each in codes(facts(position, **changes))} == numbers


def test_every_recorded_code_has_its_level_its_text_and_a_remedy() -> None:
    levels = {number: code.level for number, code in CODES.items()}
    assert levels == {
        67501: "Error",
        67502: "Warning",
        67506: "Warning",
        67512: "Error",
        67518: "Warning",
        161011: "Error",
    }
    for number, code in CODES.items():
        assert code.code == number
        assert "{machine}" in code.text
        assert code.causes
        assert code.remedy
