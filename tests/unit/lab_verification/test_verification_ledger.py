from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.ledger import LedgerFile
from lab.ledger_reading import LedgerDamagedError, parse_ledger, read_ledger
from service_shell.errors import ProgramError
from vmm_simulator.guest.frames import LedgerEntry, encode_entry


def line(machine_id: str, number: int) -> bytes:
    return encode_entry(LedgerEntry(machine_id, 1, number, "ab" * 32, number))


def test_entries_are_told_by_machine_and_once() -> None:
    ledger = parse_ledger(line("a", 1) + line("b", 1) + line("a", 2) + line("a", 2))
    assert [entry.number for entry in ledger["a"]] == [1, 2]
    assert set(ledger) == {"a", "b"}


def test_two_different_entries_of_one_number_are_both_told() -> None:
    other = encode_entry(LedgerEntry("a", 1, 1, "cd" * 32, 1))
    assert len(parse_ledger(line("a", 1) + other)["a"]) == 2


def test_an_unfinished_line_was_never_acknowledged() -> None:
    whole = line("a", 1) + line("a", 2)
    for cut in range(len(line("a", 1)), len(whole)):
        assert len(parse_ledger(whole[:cut])["a"]) == 1


@given(st.binary(max_size=200))
def test_a_foreign_line_is_named(content: bytes) -> None:
    with pytest.raises(LedgerDamagedError, match="line 2"):
        parse_ledger(line("a", 1) + content.replace(b"\n", b"") + b"\n")


def test_no_ledger_has_no_entries(tmp_path: Path) -> None:
    assert read_ledger(tmp_path / "none") == {}


@pytest.mark.parametrize("tail", [b"", b'{"machine', b"x" * 9000])
def test_a_reopened_ledger_goes_on_after_the_last_whole_line(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "ledger"
    path.write_bytes(line("a", 1) + tail)
    file = LedgerFile(path)
    file.append(line("a", 2))
    file.close()
    assert path.read_bytes() == line("a", 1) + line("a", 2)


def test_a_ledger_has_one_writer_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    file = LedgerFile(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ProgramError, match="another ledger process"):
        LedgerFile(path)
    file.close()
    LedgerFile(path).close()
    with pytest.raises(ProgramError, match="cannot be opened"):
        LedgerFile(tmp_path / "none" / "ledger")
