"""Which reports of a batch are taken in beside each other."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from service_hub.domain.report_lanes import is_plain, lanes_of
from wire_contract.reports import Receipt, Report, TaskOutcome, Unverifiable
from wire_contract.vocabulary import ReceiptKind

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def outcome(number: int, job: str, machine: str | None) -> TaskOutcome:
    """Return an outcome that read a machine back."""
    observed = {} if machine is None else {"machine": {"machine_id": machine}}
    return TaskOutcome.model_validate(
        {
            "report_id": f"r{number}",
            "job": job,
            "task": "FailoverTask.recovery",
            "attempt": 1,
            "succeeded": True,
            "observed": observed,
            "observed_at": NOW,
        }
    )


def names(reports: list[Report]) -> list[list[str]]:
    """Return the ids of the reports, lane by lane."""
    return [[each.report_id for each in lane] for lane in lanes_of(reports)]


def test_jobs_of_different_machines_do_not_wait_for_each_other() -> None:
    reports: list[Report] = [outcome(1, "a", "m"), outcome(2, "b", "n"), outcome(3, "a", None)]
    assert names(reports) == [["r1", "r3"], ["r2"]]


def test_two_jobs_that_saw_one_machine_are_taken_in_their_order() -> None:
    reports: list[Report] = [
        outcome(1, "a", "m"),
        outcome(2, "b", "n"),
        outcome(3, "c", "n"),
        outcome(4, "b", "m"),
        outcome(5, "c", None),
    ]
    assert names(reports) == [["r1", "r2", "r3", "r4", "r5"]]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("mnop")), max_size=20))
def test_no_report_is_lost_and_what_belongs_together_keeps_its_order(
    pairs: list[tuple[str, str]],
) -> None:
    reports: list[Report] = [outcome(place, *pair) for place, pair in enumerate(pairs)]
    lanes = lanes_of(reports)
    assert sorted(each.report_id for lane in lanes for each in lane) == sorted(
        each.report_id for each in reports
    )
    lane_of = {each.report_id: place for place, lane in enumerate(lanes) for each in lane}
    for first, one in enumerate(pairs):
        for second, other in enumerate(pairs):
            if one[0] == other[0] or one[1] == other[1]:
                assert lane_of[f"r{first}"] == lane_of[f"r{second}"]
    for lane in lanes:
        places = [int(each.report_id[1:]) for each in lane]
        assert places == sorted(places)


def test_only_an_accepted_command_is_a_plain_receipt() -> None:
    def receipt(kind: ReceiptKind, command_id: str | None) -> Receipt:
        return Receipt(
            report_id="r", stream="s", seq=1, event_id="e", receipt=kind, command_id=command_id
        )

    assert is_plain(receipt(ReceiptKind.ACCEPTED, "job/task/1"))
    assert not is_plain(receipt(ReceiptKind.ACCEPTED, None))
    assert not is_plain(receipt(ReceiptKind.REFUSED, "job/task/1"))
    lie = Unverifiable(report_id="u", stream="s", seq=2, detail="not signed by the hub")
    assert not is_plain(lie)
    assert lanes_of([lie]) == [[lie]]
