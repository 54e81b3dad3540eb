import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmm_simulator.guest import filesystem
from vmm_simulator.guest.filesystem import (
    FileExtents,
    FileSystemError,
    Superblock,
    ToolMissingError,
    find_files,
    find_tool,
    parse_extents,
    parse_superblock,
    read_file,
    read_superblock,
    require_tool,
    run_bounded,
)

SUPERBLOCK = Superblock("uuid", 4096, 10_000, b"")
HEADING = "Level Entries       Logical      Physical Length Flags"


def parsed(*lines: str) -> FileExtents | None:
    return parse_extents("/file", (HEADING, *lines), SUPERBLOCK)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return a real ext4 image with two files in it."""
    content = tmp_path / "content"
    content.mkdir()
    (content / "long.bin").write_bytes(bytes(n % 251 + 1 for n in range(70_000)))
    (content / "short.bin").write_bytes(b"x" * 4096)
    made = tmp_path / "image.raw"
    subprocess.run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-d", content, made, "8M"],
        check=True, timeout=30,
    )  # fmt: skip
    return made


def test_extents_of_one_and_of_two_levels_are_read() -> None:
    flat = parsed(" 0/ 0   1/  1     0 -   244  1291 -  1535    245 ")
    assert flat is not None
    assert flat.length == 245 * 4096
    assert flat.image_offset(4096, 512) == 1292 * 4096
    deep = parsed(
        " 0/ 1   1/  1     0 -    20    99                 21",
        " 1/ 1   1/  2     0 -    10   100 -   110     11 ",
        " 1/ 1   2/  2    11 -    20   200 -   209     10 ",
    )
    assert deep is not None
    assert [extent.image_offset // 4096 for extent in deep.extents] == [100, 200]
    with pytest.raises(FileSystemError, match="not in one extent"):
        deep.image_offset(11 * 4096 - 256, 512)


def test_a_file_that_is_not_there_is_none() -> None:
    assert parsed("/file: File not found by ext2_lookup ") is None


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ([], "no extents"),
        ([" 0/ 0   1/  1     5 -   9  100 -  104    5 "], "hole at block 0"),
        ([" 0/ 0 1/ 2 0 - 4 100 - 104 5 ", " 0/ 0 2/ 2 6 - 9 200 - 203 4 "], "hole at block 5"),
        ([" 0/ 0   1/  1     0 -   4  100 -  104    5 Uninit"], "in place"),
        ([" 0/ 0   1/  1     0 -   4  100 -  109    5 "], "in place"),
        ([" 0/ 0   1/  1     0 -   4  0 -  4    5 "], "in place"),
        ([" 0/ 0   1/  1     0 -   4  9999 -  10003    5 "], "in place"),
        ([" 0/ 0   1/  1     4 -   0  104 -  100    5 "], "in place"),
    ],
)
def test_extents_that_cannot_be_written_are_refused(lines: list[str], named: str) -> None:
    with pytest.raises(FileSystemError, match=named):
        parsed(*lines)


@given(st.lists(st.text(alphabet="0123456789/- Uninit\n", max_size=60), max_size=10))
def test_foreign_text_is_extents_or_refused(lines: list[str]) -> None:
    try:
        found = parsed(*lines)
    except FileSystemError:
        return
    assert found is None or found.length > 0


@given(st.binary(max_size=1100))
def test_foreign_bytes_are_no_superblock(raw: bytes) -> None:
    assert parse_superblock(raw) is None


def test_a_block_size_that_cannot_be_is_no_superblock() -> None:
    raw = bytearray(1024)
    struct.pack_into("<H", raw, 56, 0xEF53)
    assert parse_superblock(bytes(raw)) is not None
    struct.pack_into("<I", raw, 24, 2**31)
    assert parse_superblock(bytes(raw)) is None


@pytest.mark.needs("mke2fs", "debugfs")
def test_files_are_found_where_they_are(image: Path) -> None:
    with image.open("rb") as opened:
        superblock = read_superblock(opened.fileno())
        assert superblock is not None
        assert superblock.block_bytes == 4096
        found = find_files(image, superblock, ["/long.bin", "/none", "/short.bin"])
        long = found["/long.bin"]
        assert long is not None
        assert found["/none"] is None
        assert long.read(opened.fileno(), 70_000) == bytes(n % 251 + 1 for n in range(70_000))
    assert read_file(image, "/short.bin", 4096) == b"x" * 4096


@pytest.mark.needs("mke2fs", "debugfs")
def test_a_file_of_another_size_or_none_is_refused(image: Path) -> None:
    for path, size in (("/short.bin", 4097), ("/short.bin", 4095), ("/none", 10)):
        with pytest.raises(FileSystemError):
            read_file(image, path, size)


@pytest.mark.needs("mke2fs", "debugfs")
def test_a_file_system_with_a_lost_inode_table_is_refused(image: Path) -> None:
    with image.open("r+b") as opened:
        superblock = read_superblock(opened.fileno())
        assert superblock is not None
        os.pwrite(opened.fileno(), b"\xff" * (1 << 20), 4096)
    with pytest.raises(FileSystemError):
        find_files(image, superblock, ["/long.bin"])


def test_a_missing_tool_names_the_debian_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(filesystem, "TOOL_FOLDERS", ())
    assert find_tool("debugfs") is None
    with pytest.raises(ToolMissingError, match="e2fsprogs"):
        require_tool("debugfs")


def test_a_tool_that_prints_without_end_is_ended() -> None:
    with pytest.raises(FileSystemError, match="printed more than 1000 bytes"):
        run_bounded([sys.executable, "-c", "while True: print('x' * 100)"], b"", 1000)


def test_a_tool_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "TOOL_SECONDS_MAX", 0.2)
    with pytest.raises(FileSystemError, match="did not end"):
        run_bounded([sys.executable, "-c", "input()\nwhile True: pass"], b"\n", 1000)
