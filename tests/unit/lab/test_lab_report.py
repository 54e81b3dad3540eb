from typing import Any

import pytest

from lab.report import Finding, OperationFigures, OperationName, Report, build_report, judge

EXPECTED: dict[OperationName, int] = {
    "test_failover": 1,
    "planned_failover": 1,
    "failback": 1,
    "unplanned_failover": 1,
    "reverse_replicate": 2,
}


def figures(operation: OperationName, **changes: Any) -> OperationFigures:
    checked: dict[str, Any] = {"filesystem_clean": True, "newest_record_age_s": 0.4}
    if operation in ("planned_failover", "failback"):
        checked |= {"bytes_equal": True, "records_lost": 0}
    if operation == "unplanned_failover":
        checked |= {"records_lost": 17}
    if operation == "reverse_replicate":
        checked = {}
    return OperationFigures(
        **{
            "operation": operation,
            "vm": "web01",
            "seconds": 1.5,
            "job": "0b6f4b62-0000-4000-8000-000000000000",
            **checked,
            **changes,
        }
    )


def story(**changes: Any) -> list[OperationFigures]:
    """All operations of a good story; `changes` are made to the planned failover."""
    return [
        figures("test_failover"),
        figures("planned_failover", **changes),
        figures("reverse_replicate"),
        figures("failback"),
        figures("reverse_replicate"),
        figures("unplanned_failover"),
    ]


def report(operations: list[OperationFigures], *, tools_missing: bool = False) -> Report:
    return build_report(
        operations, [], EXPECTED, {"seconds": 61.23456}, {}, tools_missing=tools_missing
    )


def test_a_story_in_which_all_holds_is_green() -> None:
    found = report(story())
    assert found.green
    assert found.totals["findings"] == []
    assert found.totals["records_lost"] == 17
    assert found.totals["bytes_equal"] is True
    assert found.totals["seconds"] == 61.235


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"bytes_equal": False}, "differ"),
        ({"bytes_equal": None}, "not compared"),
        ({"records_lost": 1}, "1 records were lost"),
        ({"records_lost": None}, "not counted"),
        ({"filesystem_clean": False}, "damaged"),
        ({"filesystem_clean": None}, "not checked"),
    ],
)
def test_a_planned_failover_that_is_not_perfect_turns_the_report_red(
    changes: dict[str, Any], word: str
) -> None:
    found = report(story(**changes))
    assert not found.green
    assert any(word in str(text) for text in _list(found.totals["findings"]))


def test_an_unplanned_failover_may_lose_records_but_not_be_left_unjudged() -> None:
    assert judge([figures("unplanned_failover", records_lost=900)], tools_missing=False) == []
    assert judge([figures("unplanned_failover", records_lost=None)], tools_missing=False)


def test_bytes_are_not_compared_where_the_source_writes_on() -> None:
    findings = judge([figures("unplanned_failover", bytes_equal=True)], tools_missing=False)
    assert "stands still" in findings[0].text


def test_missing_tools_leave_nulls_and_no_claim_of_success() -> None:
    unchecked = {"filesystem_clean": None, "records_lost": None}
    operations = [
        figures("planned_failover", **unchecked),
        figures("unplanned_failover", **unchecked),
    ]
    assert judge(operations, tools_missing=True) == []
    assert len(judge(operations, tools_missing=False)) == 4
    # What was looked at and found wrong stays wrong.
    assert judge([figures("planned_failover", filesystem_clean=False)], tools_missing=True)


def test_an_operation_that_did_not_happen_turns_the_report_red() -> None:
    found = report(story()[:-1])
    assert not found.green
    assert found.totals["not_done"] == {"unplanned_failover": 1}
    assert not report([]).green


def test_a_finding_of_the_story_turns_the_report_red() -> None:

    finding = Finding(operation="test_failover", vm="web01", text="it does not run at osaka")
    found = build_report(story(), [finding], EXPECTED, {}, {}, tools_missing=False)
    assert not found.green
    assert found.totals["findings"] == ["test_failover of web01: it does not run at osaka"]


def test_a_story_that_was_broken_off_is_red_even_when_all_was_done() -> None:
    found = build_report(
        story(), [], EXPECTED, {}, {}, tools_missing=False, broken_off="waited 60 s in vain"
    )
    assert not found.green
    assert found.totals["findings"] == ["the story was broken off: waited 60 s in vain"]


def test_the_file_has_exactly_the_promised_keys() -> None:
    content = report(story()).model_dump(mode="json")
    assert set(content) == {"operations", "totals", "versions"}
    assert set(content["operations"][0]) == {
        *("operation", "vm", "seconds", "records_lost", "newest_record_age_s"),
        *("bytes_equal", "filesystem_clean", "job"),
    }


def _list(value: object) -> list[Any]:
    assert isinstance(value, list)
    return value
