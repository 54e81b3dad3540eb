"""The name of a source: it stays with its file, and no copy of the file has it."""

import shutil
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vmm_simulator.hyperv.source_origin import ORIGIN_FILE, origin_in


def test_a_source_keeps_its_name_wherever_its_folder_goes(tmp_path: Path) -> None:
    here, there = tmp_path / "host-1" / "vm-1", tmp_path / "vm-1"
    assert origin_in(here, "first") == "first"
    assert origin_in(here, "second") == "first"
    assert (here / ORIGIN_FILE).stat().st_mode & 0o777 == 0o600
    here.rename(there)
    assert origin_in(there, "third") == "first"


def test_a_copy_takes_a_name_of_its_own_and_keeps_it(tmp_path: Path) -> None:
    source, clone = tmp_path / "source", tmp_path / "clone"
    origin_in(source, "first")
    shutil.copytree(source, clone)
    assert origin_in(clone, "second") == "second"
    assert origin_in(clone, "third") == "second"
    assert origin_in(source, "fourth") == "first"


def test_what_a_kill_left_unfinished_is_no_name(tmp_path: Path) -> None:
    (tmp_path / f"{ORIGIN_FILE}.tmp").write_bytes(b"half")
    assert origin_in(tmp_path, "first") == "first"
    assert [each.name for each in tmp_path.iterdir()] == [ORIGIN_FILE]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=400))
def test_a_damaged_file_is_no_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / ORIGIN_FILE).write_bytes(content)
    assert origin_in(tmp_path, "fresh") == "fresh"
