"""What an ext4 image holds, found by reading it: the superblock, and where its files lie.

The superblock is read directly; the extents of files come from `debugfs -c` (e2fsprogs), which
opens an image read-only and needs no privilege. All output of the tool has a limit and a bound in
time: an image is foreign bytes.
"""

import os
import re
import selectors
import struct
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SUPERBLOCK_OFFSET: Final = 1024
SUPERBLOCK_BYTES: Final = 1024
EXT_MAGIC: Final = 0xEF53
BLOCK_SHIFT_MAX: Final = 6
EXTENTS_MAX: Final = 1 << 14
TOOL_SECONDS_MAX: Final = 30.0
TEXT_BYTES_MAX: Final = 4 << 20
# Where e2fsprogs lives on Debian; an ordinary user's PATH often lacks these.
TOOL_FOLDERS: Final = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")

_NOT_FOUND: Final = "File not found by ext2_lookup"
_ANNOUNCEMENT: Final = "debugfs: "
_EXTENT: Final = re.compile(
    r"\s*(\d{1,2})/\s*(\d{1,2})\s+\d{1,9}/\s*\d{1,9}\s+(\d{1,12})\s*-\s*(\d{1,12})"
    r"\s+(\d{1,15})\s*-\s*(\d{1,15})\s+(\d{1,12})\s*([A-Za-z]*)\s*",
    re.ASCII,
)


class FileSystemError(Exception):
    """The image holds no file system that can be used as asked; the message says why."""


class ToolMissingError(FileSystemError):
    """A program of e2fsprogs is not installed."""

    def __init__(self, tool: str) -> None:
        super().__init__(
            f"{tool} is not installed: install the Debian package e2fsprogs "
            "(apt-get install e2fsprogs)"
        )
        self.tool = tool


@dataclass(frozen=True, slots=True)
class Superblock:
    """The heart of an ext2/3/4 file system; `raw` are its 1024 bytes."""

    uuid: str
    block_bytes: int
    block_count: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of blocks, in bytes: where in the file, where in the image, how long."""

    file_offset: int
    image_offset: int
    length: int


@dataclass(frozen=True, slots=True)
class FileExtents:
    """Where a file lies in its image: from its first byte on without a gap."""

    path: str
    extents: tuple[Extent, ...]

    @property
    def length(self) -> int:
        """The bytes covered, a whole number of blocks."""
        return sum(extent.length for extent in self.extents)

    def image_offset(self, file_offset: int, length: int) -> int:
        """Return where `length` bytes at `file_offset` lie; they must lie in one extent."""
        for extent in self.extents:
            inside = file_offset - extent.file_offset
            if 0 <= inside < extent.length:
                if inside + length > extent.length:
                    break
                return extent.image_offset + inside
        raise FileSystemError(f"{self.path}: bytes {file_offset}+{length} are not in one extent")

    def read(self, image: int, length: int) -> bytes:
        """Return the first `length` bytes of the file from the open image."""
        parts = []
        for extent in self.extents:
            wanted = min(extent.length, length - extent.file_offset)
            if wanted <= 0:
                break
            part = os.pread(image, wanted, extent.image_offset)
            if len(part) != wanted:
                raise FileSystemError(f"{self.path}: the image ends inside the file")
            parts.append(part)
        return b"".join(parts)


def find_tool(name: str) -> str | None:
    """Return the absolute path of a program of e2fsprogs, also where PATH lacks the folder."""
    for folder in (*os.environ.get("PATH", "").split(os.pathsep), *TOOL_FOLDERS):
        candidate = Path(folder, name)
        if folder and candidate.is_file() and os.access(candidate, os.X_OK):
            return str(candidate)
    return None


def require_tool(name: str) -> str:
    """Return the absolute path of a program of e2fsprogs; ToolMissingError names the package."""
    found = find_tool(name)
    if found is None:
        raise ToolMissingError(name)
    return found


def parse_superblock(raw: bytes) -> Superblock | None:
    """Return what the 1024 bytes say, or None when they are no ext superblock."""
    if len(raw) != SUPERBLOCK_BYTES:
        return None
    (blocks_low,) = struct.unpack_from("<I", raw, 4)
    (shift,) = struct.unpack_from("<I", raw, 24)
    (magic,) = struct.unpack_from("<H", raw, 56)
    (incompatible,) = struct.unpack_from("<I", raw, 96)
    (blocks_high,) = struct.unpack_from("<I", raw, 336)
    if magic != EXT_MAGIC or shift > BLOCK_SHIFT_MAX:
        return None
    is_64bit = incompatible & 0x80
    digits = raw[104:120].hex()
    uuid = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    count = blocks_low | (blocks_high << 32 if is_64bit else 0)
    return Superblock(uuid, 1024 << shift, count, raw)


def read_superblock(image: int) -> Superblock | None:
    """Return the superblock of an open image, or None where there is no ext file system."""
    return parse_superblock(os.pread(image, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET))


def parse_extents(path: str, lines: Sequence[str], superblock: Superblock) -> FileExtents | None:
    """Return where a file lies, from debugfs' `dump_extents`; None when there is no such file."""
    if any(_NOT_FOUND in line for line in lines):
        return None
    block = superblock.block_bytes
    extents: list[Extent] = []
    following = 0
    for line in lines:
        match = _EXTENT.fullmatch(line)
        if match is None or int(match[1]) != int(match[2]):
            continue  # The heading, or a node of the tree above its leaves.
        first, last, physical, physical_last, count = (int(match[index]) for index in range(3, 8))
        whole = last - first + 1 == physical_last - physical + 1 == count > 0
        inside = physical > 0 and physical_last < superblock.block_count
        if not whole or not inside or match[8]:
            raise FileSystemError(f"{path}: extent {line.strip()!r} cannot be written in place")
        if first != following:
            raise FileSystemError(f"{path}: there is a hole at block {following}")
        following = last + 1
        extents.append(Extent(first * block, physical * block, count * block))
        if len(extents) > EXTENTS_MAX:
            raise FileSystemError(f"{path}: more than {EXTENTS_MAX} extents")
    if not extents:
        said = " ".join(line.strip() for line in lines if line.strip())[:200]
        raise FileSystemError(f"{path}: debugfs shows no extents: {said or 'no output'}")
    return FileExtents(path, tuple(extents))


def find_files(
    image: Path, superblock: Superblock, paths: Sequence[str]
) -> Mapping[str, FileExtents | None]:
    """Return where each file lies, None for a file that is not there; one run of debugfs.

    The paths must be plain words (a manifest's parser sees to it): they go into a command.
    """
    commands = "".join(f"dump_extents {path}\n" for path in paths).encode()
    arguments = [require_tool("debugfs"), "-c", "-f", "-", str(image)]
    text = run_bounded(arguments, commands, TEXT_BYTES_MAX).decode(errors="replace")
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if line.startswith(_ANNOUNCEMENT):
            command, _, path = line.removeprefix(_ANNOUNCEMENT).partition(" ")
            if command == "dump_extents":
                current = sections.setdefault(path, [])
                continue
        current.append(line)
    found: dict[str, FileExtents | None] = {}
    for path in paths:
        if path not in sections:
            raise FileSystemError(f"{image}: debugfs said nothing of {path}: {text[:200]!r}")
        found[path] = parse_extents(path, sections[path], superblock)
    return found


def read_file(image: Path, path: str, size_bytes: int) -> bytes:
    """Return a file's content by `debugfs -R 'cat …'`; it must have exactly `size_bytes`."""
    arguments = [require_tool("debugfs"), "-c", "-R", f"cat {path}", str(image)]
    content = run_bounded(arguments, b"", size_bytes, merge_errors=False)
    if len(content) != size_bytes:
        raise FileSystemError(
            f"{image}: {path} has {len(content)} readable bytes, {size_bytes} were prepared"
        )
    return content


def run_bounded(
    arguments: Sequence[str], given: bytes, limit_bytes: int, *, merge_errors: bool = True
) -> bytes:
    """Return what a tool prints, at most `limit_bytes` and within the bound in time."""
    environment = {**os.environ, "LC_ALL": "C", "DEBUGFS_PAGER": "cat"}
    deadline = time.monotonic() + TOOL_SECONDS_MAX
    with subprocess.Popen(  # noqa: S603 -- a tool found by name, words checked by the caller
        arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merge_errors else subprocess.DEVNULL,
        env=environment,
    ) as process:
        try:
            return _collect(process, given, limit_bytes, deadline)
        except BaseException:
            process.kill()
            raise


def _collect(
    process: subprocess.Popen[bytes], given: bytes, limit_bytes: int, deadline: float
) -> bytes:
    tool = Path(str(process.args[0] if isinstance(process.args, list) else process.args)).name
    assert process.stdin is not None and process.stdout is not None  # noqa: PT018 -- pipes
    try:
        process.stdin.write(given)
        process.stdin.close()
    except BrokenPipeError:
        # It ended without reading its commands; what it printed says why.
        pass
    collected = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not selector.select(remaining):
                raise FileSystemError(f"{tool} did not end within {TOOL_SECONDS_MAX:.0f} s")
            part = os.read(process.stdout.fileno(), 1 << 16)
            if not part:
                return bytes(collected)
            collected += part
            if len(collected) > limit_bytes:
                raise FileSystemError(f"{tool} printed more than {limit_bytes} bytes")
