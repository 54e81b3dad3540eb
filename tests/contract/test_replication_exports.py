"""Initial replication by a medium: a folder that is exported, imported, damaged, or foreign."""

import json
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.hyperv_bytes.bytes_harness import (
    BLOCK,
    MACHINE,
    NOW,
    REPLICA_FQDN,
    SIZES,
    Pair,
    allocated,
    contents,
    kill,
    pair,
    reopened,
)
from vmm_simulator.hyperv.backend import (
    BackendStateError,
    CutKind,
    TransferHeader,
    TransferRefusedError,
)
from vmm_simulator.hyperv.export_folder import FRAMES, MANIFEST, read_manifest

BACKENDS = {"embedded": pair}


@pytest.fixture(params=BACKENDS)
async def both(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    async with BACKENDS[request.param](tmp_path) as made:
        yield made


def nothing(*_: int) -> None:
    """Nobody looks."""


async def export(both: Pair, folder: Path, cut: int = 1) -> TransferHeader:
    """Write something, export it; what is written afterwards goes into deltas."""
    both.write(0, 3 * BLOCK, b"export" * 50_000, cut)
    both.write(1, SIZES[1] - 9, b"short end", cut)
    change_set = await both.tokyo.cut(MACHINE, CutKind.FULL, cut, NOW)
    header = both.header(change_set)
    done: list[int] = []

    def write_on(bytes_done: int) -> None:
        done.append(bytes_done)
        both.write(0, 3 * BLOCK, b"later", cut)

    await both.tokyo.export(change_set, header, folder, write_on)
    assert done[-1] == change_set.bytes_total
    await both.tokyo.release(change_set, acknowledged=True)
    return header


async def test_an_export_and_held_changes_make_both_equal(both: Pair, tmp_path: Path) -> None:
    backend = both.osaka.backend
    await backend.await_import(MACHINE)
    await backend.await_import(MACHINE)
    header = await export(both, tmp_path / "medium")
    for cut in range(2, 5):
        both.write(0, cut * BLOCK, bytes([cut]) * 1000, cut)
        await both.replicate(CutKind.DELTA, cut)
    assert contents(both.replica_disks) == [bytes(size) for size in SIZES]
    with pytest.raises(BackendStateError, match="awaiting import"):
        await backend.promote(MACHINE, None)
    kill(backend)
    backend = await reopened(tmp_path / "osaka", {MACHINE: both.replica_disks}, REPLICA_FQDN)
    both.osaka.listener._backend = both.osaka.backend = backend
    done: list[float] = []
    for again in (False, True):
        done.clear()
        applied = await backend.import_seed(
            MACHINE, tmp_path / "medium", lambda part, total: done.append(part / total)
        )
        assert (applied.cut, applied.last_record) == (4, 4)
        assert both.equal()
        assert done == sorted(done)
        assert done[-1] == pytest.approx(0.5 if again else 1.0, abs=0.01)
    assert allocated(both.replica_disks[1]) <= 2 * BLOCK
    await both.replicate(CutKind.DELTA, 5)
    assert both.equal()
    manifest = read_manifest(tmp_path / "medium")
    assert manifest.machine_id == MACHINE
    assert header.transfer_id in manifest.transfer
    assert [disk.size_bytes for disk in manifest.disks] == list(SIZES)
    mode = (tmp_path / "medium" / FRAMES).stat().st_mode
    assert mode & 0o077 == 0


async def test_an_import_without_waiting_is_taken_too(both: Pair, tmp_path: Path) -> None:
    await export(both, tmp_path / "medium")
    with pytest.raises(TransferRefusedError, match="empty"):
        await both.replicate(CutKind.DELTA, 2)
    await both.osaka.backend.import_seed(MACHINE, tmp_path / "medium", nothing)
    await both.replicate(CutKind.DELTA, 2)
    assert both.equal()


async def test_changes_that_do_not_build_on_the_export_are_not_applied(
    both: Pair, tmp_path: Path
) -> None:
    await both.osaka.backend.await_import(MACHINE)
    await export(both, tmp_path / "old", 1)
    await both.replicate(CutKind.DELTA, 2)
    await export(both, tmp_path / "new", 3)
    with pytest.raises(TransferRefusedError, match="nothing to compare"):
        await both.replicate(CutKind.DIFFERENCES, 4)
    with pytest.raises(TransferRefusedError, match="gap"):
        await both.replicate(CutKind.DELTA, 4)
    # The newer export contains what was held.
    applied = await both.osaka.backend.import_seed(MACHINE, tmp_path / "new", nothing)
    assert applied.cut == 3
    await both.replicate(CutKind.DELTA, 4)
    assert both.equal()


async def test_the_oldest_export_is_refused_its_gap(both: Pair, tmp_path: Path) -> None:
    await export(both, tmp_path / "old", 1)
    await export(both, tmp_path / "new", 2)
    await both.osaka.backend.await_import(MACHINE)
    await both.replicate(CutKind.DELTA, 3)
    applied = await both.osaka.backend.import_seed(MACHINE, tmp_path / "old", nothing)
    assert applied.cut == 1
    with pytest.raises(TransferRefusedError, match="gap"):
        await both.replicate(CutKind.DELTA, 4)


async def test_a_network_copy_takes_the_place_of_an_import(both: Pair, tmp_path: Path) -> None:
    await both.osaka.backend.await_import(MACHINE)
    await export(both, tmp_path / "medium")
    await both.replicate(CutKind.DELTA, 2)
    await both.replicate(CutKind.FULL, 3)
    assert both.equal()


async def test_a_kill_as_a_network_copy_begins_leaves_no_half_copy(
    both: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = both.osaka.backend
    await backend.await_import(MACHINE)
    await export(both, tmp_path / "medium")
    await both.replicate(CutKind.DELTA, 2)

    def die(*_: object) -> None:
        raise OSError("killed here")

    with monkeypatch.context() as patch:
        patch.setattr("vmm_simulator.hyperv.replica_state.ReplicaState._drop_logs", die)
        with pytest.raises(OSError, match="killed here"):
            await both.replicate(CutKind.FULL, 3)
    kill(backend)
    backend = await reopened(tmp_path / "osaka", {MACHINE: both.replica_disks}, REPLICA_FQDN)
    both.osaka.listener._backend = both.osaka.backend = backend
    assert backend.applied_cut(MACHINE) is None
    with pytest.raises(TransferRefusedError, match="full copy or a resynchronization only"):
        await both.replicate(CutKind.DELTA, 3)
    await both.replicate(CutKind.FULL, 3)
    assert both.equal()


def flip(folder: Path) -> None:
    data = bytearray((folder / FRAMES).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / FRAMES).write_bytes(data)


def cut_off(folder: Path) -> None:
    (folder / FRAMES).write_bytes((folder / FRAMES).read_bytes()[:-1])


def without_frames(folder: Path) -> None:
    (folder / FRAMES).unlink()


def without_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def edited(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        fields = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps(fields | changes))

    return edit


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (flip, "not what was exported"),
        (cut_off, "instead of"),
        (without_frames, "not whole"),
        (without_manifest, "no export"),
        (edited(format="something else"), "format"),
        (edited(disks=[]), "disks"),
        (edited(disks=[{"disk_id": "a", "size_bytes": 5}]), "not that of the frames"),
        (edited(frames_blake3="0" * 64), "not what was exported"),
        (edited(transfer="{}"), "transfer header"),
        (edited(more=1), "more"),
        (lambda folder: (folder / MANIFEST).write_bytes(b" " * 300_000), "over"),
    ],
)
async def test_what_is_no_whole_export_changes_nothing(
    both: Pair, tmp_path: Path, damage: Callable[[Path], object], words: str
) -> None:
    folder = tmp_path / "medium"
    await export(both, folder)
    damage(folder)
    with pytest.raises(ValueError, match=words):
        await both.osaka.backend.import_seed(MACHINE, folder, nothing)
    assert contents(both.replica_disks) == [bytes(size) for size in SIZES]


async def test_a_copy_that_holds_something_else_takes_no_import(both: Pair, tmp_path: Path) -> None:
    await export(both, tmp_path / "medium", 2)
    with pytest.raises(BackendStateError, match="takes no import"):
        await both.tokyo.import_seed(MACHINE, tmp_path / "medium", nothing)
    await both.replicate(CutKind.FULL, 1)
    with pytest.raises(BackendStateError, match="takes no import"):
        await both.osaka.backend.import_seed(MACHINE, tmp_path / "medium", nothing)
    with pytest.raises(BackendStateError, match="only an empty replica"):
        await both.osaka.backend.await_import(MACHINE)


async def test_only_a_full_cut_is_exported(both: Pair, tmp_path: Path) -> None:
    change_set = await both.tokyo.cut(MACHINE, CutKind.DELTA, 1, NOW)
    with pytest.raises(ValueError, match="only a full"):
        await both.tokyo.export(change_set, both.header(change_set), tmp_path / "medium", nothing)
    full = await both.tokyo.cut(MACHINE, CutKind.FULL, 1, NOW)
    with pytest.raises(ValueError, match="does not describe"):
        await both.tokyo.export(
            full, replace(both.header(full), cut=2), tmp_path / "medium", nothing
        )


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400) | st.text(max_size=400).map(str.encode))
def test_any_manifest_is_read_or_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / MANIFEST).write_bytes(data)
        with pytest.raises(ValueError, match="manifest"):
            read_manifest(Path(name))
