"""Which blocks a machine has changed: bitmaps in shared memory maps, one file per disk.

A mark is a store into a shared mapping, made before the write that it stands for: the kernel keeps
it when the process is killed. A cut swaps in fresh files and keeps those of the cut until the
replica has acknowledged it; what is found at a start beyond the newest files is merged back. When
the machine as a whole went down, marks may be lost that lay in memory only: then everything is
marked (the boot id tells, and a clean close waives it).
"""

import json
import mmap
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self

from vmm_simulator.hyperv.backend import BackendStateError
from vmm_simulator.hyperv.blocks import (
    bitmap_bytes,
    block_count,
    blocks_touched,
    fitted,
    marked_blocks,
    marked_bytes,
    runs,
    set_bits,
    union,
)
from vmm_simulator.hyperv.disks import map_file, sync_folder, sync_mapped, write_durably
from vmm_simulator.hyperv.parts import parts_touched

TRACKING_FILE: Final = "tracking.json"
_BOOT_ID_FILE: Final = Path("/proc/sys/kernel/random/boot_id")
_MAP_NAME: Final = re.compile(r"marks-(\d{10})-(\d{3})\.map")
PARTS_SUFFIX: Final = ".parts"
WHOLE_SHARE: Final = 16
"""When more than this share of all blocks counts whole, no parts are kept."""

RUN_BLOCKS_MAX: Final = 65_536
_STATE_BYTES_MAX: Final = 65_536


def boot_id() -> str:
    """Return what names this run of the operating system; empty where there is no such thing."""
    try:
        return _BOOT_ID_FILE.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""


class ChangeMap:
    """The marks of one disk, by blocks; in a second file, where it is kept, by parts of them.

    The parts are noted before their block. Without them, or where they are many, blocks count
    whole: a large map is not filled to say so.
    """

    def __init__(self, path: Path, size_bytes: int, *, parts: bool = False) -> None:
        self.path = path
        self._size_bytes = size_bytes
        self._parts_path = path.with_suffix(PARTS_SUFFIX)
        self.parts: mmap.mmap | None = None
        if parts:
            self.parts = map_file(self._parts_path, max(1, block_count(size_bytes)))
        self._bits = map_file(path, max(1, bitmap_bytes(size_bytes)))

    @classmethod
    def found(cls, path: Path, size_bytes: int) -> Self:
        """Return the map that a file holds, with its parts where they are there."""
        return cls(path, size_bytes, parts=path.with_suffix(PARTS_SUFFIX).exists())

    def mark(self, offset: int, length: int) -> None:
        """Note that these bytes are about to change."""
        parts, block, begin = self.parts, offset >> 16, offset & 0xFFFF
        end = begin + length - 1
        if end <= 0xFFFF and parts is not None:  # noqa: PLR2004 -- see below
            # Most writes of a guest lie in one block. They find the processor's caches full of the
            # kernel's things: numbers instead of names and no further call (65,536 and 8,192 are
            # BLOCK_BYTES and PART_BYTES) make a mark a third cheaper.
            parts[block] |= (2 << (end >> 13)) - (1 << (begin >> 13))
            self._bits[block >> 3] |= 1 << (block & 7)
            return
        self._mark_across(offset, length)

    def _mark_across(self, offset: int, length: int) -> None:
        bits, parts = self._bits, self.parts
        if parts is None:
            for block in blocks_touched(offset, length):
                bits[block >> 3] |= 1 << (block & 7)
            return
        for block, touched in parts_touched(offset, length):
            parts[block] |= touched
            bits[block >> 3] |= 1 << (block & 7)

    def has(self, block: int) -> bool:
        """Return whether the block is marked."""
        return bool(self._bits[block >> 3] & (1 << (block & 7)))

    def merge(self, bitmap: bytes, parts: mmap.mmap | None = None) -> None:
        """Mark what is marked in the bitmap too: whole blocks, or their parts."""
        own = self.parts
        if own is not None and parts is None:
            if marked_blocks(bitmap) * WHOLE_SHARE > block_count(self._size_bytes):
                self._drop_parts()
            else:
                for first, count in runs(bitmap, RUN_BLOCKS_MAX):
                    own[first : first + count] = b"\xff" * count
        elif own is not None and parts is not None:
            for first, count in runs(bitmap, RUN_BLOCKS_MAX):
                end = first + count
                # A block of which nothing is said counts whole, and goes on to.
                theirs = parts[first:end].replace(b"\0", b"\xff")
                own[first:end] = union(own[first:end], theirs)
        self._bits[:] = union(self.snapshot(), bitmap)

    def _drop_parts(self) -> None:
        self._parts_path.unlink(missing_ok=True)
        self.parts = None

    def snapshot(self) -> bytes:
        """Return the marks as they are now."""
        return self._bits[:]

    def flush(self) -> None:
        """Return when the marks would survive the machine (but not which parts of blocks)."""
        sync_mapped(self.path)

    def flush_parts(self) -> None:
        """Return when the parts would survive it too: they count after a clean end only."""
        if self.parts is not None:
            sync_mapped(self._parts_path)

    def discard(self) -> None:
        """Delete the files; they are unmapped when nobody holds this map any more.

        Never unmapped by hand: a flush in another thread may be looking at it at this moment.
        """
        self._parts_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


class TrackedChanges:
    """The marks of all disks of one machine: those since the last cut, and those of that cut."""

    def __init__(self, folder: Path, sizes: Sequence[int]) -> None:
        self._folder = folder
        self._sizes = tuple(sizes)
        self._generation = 0
        self._current: list[ChangeMap] = []
        self._cut: list[ChangeMap] = []
        # The largest a disk was since the newest acknowledged cut, where it was made smaller.
        self._largest: dict[int, int] = {}
        self._copy_id: str | None = None
        self._running_since: str | None = None

    @classmethod
    def start(cls, folder: Path, sizes: Sequence[int]) -> Self:
        """Begin with nothing marked."""
        folder.mkdir(parents=True, exist_ok=True)
        changes = cls(folder, sizes)
        changes._current = changes._fresh_maps()
        changes._note_running()
        return changes

    @classmethod
    def reopen(cls, folder: Path) -> Self | None:
        """Go on after a stop or a kill; None when nothing was tracked here."""
        path = folder / TRACKING_FILE
        if not path.exists():
            for orphan in _map_paths(folder):
                orphan.with_suffix(PARTS_SUFFIX).unlink(missing_ok=True)
                orphan.unlink()
            return None
        state = _read_state(path)
        changes = cls(folder, state.sizes)
        changes._copy_id = state.copy_id
        changes._largest = state.largest
        changes._merge_files()
        if state.running_since is not None and state.running_since != boot_id():
            changes.mark_everything()
        changes._note_running()
        return changes

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of the disks whose changes are noted."""
        return self._sizes

    @property
    def copy_id(self) -> str | None:
        """The first transfer of a whole copy that has not come to its end.

        What changed since its cut is marked, in any case: nothing was acknowledged since.
        """
        return self._copy_id

    def begin_copy(self, copy_id: str) -> None:
        """Note durably that a whole copy begins with this transfer."""
        self._copy_id = copy_id
        self._write_state()

    def mark(self, disk_index: int, offset: int, length: int) -> None:
        """Note that these bytes are about to change."""
        self._current[disk_index].mark(offset, length)

    def resize(self, sizes: Sequence[int], added: Sequence[bytes]) -> None:
        """Go on with disks of other sizes, or with more of them (`added`: what is marked on those).

        No cut may be outstanding.
        New space reads as zeros on both ends and needs no mark, unless something else was there
        since the newest acknowledged cut.
        """
        before, self._sizes = self._sizes, tuple(sizes)
        marks = [*(each.snapshot() for each in self._current), *added]
        again: list[tuple[int, int, int]] = []
        for index, (was, size) in enumerate(zip(before, self._sizes, strict=False)):
            if size < was:
                self._largest[index] = max(was, self._largest.get(index, 0))
            elif size > was and self._largest.get(index, 0) > was:
                again.append((index, was, min(size, self._largest[index])))
        old, self._current = self._current, self._fresh_maps()
        for change_map, size, bitmap in zip(self._current, self._sizes, marks, strict=True):
            change_map.merge(fitted(bitmap, size))
        for index, start, end in again:
            self.mark(index, start, end - start)
        # With the new sizes durable, whatever maps are found belong to disks of these sizes.
        self.flush()
        self._write_state()
        for change_map in old:
            change_map.discard()

    def mark_everything(self) -> None:
        """Count every block as changed."""
        for change_map, size in zip(self._current, self._sizes, strict=True):
            bitmap = bytearray(bitmap_bytes(size))
            if size:
                set_bits(bitmap, 0, block_count(size) - 1)
                change_map.merge(bytes(bitmap))

    def merge(self, bitmaps: Sequence[bytes]) -> None:
        """Mark what is marked in the bitmaps too."""
        for change_map, bitmap in zip(self._current, bitmaps, strict=True):
            change_map.merge(bitmap)

    def swap(self) -> list[bytes]:
        """Take the marks of this moment, on all disks; new ones go to fresh files."""
        if self._cut:
            raise BackendStateError("a cut is outstanding; release it before the next one")
        fresh = self._fresh_maps()
        self._cut, self._current = self._current, fresh
        return [change_map.snapshot() for change_map in self._cut]

    @property
    def cut_parts(self) -> list[mmap.mmap | None]:
        """Which parts of the blocks of the cut changed, per disk; None: they count whole."""
        return [change_map.parts for change_map in self._cut]

    def acknowledge(self) -> None:
        """Forget the marks of the cut: the replica holds it."""
        if self._copy_id is not None or self._largest:
            # Before the marks go: what is here of a whole copy is not to be gone on with any more.
            self._copy_id = None
            self._largest = {}
            self._write_state()
        self._discard_cut()

    def _discard_cut(self) -> None:
        for change_map in self._cut:
            change_map.discard()
        self._cut = []

    def give_back(self, bitmaps: Sequence[bytes]) -> None:
        """Mark again what was cut, and forget the cut."""
        for change_map, bitmap, cut in zip(self._current, bitmaps, self._cut, strict=True):
            change_map.merge(bitmap, cut.parts)
        self._discard_cut()

    def pending_bytes(self, frozen: Sequence[bytes] | None) -> int:
        """Return how much is marked, in the current files or in the frozen bitmaps."""
        total = 0
        for index, (change_map, size) in enumerate(zip(self._current, self._sizes, strict=True)):
            bitmap = change_map.snapshot()
            if frozen is not None:
                bitmap = union(bitmap, frozen[index])
            if size:
                total += marked_bytes(bitmap, size)
        return total

    def flush(self) -> None:
        """Return when the marks would survive the machine."""
        for change_map in (*self._current, *self._cut):
            change_map.flush()

    def close(self) -> None:
        """Close durably: what is marked needs no doubt at the next start."""
        self.flush()
        for change_map in (*self._current, *self._cut):
            change_map.flush_parts()
        self._current, self._cut = [], []
        self._running_since = None
        self._write_state()

    def stop(self) -> None:
        """Forget all marks, durably: the state goes first, orphaned maps are found later."""
        (self._folder / TRACKING_FILE).unlink(missing_ok=True)
        sync_folder(self._folder)
        for change_map in (*self._current, *self._cut):
            change_map.discard()
        self._current, self._cut = [], []

    def _fresh_maps(self) -> list[ChangeMap]:
        self._generation += 1
        return [
            ChangeMap(
                self._folder / f"marks-{self._generation:010d}-{index:03d}.map", size, parts=True
            )
            for index, size in enumerate(self._sizes)
        ]

    def _merge_files(self) -> None:
        found = _map_paths(self._folder)
        self._generation = max((_generation(path) for path in found), default=0)
        self._current = self._fresh_maps()
        for path in found:
            match = _MAP_NAME.fullmatch(path.name)
            index = int(match[2]) if match else len(self._sizes)
            if index < len(self._sizes):
                size = self._sizes[index]
                old = ChangeMap.found(path, size)
                self._current[index].merge(fitted(old.snapshot(), size), old.parts)
                old.discard()

    def _note_running(self) -> None:
        self.flush()
        self._running_since = boot_id()
        self._write_state()

    def _write_state(self) -> None:
        state = {
            "sizes": self._sizes,
            "running_since": self._running_since,
            "copy_id": self._copy_id,
            "largest": list(self._largest.items()),
        }
        write_durably(self._folder / TRACKING_FILE, json.dumps(state).encode())


def _map_paths(folder: Path) -> list[Path]:
    if not folder.exists():
        return []
    return sorted(path for path in folder.iterdir() if _MAP_NAME.fullmatch(path.name))


def _generation(path: Path) -> int:
    return int(path.name.split("-")[1])


class _State(NamedTuple):
    sizes: list[int]
    running_since: str | None
    copy_id: str | None
    largest: dict[int, int]


def _read_state(path: Path) -> _State:
    try:
        with path.open("rb") as file:
            state = json.loads(file.read(_STATE_BYTES_MAX))
        sizes = [int(size) for size in state["sizes"]]
        running_since, copy_id = state["running_since"], state.get("copy_id")
        largest = {int(index): int(size) for index, size in state.get("largest", ())}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackendStateError(
            f"{path} is damaged ({error}); delete it and resynchronize the machine"
        ) from error
    return _State(
        sizes,
        None if running_since is None else str(running_since),
        None if copy_id is None else str(copy_id),
        largest,
    )
