"""`audit verify`: an export that was changed, cut or is none at all is never called whole."""

import json
from pathlib import Path

import pytest

from site_recovery_cli.audit_commands import LINE_BYTES_MAX, verify
from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError
from wire_contract.audit_chain import hash_of

LINES = 5


def rows() -> list[dict[str, str]]:
    """Return an export of five lines."""
    made: list[dict[str, str]] = []
    for number in range(1, LINES + 1):
        previous = made[-1]["hash"] if made else ""
        line = json.dumps({"what": f"deed {number}"})
        made.append({"number": f"{number}.0", "hash": hash_of(previous, line), "line": line})
    return made


def exported(folder: Path, content: list[dict[str, str]]) -> Path:
    """Write an export."""
    file = folder / "log.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in content), encoding="utf-8")
    return file


def test_a_whole_export_is_said_to_be_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verify(file=exported(tmp_path, rows()))
    assert "every line follows" in capsys.readouterr().err
    # It may begin in the middle: what came before was exported at another time.
    verify(file=exported(tmp_path, rows()[2:]))


def test_a_changed_line_is_named(tmp_path: Path) -> None:
    changed = rows()
    changed[2]["line"] = changed[2]["line"].replace("deed", "good deed")
    with pytest.raises(CommandError, match=r"line 3\.0 does not follow") as refused:
        verify(file=exported(tmp_path, changed))
    assert refused.value.exit_code == ExitCode.JOB_FAILED


def test_a_line_that_is_left_out_or_put_in_is_found(tmp_path: Path) -> None:
    short = [row for row in rows() if row["number"] != "3.0"]
    with pytest.raises(CommandError, match=r"line 4\.0 does not follow"):
        verify(file=exported(tmp_path, short))
    long = rows()
    long.insert(2, long[3])
    with pytest.raises(CommandError, match=r"line 4\.0 does not follow"):
        verify(file=exported(tmp_path, long))


@pytest.mark.parametrize(
    "row",
    [b"{", b"[]", b'{"number": "1.0"}', b"\xff", b"[" * 9_000, b" " * (LINE_BYTES_MAX + 1)],
    ids=["cut", "no object", "half a row", "no text", "deep", "long"],
)
def test_what_is_no_export_is_refused_by_row(tmp_path: Path, row: bytes) -> None:
    file = exported(tmp_path, rows())
    file.write_bytes(file.read_bytes() + row + b"\n")
    with pytest.raises(CommandError, match=f"row {LINES + 1} is no row") as refused:
        verify(file=file)
    assert refused.value.exit_code == ExitCode.USAGE


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot read") as refused:
        verify(file=tmp_path / "none.jsonl")
    assert refused.value.exit_code == ExitCode.USAGE
