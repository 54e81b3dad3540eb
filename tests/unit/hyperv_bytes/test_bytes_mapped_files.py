"""A mapped file is its file, and costs no descriptor however long it lives."""

import os
from pathlib import Path

import pytest

from vmm_simulator.hyperv.disks import map_file

OPEN_FILES = Path("/proc/self/fd")


@pytest.mark.parametrize("length", [1, 4096, 5003])
def test_what_is_stored_in_memory_is_in_the_file_and_the_other_way(
    tmp_path: Path, length: int
) -> None:
    path = tmp_path / "marks"
    path.write_bytes(b"x")
    memory = map_file(path, length)
    assert memory[:] == b"x" + bytes(length - 1)
    memory[length - 1] = 7
    memory.flush()
    assert path.read_bytes() == memory[:]
    with path.open("r+b") as stream:
        stream.write(b"y")
    assert memory[0] == (ord("y") if length > 1 else stored(path))
    memory.close()
    assert len(path.read_bytes()) == length


def stored(path: Path) -> int:
    return path.read_bytes()[0]


def test_no_descriptor_is_kept_and_a_deleted_file_stays_mapped(tmp_path: Path) -> None:
    before = len(os.listdir(OPEN_FILES))  # noqa: PTH208 -- pathlib opens the folder itself
    maps = [map_file(tmp_path / f"{number}", 8192) for number in range(50)]
    assert len(os.listdir(OPEN_FILES)) == before  # noqa: PTH208 -- as above
    (tmp_path / "3").unlink()
    maps[3][8000:8003] = b"abc"
    maps[3].flush()
    assert maps[3][8000:8003] == b"abc"
    assert map_file(tmp_path / "4", 8192)[:] == bytes(8192)


def test_a_file_without_room_or_place_is_an_error_before_anything_is_mapped(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        map_file(tmp_path / "nowhere" / "marks", 8192)
