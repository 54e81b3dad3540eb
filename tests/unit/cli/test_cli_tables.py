"""Tables for people: names that can be copied, moments that can be read."""

import pytest

from site_recovery_cli.output import Format, show_list

NAME = "7f077de5-2f6d-462b-8531-846fb02adc5e"
COLUMNS = {"job": "Job", "operation": "Operation", "target": "Target", "started_at": "Started"}
ROW = {
    "job": NAME,
    "operation": "Register the Azure Site Recovery Provider",
    "target": "vmm01.osaka.contoso.example",
    "started_at": "2026-11-23T07:35:35.070600+00:00",
}


def test_what_names_a_row_is_never_broken(capsys: pytest.CaptureFixture[str]) -> None:
    wide = {f"column{number}": "x" * len(NAME) for number in range(6)}
    show_list([{"job": NAME} | wide], {"job": "Job"} | {each: each for each in wide}, Format.TABLE)
    assert NAME in capsys.readouterr().out


def test_tables_show_seconds_and_scripts_get_what_the_hub_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_list([ROW], COLUMNS, Format.TABLE)
    table = capsys.readouterr().out
    assert "2026-11-23T07:35:35Z" in table
    assert "070600" not in table
    for form in (Format.JSON, Format.TSV):
        show_list([ROW], COLUMNS, form)
        assert ROW["started_at"] in capsys.readouterr().out


def test_only_whole_moments_are_shortened(capsys: pytest.CaptureFixture[str]) -> None:
    told = "begun 2026-11-23T07:35:35.070600+00:00"
    show_list([ROW | {"started_at": told}], {"started_at": "Started"}, Format.TABLE)
    assert told in capsys.readouterr().out
