"""Template images: an ext4 file system with real files, made once and kept in a cache folder.

Two labs may ask for the same template at the same time: a lock lets one build it, and a template
appears under its name only when it is whole.
"""

import fcntl
import json
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blake3 import blake3

from service_shell.errors import ProgramError
from vmm_simulator.guest.filesystem import ToolMissingError, require_tool
from vmm_simulator.guest.manifest import MANIFEST_PATH, Manifest, RewriteFile, encode_manifest
from vmm_simulator.guest.records import EMPTY_SLOT, SEED_BYTES
from vmm_simulator.guest.schedule import BLOCK_BYTES, original_file

TEMPLATE_FORMAT: Final = 1
TOOL_SECONDS_MAX: Final = 120.0
LOCK_SECONDS_MAX: Final = 180.0
LOCK_PAUSE_SECONDS: Final = 0.05
FILE_BYTES_MAX: Final = 16 << 20
FILES_MAX: Final = 6_000
RECORD_PATH: Final = "/site-recovery/records.bin"
# The superblock carries the checksum seed, so that a copy gets its own UUID in an instant.
FEATURES: Final = "metadata_csum,metadata_csum_seed"
MEBIBYTE: Final = 1 << 20
_BUILDING: Final = ".building-"


class DiskError(ProgramError):
    """A disk of a simulated machine cannot be made; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class DiskPlan:
    """What a template holds: real files up to a size, a record file, files to be rewritten."""

    name: str
    sources: tuple[Path, ...]
    files_bytes_max: int
    record_slots: int
    rewrite_files: int
    rewrite_file_bytes: int
    free_bytes: int

    def rewrite_paths(self) -> Sequence[str]:
        """Return the paths of the files that the guest rewrites."""
        return [f"/site-recovery/rewritten-{index:02}.bin" for index in range(self.rewrite_files)]


@dataclass(frozen=True, slots=True)
class _SourceFile:
    path: Path
    inside: Path
    size_bytes: int
    modified_ns: int


def ensure_template(plan: DiskPlan, disk: int, disks: int, cache: Path) -> Path:
    """Return the template for disk `disk` of `disks`, building it where the cache has none."""
    files = _source_files(plan)
    template = cache / f"{plan.name}-{_content_key(plan, disk, disks, files)}.raw"
    if template.exists():
        return template
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiskError(f"{cache} cannot be made: {error.strerror}; choose another cache") from None
    with _cache_lock(cache):
        if not template.exists():
            _remove_unfinished(cache)
            _build(plan, disk, disks, files, template)
    return template


def run_tool(name: str, *arguments: str) -> None:
    """Run a program of e2fsprogs; DiskError names the Debian package, or what it complained of."""
    try:
        program = require_tool(name)
    except ToolMissingError as error:
        raise DiskError(str(error)) from None
    try:
        done = subprocess.run(  # noqa: S603 -- a tool found by name, our own words
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TOOL_SECONDS_MAX,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        raise DiskError(f"{name} did not end within {TOOL_SECONDS_MAX:.0f} s") from None
    if done.returncode != 0:
        said = (done.stderr + done.stdout).decode(errors="replace").split("\n")
        complaint = "; ".join(line.strip() for line in said if line.strip())[:400]
        raise DiskError(f"{name} failed with {done.returncode}: {complaint}")


def _source_files(plan: DiskPlan) -> Sequence[_SourceFile]:
    """Return real files of the sources in a fixed order, up to the plan's size on the disk."""
    files: list[_SourceFile] = []
    left = plan.files_bytes_max
    for index, source in enumerate(plan.sources):
        for path, facts in _regular_files(source):
            if left < BLOCK_BYTES or len(files) >= FILES_MAX:
                return files
            needed = _on_disk(facts.st_size)
            if needed > min(left, FILE_BYTES_MAX):
                continue
            inside = Path("files", str(index), path[len(str(source)) + 1 :])
            files.append(_SourceFile(Path(path), inside, facts.st_size, facts.st_mtime_ns))
            left -= needed
    return files


def _regular_files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield readable regular files below a folder in the order of their names."""
    for name, folders, names in os.walk(folder):
        folders[:] = sorted(each for each in folders if each != "__pycache__")
        for each in sorted(names):
            path = os.path.join(name, each)  # noqa: PTH118 -- thousands of them, at each start
            facts = os.lstat(path)
            if stat.S_ISREG(facts.st_mode) and os.access(path, os.R_OK):
                yield path, facts


def _content_key(plan: DiskPlan, disk: int, disks: int, files: Sequence[_SourceFile]) -> str:
    """Return a name that changes with all that goes into the template."""
    facts = [
        TEMPLATE_FORMAT,
        [plan.name, plan.record_slots, plan.rewrite_files, plan.rewrite_file_bytes],
        [plan.free_bytes, disk, disks],
        [[str(file.inside), file.size_bytes, file.modified_ns] for file in files],
    ]
    return blake3(json.dumps(facts).encode()).hexdigest()[:24]


def _build(
    plan: DiskPlan, disk: int, disks: int, files: Sequence[_SourceFile], template: Path
) -> None:
    with tempfile.TemporaryDirectory(prefix=_BUILDING, dir=template.parent) as name:
        folder = Path(name)
        content = folder / "content"
        for file in files:
            _copy_file(file.path, content / file.inside)
        _write_own_files(plan, disk, disks, content)
        image = folder / "image.raw"
        needed = sum(_on_disk(path.stat().st_size) for path in content.rglob("*"))
        # An eighth for inodes, the journal and the tree; mke2fs says so when it is too little.
        size = needed + needed // 8 + 5 * MEBIBYTE + plan.free_bytes
        with image.open("wb") as empty:
            os.truncate(empty.fileno(), -(-size // MEBIBYTE) * MEBIBYTE)
        run_tool(
            "mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK_BYTES), "-m", "0",
            "-O", FEATURES, "-E", "root_owner=0:0,lazy_itable_init=0", "-L", plan.name[:16],
            "-d", str(content), str(image),
        )  # fmt: skip
        image.replace(template)


def _write_own_files(plan: DiskPlan, disk: int, disks: int, content: Path) -> None:
    """Write manifest, record file and rewrite files; none has a zero block (see EMPTY_SLOT)."""
    rewrites = []
    for path in plan.rewrite_paths():
        data = original_file(path, plan.rewrite_file_bytes // BLOCK_BYTES)
        rewrites.append(RewriteFile(path, len(data), blake3(data).hexdigest()))
        _write_file(content, path, data)
    _write_file(content, RECORD_PATH, EMPTY_SLOT * plan.record_slots)
    manifest = Manifest(
        seed=bytes(SEED_BYTES),
        disk=disk,
        disks=disks,
        record_path=RECORD_PATH,
        record_slots=plan.record_slots,
        rewrites=tuple(rewrites),
        static_blake3=None,
    )
    _write_file(content, MANIFEST_PATH, encode_manifest(manifest))


def _write_file(content: Path, path: str, data: bytes) -> None:
    target = content / path.removeprefix("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError:
        # An installation may change while it is read; a template with one file less is as good.
        target.unlink(missing_ok=True)


def _on_disk(size_bytes: int) -> int:
    """Return what a file needs: whole blocks, and an inode of 256 bytes."""
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES + 256


def _remove_unfinished(cache: Path) -> None:
    """Remove what a build that was killed has left; the caller holds the lock."""
    for folder in cache.glob(f"{_BUILDING}*"):
        shutil.rmtree(folder)


@contextmanager
def _cache_lock(cache: Path) -> Iterator[None]:
    deadline = time.monotonic() + LOCK_SECONDS_MAX
    with (cache / ".lock").open("ab") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise DiskError(
                        f"another lab has been building in {cache} for {LOCK_SECONDS_MAX:.0f} s; "
                        "end it, or choose another cache folder"
                    ) from None
                time.sleep(LOCK_PAUSE_SECONDS)
        yield
