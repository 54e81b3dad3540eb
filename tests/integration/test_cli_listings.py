"""Every command that lists prints a table, JSON, YAML and TSV, and all four say the same."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
import typer
import yaml
from aiohttp import web

from site_recovery_cli.cli import application
from site_recovery_cli.output import Format
from tests.support.cli_world import CliHub, Shell, cli_hub

FORMS = {each.value for each in Format}
NO_LISTS = {"doctor", "changes"}
"""They tell of the hub itself, and of what goes on: their own tests look at their output."""

ROUTES = {
    "registration-keys": "keys",
    "approvals": "approvals",
    "alerts": "alerts",
    "waiting": "waiting",
    "authority-questions": "questions",
    "injections": "injections",
    "servers": "servers",
}
ROW = {"key_id": "k", "name": "n", "code": "c", "kind": "job", "id": "i", "message": "with\ttab"}
COPIES: dict[str, Any] = {"copies": {"Primary": {}}}
"""Of a question of authority each copy is a line."""


def leaves(command: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    below = getattr(command, "commands", {})
    if not below:
        yield path, {each.name: each for each in command.params}
    for name, each in below.items():
        yield from leaves(each, f"{path} {name}".strip())


COMMANDS = dict(leaves(typer.main.get_command(application)))
LISTS = sorted(
    name
    for name, given in COMMANDS.items()
    if "output" in given and not any(each.required for each in given.values())
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliHub]:
    with cli_hub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture(scope="module")
def shell(served: CliHub, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    for part, field in ROUTES.items():
        row = web.json_response({field: [{**ROW, **COPIES}]} if field != "servers" else {field: []})
        served.answers["GET", f"/hub/v1/vaults/v/{part}"] = row
    account = {"client_id": "c", "name": "n", "grants": [], "secrets": [], "created_by": "o"}
    found = web.json_response({"accounts": [account]})
    served.answers["GET", "/hub/v1/service-accounts"] = found
    operator = Shell(served, tmp_path_factory.mktemp("shell") / "profiles")
    operator.login()
    return operator


def test_every_command_that_shows_something_has_all_four_forms() -> None:
    for name, given in COMMANDS.items():
        if name.split()[-1] in {"list", "show"} or "output" in given:
            assert "output" in given, name
            assert "-o" in given["output"].opts or name.endswith("registration-key"), name
    assert {"table", "json", "yaml", "tsv"} == FORMS
    assert len(LISTS) >= 20


@pytest.mark.parametrize("command", [each for each in LISTS if each not in NO_LISTS])
def test_a_listing_says_the_same_in_each_form(shell: Shell, command: str) -> None:
    words = command.split()
    told = {form: shell.out(*words, "-o", form) for form in sorted(FORMS)}
    rows = json.loads(told["json"])
    assert isinstance(rows, list)
    assert yaml.safe_load(told["yaml"]) == rows
    lines = list(csv.reader(io.StringIO(told["tsv"]), dialect="excel-tab"))
    assert len(lines) == len(rows)
    assert len({len(line) for line in lines}) <= 1
    assert bool(rows) or told["table"] == "(none)\n"
    assert len(told["table"].splitlines()) > len(rows) or not rows
