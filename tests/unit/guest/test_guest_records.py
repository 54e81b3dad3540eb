import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from vmm_simulator.guest.records import (
    EMPTY_SLOT,
    RECORD_BYTES,
    RecordDamagedError,
    RecordPlace,
    RecordRing,
    RecordWindow,
    encode_record,
    genesis,
    parse_record,
    read_window,
)

SEED = b"a guest's seed.."
RING = RecordRing(disks=2, slots_per_disk=8)


def written(
    top: int, *, ring: RecordRing = RING, epoch_from: dict[int, int] | None = None
) -> list[bytearray]:
    """Return the record files after records 1 to `top`, as a guest writes them."""
    files = [bytearray(EMPTY_SLOT * ring.slots_per_disk) for _ in range(ring.disks)]
    previous, epoch = genesis(SEED), 1
    for number in range(1, top + 1):
        epoch = (epoch_from or {}).get(number, epoch)
        data = record_bytes(number, previous=previous, epoch=epoch)
        put(files, ring.place(number), data)
        previous = data[-32:]
    return files


def record_bytes(number: int, *, previous: bytes, epoch: int = 1, seed: bytes = SEED) -> bytes:
    return encode_record(
        seed=seed, number=number, epoch=epoch, time_microseconds=number * 1000, previous=previous
    )


def put(files: list[bytearray], place: RecordPlace, data: bytes) -> None:
    files[place.disk][place.slot * RECORD_BYTES : (place.slot + 1) * RECORD_BYTES] = data


def get(files: list[bytearray], place: RecordPlace) -> bytes:
    return bytes(files[place.disk][place.slot * RECORD_BYTES : (place.slot + 1) * RECORD_BYTES])


def window(files: list[bytearray], ring: RecordRing = RING) -> RecordWindow:
    return read_window(ring, [bytes(file) for file in files], SEED)


def kinds(found: RecordWindow) -> set[str]:
    return {fault.kind for fault in found.faults}


def test_a_record_is_read_back_as_it_was_written() -> None:
    data = record_bytes(7, previous=b"p" * 32, epoch=3)
    record = parse_record(data)
    assert record is not None
    assert (record.number, record.epoch, record.time_microseconds) == (7, 3, 7000)
    assert record.previous == b"p" * 32
    assert record.hash == data[-32:].hex()
    assert len(data) == RECORD_BYTES


def test_an_unused_slot_is_no_record_and_zeros_are_damage() -> None:
    assert parse_record(EMPTY_SLOT) is None
    with pytest.raises(RecordDamagedError):
        parse_record(bytes(RECORD_BYTES))


def test_any_changed_byte_is_damage() -> None:
    data = record_bytes(7, previous=b"p" * 32)
    for index in range(RECORD_BYTES):
        changed = bytearray(data)
        changed[index] ^= 1
        with pytest.raises(RecordDamagedError):
            parse_record(bytes(changed))


@given(st.binary(max_size=2 * RECORD_BYTES))
def test_foreign_bytes_are_damage_and_nothing_else(data: bytes) -> None:
    with pytest.raises(RecordDamagedError):
        parse_record(data)


def test_a_right_checksum_over_wrong_figures_is_damage() -> None:
    data = record_bytes(7, previous=b"p" * 32)
    for offset in (8, 16, 24):
        forged = data[:offset] + b"\xff" * 8 + data[offset + 8 : -32]
        with pytest.raises(RecordDamagedError, match="out of range"):
            parse_record(forged + blake3(forged).digest())


@given(st.integers(1, 5), st.integers(2, 9), st.integers(0, 200))
def test_the_ring_says_where_each_record_lies(disks: int, slots: int, top: int) -> None:
    ring = RecordRing(disks, slots)
    held = {ring.place(number): number for number in range(1, top + 1)}
    for disk in range(disks):
        for slot in range(slots):
            place = RecordPlace(disk, slot)
            assert ring.expected(place, top) == held.get(place, 0)


def test_neighbouring_records_lie_on_different_disks() -> None:
    assert {RING.place(number).disk for number in (5, 6)} == {0, 1}


@pytest.mark.parametrize("top", [0, 1, 2, 15, 16, 17, 33, 100])
def test_what_a_guest_wrote_is_a_prefix_also_when_the_ring_has_gone_round(top: int) -> None:
    found = window(written(top))
    assert found.top_number == top
    assert found.faults == ()
    assert set(found.records) == set(range(max(1, top - RING.size + 1), top + 1))


@pytest.mark.parametrize("top", [10, 40])
def test_any_record_that_is_lost_below_the_top_is_a_gap(top: int) -> None:
    for number in range(max(1, top - RING.size + 1), top):
        files = written(top)
        put(files, RING.place(number), EMPTY_SLOT)
        assert "missing" in kinds(window(files))


def test_a_slot_left_from_the_last_round_is_a_gap() -> None:
    files, older = written(40), written(30)
    put(files, RING.place(35), get(older, RING.place(35)))
    found = window(files)
    assert {(fault.kind, fault.number) for fault in found.faults} == {("missing", 35)}


@pytest.mark.parametrize(("one", "other"), [(34, 36), (34, 35), (39, 40)])
def test_two_records_in_each_others_place_are_told(one: int, other: int) -> None:
    files = written(40)
    first, second = get(files, RING.place(one)), get(files, RING.place(other))
    put(files, RING.place(one), second)
    put(files, RING.place(other), first)
    assert kinds(window(files)) & {"missing", "reordered"}


def test_two_records_with_exchanged_numbers_break_the_chain() -> None:
    files = written(10)
    fourth = parse_record(get(files, RING.place(4)))
    assert fourth is not None
    put(files, RING.place(5), record_bytes(5, previous=fourth.previous))
    assert "chain" in kinds(window(files))


def test_a_cut_that_is_skewed_between_the_disks_is_told() -> None:
    for top in (10, 40):
        for skew in range(3, 9):
            files = [written(top)[0], written(top + skew)[1]]
            assert "missing" in kinds(window(files))
            files = [written(top + skew)[0], written(top)[1]]
            assert "missing" in kinds(window(files))


def test_a_damaged_record_is_told_with_its_place() -> None:
    files = written(10)
    put(files, RING.place(3), b"\0" * RECORD_BYTES)
    found = window(files)
    assert kinds(found) == {"damaged", "missing"}
    assert any("disk 0, slot 1" in fault.detail for fault in found.faults)


def test_epochs_may_rise_and_never_fall() -> None:
    assert window(written(10, epoch_from={5: 2})).faults == ()
    assert kinds(window(written(10, epoch_from={5: 2, 8: 1}))) == {"epoch"}


def test_records_of_another_guest_do_not_join_the_chain() -> None:
    files = [bytearray(EMPTY_SLOT * 8) for _ in range(2)]
    put(files, RING.place(1), record_bytes(1, previous=genesis(b"another"), seed=b"another"))
    assert kinds(window(files)) == {"chain", "payload"}


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 8 * RECORD_BYTES - 1), st.binary(min_size=1, max_size=600))
def test_any_damage_is_told_and_the_rest_is_read(offset: int, damage: bytes) -> None:
    files = written(40)
    before = bytes(files[0])
    files[0][offset : offset + len(damage)] = damage
    del files[0][len(before) :]
    found = window(files)
    assert bool(found.faults) == (bytes(files[0]) != before)
    assert len(found.records) >= 13


def test_files_of_another_size_than_the_ring_are_refused() -> None:
    with pytest.raises(ValueError, match="record file 1"):
        read_window(RING, [EMPTY_SLOT * 8, EMPTY_SLOT * 7], SEED)
    with pytest.raises(ValueError, match="2 record files"):
        read_window(RING, [EMPTY_SLOT * 8], SEED)
    with pytest.raises(ValueError, match="slots"):
        RecordRing(2, 1)
    with pytest.raises(ValueError, match="disks"):
        RecordRing(0, 8)
