"""Parameters and files that anybody may have written: refused or understood, never a fault."""

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.rollups import Metric
from service_hub.hub_api import looker_routes
from service_hub.job_archive import FileArchive
from service_hub.looker_ports import ArchivedJob

NOW = datetime(2026, 7, 1, tzinfo=UTC)
T = TypeVar("T")
PARTS = st.sampled_from("0123456789-+:.TZ eE_٣") | st.characters()
TEXTS = st.text(PARTS, max_size=40) | st.datetimes().map(str)


def understood(parse: Callable[[], T]) -> T | None:
    """Return what a parameter means, None when it was refused."""
    try:
        return parse()
    except InvalidRequestError:
        return None


@given(text=TEXTS)
def test_whole_numbers_are_bounded_or_refused(text: str) -> None:
    number = understood(lambda: looker_routes._whole({"since": text}, "since", 0, 1000))
    assert number is None or 0 <= number <= 1000


@given(text=TEXTS | st.just("0001-01-01T00:00:00+23:59") | st.just("9999-12-31T23:59:59-23:59"))
def test_moments_are_comparable_or_refused(text: str) -> None:
    at = understood(lambda: looker_routes._moment({"from": text}, "from"))
    assert at is None or (at < NOW) is not (at >= NOW)


@given(text=TEXTS)
def test_choices_are_of_the_list_or_refused(text: str) -> None:
    metric = understood(lambda: looker_routes._choice({"metric": text}, "metric", Metric, None))
    assert metric is None or metric in Metric


@given(cells=st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_no_cell_begins_a_formula_and_every_row_is_one_row(cells: list[str]) -> None:
    row = looker_routes._row(cells).decode()
    (read,) = csv.reader(io.StringIO(row, newline=""))
    assert len(read) == len(cells)
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in read)
    assert [cell.removeprefix("'") for cell in read] == [cell.removeprefix("'") for cell in cells]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(before=st.binary(max_size=300), name=st.text("ab-0", min_size=1, max_size=8))
async def test_whatever_stands_in_an_archive_is_kept_and_gone_on_after(
    tmp_path: Path, before: bytes, name: str
) -> None:
    path = tmp_path / "jobs-2026-07.jsonl"
    path.write_bytes(before)
    archive = FileArchive(tmp_path)
    for _ in range(2):
        await archive.append([ArchivedJob(name, NOW, {"job": {}})])
    whole = before[: before.rfind(b"\n") + 1]
    content = path.read_bytes()
    assert content.startswith(whole), "only a line that was cut off goes"
    (line,) = content[len(whole) :].splitlines()
    assert json.loads(line)["job_id"] == name


@pytest.mark.parametrize("name", ["a" * 100, "0f0f-1"])
async def test_what_was_archived_is_found_again(tmp_path: Path, name: str) -> None:
    await FileArchive(tmp_path).append([ArchivedJob(name, NOW, {})])
    await FileArchive(tmp_path).append([ArchivedJob(name, NOW, {})])
    (line,) = (tmp_path / "jobs-2026-07.jsonl").read_text().splitlines()
    assert json.loads(line)["job_id"] == name
