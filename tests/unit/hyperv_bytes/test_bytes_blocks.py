from hypothesis import given
from hypothesis import strategies as st

from vmm_simulator.hyperv.blocks import (
    BLOCK_BYTES,
    bitmap_bytes,
    block_count,
    blocks_touched,
    has_bit,
    marked_bytes,
    runs,
    set_bits,
    union,
)

BITMAPS = st.binary(min_size=1, max_size=64)


def marked(bitmap: bytes) -> list[int]:
    return [block for block in range(len(bitmap) * 8) if has_bit(bitmap, block)]


@given(bitmap=BITMAPS, blocks_max=st.integers(1, 20))
def test_runs_are_exactly_what_is_marked_in_order(bitmap: bytes, blocks_max: int) -> None:
    found = list(runs(bitmap, blocks_max))
    assert [block for first, count in found for block in range(first, first + count)] == marked(
        bitmap
    )
    assert all(0 < count <= blocks_max for _, count in found)


def test_runs_go_on_over_the_slices_of_a_large_bitmap() -> None:
    bitmap = bytearray(10_000)
    set_bits(bitmap, 32_760, 32_780)
    set_bits(bitmap, 79_999, 79_999)
    blocks = [b for first, count in runs(bytes(bitmap), 16) for b in range(first, first + count)]
    assert blocks == [*range(32_760, 32_781), 79_999]


@given(first=st.integers(0, 511), length=st.integers(0, 511))
def test_set_bits_sets_these_and_no_others(first: int, length: int) -> None:
    last = min(511, first + length)
    bitmap = bytearray(64)
    set_bits(bitmap, first, last)
    assert marked(bytes(bitmap)) == list(range(first, last + 1))


@given(st.tuples(BITMAPS, BITMAPS))
def test_union_holds_both(pair: tuple[bytes, bytes]) -> None:
    length = min(map(len, pair))
    one, other = (bitmap[:length] for bitmap in pair)
    assert set(marked(union(one, other))) == set(marked(one)) | set(marked(other))


def test_a_write_touches_the_blocks_it_lies_in() -> None:
    assert blocks_touched(BLOCK_BYTES - 1, 2) == range(2)
    assert blocks_touched(BLOCK_BYTES, BLOCK_BYTES) == range(1, 2)


def test_a_short_last_block_counts_with_its_bytes() -> None:
    size = 3 * BLOCK_BYTES + 4096
    assert (block_count(size), bitmap_bytes(size)) == (4, 1)
    assert marked_bytes(b"\x0f", size) == size
    assert marked_bytes(b"\x08", size) == 4096
    assert marked_bytes(b"\x01", size) == BLOCK_BYTES
