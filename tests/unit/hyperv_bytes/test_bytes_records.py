"""What a replica and a tracker keep of themselves, foreign bytes, and arithmetic of bits."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.hyperv_bytes.bytes_harness import BLOCK
from tests.unit.hyperv_bytes.test_bytes_transfer_header import COMPLETE, HELD, NEXT
from vmm_simulator.hyperv.backend import (
    BackendStateError,
    Consistency,
    CutKind,
    DiskFile,
    PointKind,
    TransferRefusedError,
)
from vmm_simulator.hyperv.blocks import (
    bitmap_bytes,
    block_count,
    fitted,
    has_bit,
    left_of,
    marked_bytes,
)
from vmm_simulator.hyperv.change_map import TRACKING_FILE, TrackedChanges
from vmm_simulator.hyperv.digests import RUNS_MAX, allocated_runs
from vmm_simulator.hyperv.disk_change import INTENT_FILE, read_intent, write_intent
from vmm_simulator.hyperv.replica_record import (
    RECORD_FILE,
    FileGuard,
    KeptPoint,
    PartialCopy,
    Phase,
    Promotion,
    ReplicaRecord,
    guards_of,
)
from vmm_simulator.hyperv.replica_routes import decode_runs, encode_runs
from vmm_simulator.hyperv.transfer_header import (
    CopyState,
    Decision,
    decide,
    decode_header,
    decode_place,
    encode_header,
    encode_place,
)

POINT = KeptPoint(PointKind.APPLICATION_CONSISTENT, HELD, (BLOCK, 0))
FULL_RECORD = ReplicaRecord(
    state=CopyState.COMPLETE,
    held=NEXT,
    points=(POINT, replace(POINT, kind=PointKind.STANDARD, header=NEXT)),
    promotion=Promotion(Phase.REVERTING, POINT, "boot"),
    partial=PartialCopy("t-1", 3, 4096),
    guards=(FileGuard(1, 2, 3, 4), FileGuard(0, 0, 0, 0)),
)


@pytest.mark.parametrize(
    "record",
    [
        FULL_RECORD,
        ReplicaRecord(state=CopyState.AWAITING_IMPORT),
        replace(FULL_RECORD, promotion=Promotion(Phase.PROMOTED, None, None)),
    ],
)
def test_a_record_is_read_as_it_was_written(tmp_path: Path, record: ReplicaRecord) -> None:
    record.write(tmp_path)
    assert ReplicaRecord.read(tmp_path) == record


def test_a_record_of_a_former_version_is_read(tmp_path: Path) -> None:
    assert ReplicaRecord.read(tmp_path) == ReplicaRecord()
    former = {"state": "complete", "held": encode_header(HELD)}
    (tmp_path / RECORD_FILE).write_text(json.dumps(former))
    assert ReplicaRecord.read(tmp_path) == ReplicaRecord(state=COMPLETE, held=HELD)


@given(st.data())
def test_any_damage_of_a_record_is_named(data: st.DataObject) -> None:
    fields = json.loads('{"state": "complete", "held": null, "points": [], "promotion": null}')
    fields[data.draw(st.sampled_from([*fields, "partial", "guards"]))] = data.draw(
        st.sampled_from([5, "x", {"a": 1}, [5], [[1]], "{}"])
    )
    text = data.draw(st.sampled_from([json.dumps(fields), "", "[]", "{", "null"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pathlib.Path.open", lambda *_: _Text(text))
        with pytest.raises(BackendStateError, match=r"replica\.json is damaged .*resynchronize"):
            ReplicaRecord.read(Path("/anywhere"))


class _Text:
    def __init__(self, text: str) -> None:
        self._text = text

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def read(self, _length: int) -> bytes:
        """Return the text."""
        return self._text.encode()


def test_marks_of_a_former_version_are_read(tmp_path: Path) -> None:
    changes = TrackedChanges.start(tmp_path, [16 * BLOCK])
    changes.mark(0, 0, 1)
    former = {"sizes": [16 * BLOCK], "running_since": None}
    (tmp_path / TRACKING_FILE).write_text(json.dumps(former))
    again = TrackedChanges.reopen(tmp_path)
    assert again is not None
    assert (again.copy_id, again.pending_bytes(None)) == (None, BLOCK)


def test_a_copy_that_began_is_known_until_it_is_acknowledged(tmp_path: Path) -> None:
    changes = TrackedChanges.start(tmp_path, [BLOCK])
    changes.begin_copy("t-1")
    again = TrackedChanges.reopen(tmp_path)
    assert again is not None
    assert again.copy_id == "t-1"
    again.swap()
    again.acknowledge()
    third = TrackedChanges.reopen(tmp_path)
    assert third is not None
    assert third.copy_id is None


def test_a_guard_knows_another_file_another_size_and_another_time(tmp_path: Path) -> None:
    disk = DiskFile("disk-0", tmp_path / "a.raw", 5)
    assert guards_of([disk]) == (FileGuard(0, 0, 0, 0),)
    disk.path.write_bytes(b"first")
    first = FileGuard.of(disk)
    assert first.size_bytes == 5
    disk.path.rename(tmp_path / "kept.raw")
    disk.path.write_bytes(b"first")
    assert FileGuard.of(disk) != first


def test_an_intent_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_intent(tmp_path) is None
    disks = (DiskFile("a", tmp_path / "a.raw", 7), DiskFile("b", tmp_path / "b.raw", 0))
    write_intent(tmp_path, disks)
    assert read_intent(tmp_path) == disks
    (tmp_path / INTENT_FILE).write_text("[[1, 2]]")
    with pytest.raises(BackendStateError, match=r"disks\.json is damaged"):
        read_intent(tmp_path)


def test_what_the_back_end_fills_in_crosses_the_network_and_need_not() -> None:
    filled = replace(HELD, consistency=Consistency.APPLICATION, sizes=(5, 0), copy_id="t-1")
    assert decode_header(encode_header(filled)) == filled
    assert set(json.loads(encode_header(HELD))) == {
        *("relationship_id", "transfer_id", "epoch", "cut", "kind", "taken_at", "last_record"),
    }


@pytest.mark.parametrize(
    "place", [None, (0, 0), (63, 2**62)], ids=["nothing", "the beginning", "far"]
)
def test_a_place_crosses_the_network(place: tuple[int, int] | None) -> None:
    assert decode_place(encode_place(place)) == place


@given(st.binary(max_size=200) | st.sampled_from([b"[1]", b"[1,-2]", b"[1,2,3]", b'["a",1]']))
def test_a_foreign_place_is_a_value_error(data: bytes) -> None:
    try:
        found = decode_place(data)
    except ValueError:
        return
    assert found is None or min(found) >= 0


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), max_size=9))
def test_runs_cross_the_network_in_order_only(runs: list[tuple[int, int]]) -> None:
    ordered = all(one[0] + one[1] <= two[0] for one, two in pairwise(runs))
    data = encode_runs(runs)
    if ordered and all(start + count <= 55 for start, count in runs):
        assert decode_runs(data, 0, 55) == runs
    else:
        with pytest.raises(ValueError, match="not on the disk or not due"):
            decode_runs(data, 0, 55)


@given(st.binary(max_size=100))
def test_foreign_runs_are_a_value_error_or_within_the_disk(data: bytes) -> None:
    try:
        runs = decode_runs(data, 2, 1000)
    except ValueError:
        return
    assert all(2 <= start < start + count <= 1000 for start, count in runs)


def test_a_list_of_runs_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="wrong length"):
        decode_runs(bytes(16 * (RUNS_MAX + 1)), 0, 10**9)


def test_allocated_runs_are_told_piece_by_piece(tmp_path: Path) -> None:
    path = tmp_path / "sparse.raw"
    size = 40 * BLOCK + 100
    with path.open("wb") as file:
        file.truncate(size)
        for block in (0, 1, 5, 9, 40):
            file.seek(block * BLOCK)
            file.write(b"x")
    everything = [(0, 2), (5, 1), (9, 1), (40, 1)]
    assert allocated_runs(path, size, 0, 10) == everything
    assert allocated_runs(path, size, 0, 2) == everything[:2]
    assert allocated_runs(path, size, 6, 2) == everything[2:]
    assert allocated_runs(path, size, 41, 2) == []
    with pytest.raises(ValueError, match="not on this disk"):
        allocated_runs(path, size, 42, 2)


SIZES = st.integers(1, 40 * BLOCK)


@given(SIZES, SIZES, st.data())
def test_a_bitmap_is_fitted_to_another_size(one: int, other: int, data: st.DataObject) -> None:
    bitmap = data.draw(st.binary(min_size=bitmap_bytes(one), max_size=bitmap_bytes(one)))
    bitmap = fitted(bitmap, one)
    found = fitted(bitmap, other)
    assert len(found) == bitmap_bytes(other)
    assert marked_bytes(found, other) <= other
    for block in range(block_count(other)):
        assert has_bit(found, block) == (block < block_count(one) and has_bit(bitmap, block))


@given(st.binary(min_size=4, max_size=4), st.binary(min_size=4, max_size=4), st.integers(0, 32))
def test_what_is_left_is_the_rest_and_what_changed_before_it(
    wanted: bytes, changed: bytes, done: int
) -> None:
    left = left_of(wanted, done, changed)
    for block in range(32):
        expected = has_bit(wanted, block) and (block >= done or has_bit(changed, block))
        assert has_bit(left, block) == expected


def test_what_an_altered_or_waiting_replica_takes() -> None:
    altered, waiting = CopyState.ALTERED, CopyState.AWAITING_IMPORT
    differences = replace(NEXT, kind=CutKind.DIFFERENCES)
    full = replace(NEXT, kind=CutKind.FULL)
    assert decide(altered, HELD, HELD) is Decision.ACKNOWLEDGE_AGAIN
    assert decide(altered, HELD, differences) is Decision.SPOOL
    assert decide(altered, HELD, full) is decide(waiting, HELD, full) is Decision.WRITE_DIRECTLY
    assert decide(waiting, None, NEXT) is decide(waiting, HELD, NEXT) is Decision.SPOOL
    again = replace(full, copy_id="t-1")
    assert decide(COMPLETE, full, again) is Decision.ACKNOWLEDGE_AGAIN
    for state, held, offered, words in (
        (altered, HELD, NEXT, "is altered"),
        (waiting, HELD, differences, "nothing to compare"),
        (waiting, HELD, replace(NEXT, cut=9), "gap"),
    ):
        with pytest.raises(TransferRefusedError, match=words):
            decide(state, held, offered)
