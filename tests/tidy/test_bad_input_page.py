"""docs/bad-input.md says what the programs say, and names tests that there are."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/bad-input.md"
PROGRAMS = ("service_hub", "provider_agent", "certs")
ROW = re.compile(r"^\| (?P<case>[^|]+) \| (?:`(?P<words>[^`]+)` )?\| `(?P<test>[^`]+)` \|$")
ROWS_MIN = 40


def rows() -> list[re.Match[str]]:
    lines = [line for line in PAGE.read_text().splitlines() if "::" in line]
    found = [ROW.match(line) for line in lines]
    assert all(found), [line for line, row in zip(lines, found, strict=True) if row is None]
    return [row for row in found if row is not None]


@cache
def spoken() -> list[str]:
    """Give every piece of text that stands in the programs, f-strings in their constant parts."""
    return [
        node.value
        for package in PROGRAMS
        for file in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def test_the_page_has_its_rows() -> None:
    assert len(rows()) >= ROWS_MIN


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["case"])
def test_what_the_page_names_exists(row: re.Match[str]) -> None:
    file, _, name = row["test"].partition("::")
    assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE)
    words = row["words"]
    assert words is None or any(words in text for text in spoken()), words
