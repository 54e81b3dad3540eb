"""docs/cli.md and other pages name commands and options that there are, and every command."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from site_recovery_cli.cli import application

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/cli.md"
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
TREE: Any = typer.main.get_command(application)
NAMES_MIN = 60

BLOCK = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`site-recovery ([^`]+)`")
CELL = re.compile(r"`([^`]+)`")
ELSEWHERE = {"--install-completion", "--show-completion", "--help", "--version"}


def sentences() -> Iterator[tuple[str, str]]:
    """Give every command line of the pages, with the page."""
    for page in PAGES:
        text = page.read_text()
        for block in BLOCK.findall(text):
            for line in block.replace("\\\n", " ").splitlines():
                found = re.match(r"\s*(?:\$ )?site-recovery (.*)", line)
                if found:
                    yield page.name, found[1]
        for found in INLINE.findall(BLOCK.sub("", text)):
            yield page.name, found
    for line in table():
        for found in CELL.findall(line):
            yield PAGE.name, found


def table() -> list[str]:
    """Return the first cells of the table of commands."""
    part = PAGE.read_text().partition("## Commands")[2].partition("\n## ")[0]
    lines = [line.split(" | ")[0] for line in part.splitlines() if line.startswith("| `")]
    assert len(lines) > 20
    return lines


def wording(line: str) -> list[str]:
    """Return the words of a command line as far as one can be read: comments and dots end it."""
    line = re.sub(r"'[^']*'", "TEXT", line)
    line = re.split(r"\s#|…|\.\.\.| \||; | > ", line)[0]
    lexer = shlex.shlex(line.replace("[", " ").replace("]", " "), posix=True, punctuation_chars="")
    lexer.whitespace_split = True
    lexer.commenters = ""
    return list(lexer)


def alternatives(words: list[str]) -> list[list[str]]:
    """Return one line for each choice in braces."""
    for index, word in enumerate(words):
        found = re.fullmatch(r"\{(.+)\}", word)
        if found:
            rest = words[index + 1 :]
            return [
                each
                for choice in found[1].split(",")
                for each in alternatives([*words[:index], choice, *rest])
            ]
    return [words]


def unknown(words: list[str]) -> str | None:
    """Return what of a command line the program does not have."""
    command, path = TREE, "site-recovery"
    rest = list(words)
    while rest and getattr(command, "commands", None) and not rest[0].startswith("-"):
        name = rest.pop(0)
        if name not in command.commands:
            return f"{path} has no {name}"
        command, path = command.commands[name], f"{path} {name}"
    options = {
        each
        for parameter in command.params
        for each in (*parameter.opts, *parameter.secondary_opts)
    }
    for word in rest:
        option = word.partition("=")[0].rstrip(",")
        if option.startswith("-") and option not in options | ELSEWHERE:
            return f"{path} has no {option}"
    return None


def commands(command: Any, path: str) -> Iterator[str]:
    below = getattr(command, "commands", {})
    if not below:
        yield path
    for name, each in below.items():
        yield from commands(each, f"{path} {name}".strip())


@pytest.mark.parametrize(("page", "line"), sorted(set(sentences())))
def test_what_a_page_tells_to_type_there_is(page: str, line: str) -> None:
    for words in alternatives(wording(line)):
        assert unknown(words) is None, f"{page}: site-recovery {line}: {unknown(words)}"


def test_the_table_has_every_command() -> None:
    named: set[str] = set()
    for line in table():
        for found in CELL.findall(line):
            named |= {" ".join(each) for each in alternatives(wording(found))}
    every = list(commands(TREE, ""))
    assert len(every) >= NAMES_MIN
    elsewhere = {"login", "logout", "profiles"}
    missing = [
        each
        for each in every
        if each not in elsewhere and not any(f"{name} ".startswith(f"{each} ") for name in named)
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("failover shout web01", "has no shout"),
        ("failover planned web01 --loud", "has no --loud"),
        ("inject {run,jump} x", "has no jump"),
    ],
)
def test_what_is_not_there_would_be_told(line: str, told: str) -> None:
    found = [unknown(words) for words in alternatives(wording(line))]
    assert any(told in (each or "") for each in found)
