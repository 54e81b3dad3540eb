from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from lab.verification_loss import LossReport, judge_loss
from vmm_simulator.guest.frames import LedgerEntry
from vmm_simulator.guest.records import Record


def digest(number: int, epoch: int) -> bytes:
    return number.to_bytes(16, "big") + epoch.to_bytes(16, "big")


def entries(epoch: int, first: int, last: int) -> list[LedgerEntry]:
    return [
        LedgerEntry("vm", epoch, n, digest(n, epoch).hex(), n * 1_000_000)
        for n in range(first, last + 1)
    ]


def records(*spans: tuple[int, int, int]) -> Mapping[int, Record]:
    """Return records of (epoch, first, last) spans; a later span replaces an earlier one."""
    return {
        n: Record(n, epoch, n * 1_000_000, b"", b"", digest(n, epoch))
        for epoch, first, last in spans
        for n in range(first, last + 1)
    }


def judged(found: Mapping[int, Record], known: list[LedgerEntry], epochs: set[int]) -> LossReport:
    return judge_loss(found, known, epochs, datetime(1970, 1, 1, 0, 1, tzinfo=UTC))


def test_nothing_is_lost_when_the_disk_has_all_that_was_acknowledged() -> None:
    report = judged(records((1, 1, 10)), entries(1, 1, 10), {1})
    assert report == LossReport(10, (), 50.0, ())


def test_what_was_acknowledged_after_the_cut_is_lost() -> None:
    report = judged(records((1, 1, 7)), entries(1, 1, 10), {1})
    assert (report.kept, report.lost) == (7, (8, 9, 10))


def test_a_record_that_the_ledger_has_not_is_no_loss() -> None:
    assert judged(records((1, 1, 10)), entries(1, 1, 9), {1}).lost == ()


def test_the_copy_that_took_over_hides_no_loss() -> None:
    """The new guest has reused the numbers of the lost records before the disk was read."""
    known = entries(1, 1, 10) + entries(2, 8, 12)
    report = judged(records((1, 1, 7), (2, 8, 12)), known, {1})
    assert (report.kept, report.lost, report.faults) == (7, (8, 9, 10), ())


def test_the_ledger_knows_where_a_lineage_ended_when_the_ring_has_overwritten_it() -> None:
    known = entries(1, 1, 10) + entries(2, 8, 500)
    report = judged(records((2, 400, 500)), known, {1})
    assert (report.kept, report.lost) == (7, (8, 9, 10))
    assert report.newest_record_age_s == 53.0


def test_what_an_earlier_failover_lost_is_not_counted_again() -> None:
    known = entries(1, 1, 10) + entries(2, 8, 9)
    report = judged(records((1, 1, 7), (2, 8, 9)), known, {1, 2})
    assert (report.kept, report.lost, report.faults) == (9, (), ())
    later = known + entries(2, 10, 12)
    assert judged(records((1, 1, 7), (2, 8, 9)), later, {1, 2}).lost == (10, 11, 12)


def test_a_planned_failover_and_back_loses_nothing() -> None:
    known = entries(1, 1, 5) + entries(2, 6, 9) + entries(3, 10, 12)
    report = judged(records((1, 1, 5), (2, 6, 9), (3, 10, 12)), known, {1, 2})
    assert (report.kept, report.lost) == (9, ())


def test_entries_of_a_stale_copy_above_the_cut_are_lost_under_its_epoch_alone() -> None:
    known = entries(1, 1, 20) + entries(2, 8, 30)
    assert judged(records((1, 1, 7), (2, 8, 30)), known, {2}).lost == ()


def test_a_record_other_than_the_acknowledged_one_is_a_contradiction() -> None:
    known = entries(1, 1, 4)
    known[2] = LedgerEntry("vm", 1, 3, "00" * 32, 3)
    assert judged(records((1, 1, 4)), known, {1}).faults == (
        "record 3 is not the one that the ledger acknowledged",
    )


def test_two_guests_under_one_epoch_are_told() -> None:
    known = [*entries(1, 1, 4), LedgerEntry("vm", 1, 3, "00" * 32, 3)]
    assert judged(records((1, 1, 4)), known, {1}).faults == (
        "two guests wrote record 3 under epoch 1",
    )


def test_a_record_of_an_epoch_that_had_no_authority_is_told() -> None:
    report = judged(records((1, 1, 4), (2, 5, 5), (3, 6, 6)), entries(1, 1, 4), {1, 3})
    assert len(report.faults) == 1
    assert "epoch 2" in report.faults[0]


def test_an_empty_disk_has_lost_all_and_has_no_age() -> None:
    report = judged({}, entries(1, 1, 3), {1})
    assert report == LossReport(0, (1, 2, 3), None, ())
    assert judge_loss(records((1, 1, 2)), [], {1}, None).newest_record_age_s is None


def test_without_an_authoritative_epoch_nothing_can_be_judged() -> None:
    with pytest.raises(ValueError, match="epoch"):
        judged({}, [], set())
