"""What commands print: a table for people, JSON, YAML or TSV for scripts."""

import csv
import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = Mapping[str, Any]

NOTHING: Final = "(none)"
TABLE_WIDTH_WITHOUT_TERMINAL: Final = 160

_MOMENT: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(?:\+00:00|Z)")


class Format(StrEnum):
    """How results are printed; `tsv` has no header, as in az."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    TSV = "tsv"


def show_list(rows: Sequence[Row], columns: Mapping[str, str], form: Format) -> None:
    """Print rows; `columns` are the fields that table and TSV show, with their headings."""
    match form:
        case Format.JSON | Format.YAML:
            _write_document([dict(row) for row in rows], form)
        case Format.TSV:
            _write_tsv([[_text(row.get(field)) for field in columns] for row in rows])
        case Format.TABLE if not rows:
            _write(f"{NOTHING}\n")
        case Format.TABLE:
            table = Table(box=None, header_style="bold", pad_edge=False)
            for number, heading in enumerate(columns.values()):
                # What comes first names the row to other commands: whole, so that it can be copied.
                table.add_column(heading, overflow="fold", no_wrap=number == 0)
            for row in rows:
                table.add_row(*(_cell(row.get(field)) for field in columns))
            _print(table)


def show_one(row: Row, form: Format) -> None:
    """Print one thing with all its fields."""
    match form:
        case Format.JSON | Format.YAML:
            _write_document(dict(row), form)
        case Format.TSV:
            _write_tsv([[_text(value) for value in row.values()]])
        case Format.TABLE:
            table = Table(box=None, show_header=False, pad_edge=False)
            table.add_column(style="bold")
            table.add_column(overflow="fold")
            for field, value in row.items():
                table.add_row(field, _cell(value))
            _print(table)


def show_lines(lines: Sequence[str]) -> None:
    """Print lines for people below a table; what could steer the terminal is not printed."""
    for line in lines:
        _write(f"{_printable(line)}\n")


def say(text: str) -> None:
    """Print a sentence for people; to standard error, so that results stay clean."""
    sys.stderr.writelines(f"{_printable(line)}\n" for line in text.split("\n"))
    sys.stderr.flush()


def _write_document(value: object, form: Format) -> None:
    if form is Format.JSON:
        _write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    else:
        _write(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def _write_tsv(rows: Sequence[Sequence[str]]) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, dialect="excel-tab", lineterminator="\n")
    writer.writerows(rows)
    _write(stream.getvalue())


def _print(table: Table) -> None:
    width = None if sys.stdout.isatty() else TABLE_WIDTH_WITHOUT_TERMINAL
    Console(file=sys.stdout, width=width, soft_wrap=False).print(table)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _cell(value: object) -> Text:
    # Text is not read as rich's markup; what cannot be printed could steer the terminal.
    text = _printable(_text(value))
    moment = _MOMENT.fullmatch(text)
    # People read seconds; documents and TSV keep what the hub said.
    return Text(f"{moment[1]}Z" if moment else text)


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | int | float):
        return str(value)
    return json.dumps(value, ensure_ascii=False)
