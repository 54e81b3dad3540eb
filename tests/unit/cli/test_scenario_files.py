import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from site_recovery_cli.cli import application
from site_recovery_cli.failures import CommandError
from site_recovery_cli.scenario_files import (
    DEPTH_MAX,
    FILE_BYTES_MAX,
    STEPS_MAX,
    Scenario,
    read_scenario,
)

SHIPPED = sorted((Path(__file__).resolve().parents[3] / "deploy/scenarios").glob("*.yaml"))
STEP = "- {name: a, wait: 1}\n"


def read(text: str, **changes: str) -> Scenario:
    return read_scenario(text.encode(), changes, "file")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_scenario_is_well_formed(path: Path) -> None:
    done = CliRunner().invoke(application, ["inject", "validate", str(path)])
    assert done.exit_code == 0, done.output


def test_variables_are_filled_in_and_can_be_set() -> None:
    text = """
scenario: s
variables: {item: web01}
steps:
- {name: a, expect: {item: "${item}", state: Protected}}
"""
    step = read(text, item="db01").steps[0]
    assert step.expect is not None
    assert step.expect.model_dump()["item"] == "db01"
    with pytest.raises(CommandError, match="no variable 'other'"):
        read(text, other="x")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "mapping"),
        ("- a", "mapping"),
        ("scenario: s\nsteps: []", "steps"),
        ("scenario: s\nsteps:\n- {name: a}", "one of inject"),
        ("scenario: s\nsteps:\n- {name: a, wait: 1, wait: 2, expect: {item: b}}", "one of inject"),
        (f"scenario: s\nsteps:\n{STEP}{STEP}", "two steps"),
        ("scenario: s\nsteps:\n- {name: a, wait: -1}", "greater than 0"),
        ("scenario: s\nsteps:\n- {name: a, wait_for: {job: b}}", "no earlier step"),
        ("scenario: s\nsteps:\n- {name: a, wait_for: {job: b, doing: c}}", "no earlier step"),
        ("scenario: s\nsteps:\n- {name: a, line: {site: b, does: burn}}", "cut"),
        ("scenario: s\nsteps:\n- {name: a, line: {site: b, does: cut}, wait: 1}", "one of inject"),
        ("scenario: s\nsteps:\n- {name: a, inject: {kind: earthquake, target: {id: t}}}", "kind"),
        ("scenario: s\nsteps:\n- {name: a, inject: {kind: commit, target: {}}}", "name one of"),
        ("scenario: s\nmore: 1\nsteps:\n- {name: a, wait: 1}", "more"),
        ("a: &x [1]\nb: *x", "aliases"),
        ("!!python/object/apply:os.system [ls]", "constructor"),
        ("[" * (DEPTH_MAX + 5) + "]" * (DEPTH_MAX + 5), "levels deep"),
        ("scenario: [", "flow sequence|expected"),
        ("x" * (FILE_BYTES_MAX + 1), "longer than"),
        ("scenario: s\nsteps:\n" + STEP * (STEPS_MAX + 1), "steps"),
    ],
)
def test_what_is_wrong_is_named_with_where_to_read(text: str, says: str) -> None:
    with pytest.raises(CommandError, match=says) as caught:
        read(text)
    assert "docs/scenarios.md" in str(caught.value)


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_whatever_bytes_come_are_a_scenario_or_refused(content: bytes) -> None:
    try:
        read_scenario(content, {}, "file")
    except CommandError as error:
        assert "file" in str(error)  # noqa: PT017 -- either is right, nothing else is


def test_the_schema_is_that_of_the_files() -> None:
    done = CliRunner().invoke(application, ["inject", "schema"])
    assert done.exit_code == 0
    schema = json.loads(done.output)
    assert schema["required"] == ["scenario", "steps"]
    published = Path(__file__).resolve().parents[3] / "docs/scenario.schema.json"
    assert json.loads(published.read_text()) == schema, (
        "write it anew: site-recovery inject schema > docs/scenario.schema.json"
    )
