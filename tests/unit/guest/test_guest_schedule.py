import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmm_simulator.guest.schedule import (
    BLOCK_BYTES,
    RewriteSchedule,
    RewriteTarget,
    original_file,
)

TARGETS = (RewriteTarget(0, "/a", 3), RewriteTarget(1, "/a", 2), RewriteTarget(1, "/b", 4))


def replayed(schedule: RewriteSchedule, top: int) -> list[bytes]:
    """Return the files after rewrites 1 to `top`, done one after the other."""
    contents = [bytearray(original_file(t.path, t.blocks)) for t in schedule.targets]
    for number in range(1, top + 1):
        place = schedule.place(number)
        begin = place.block * BLOCK_BYTES
        contents[place.target][begin : begin + BLOCK_BYTES] = schedule.content(number)
    return [bytes(content) for content in contents]


@settings(max_examples=25, deadline=None)
@given(st.binary(min_size=16, max_size=16), st.integers(0, 60))
def test_expected_files_are_those_of_a_replay(seed: bytes, top: int) -> None:
    schedule = RewriteSchedule(seed, TARGETS)
    expected = schedule.expected_files(top)
    ahead = replayed(schedule, top + 1)
    assert [file.expected for file in expected] == replayed(schedule, top)
    for index, file in enumerate(expected):
        in_flight_here = schedule.place(top + 1).target == index
        assert file.in_flight == (ahead[index] if in_flight_here else None)


def test_rewrites_reach_every_block_and_never_repeat_a_content() -> None:
    schedule = RewriteSchedule(b"s" * 16, TARGETS)
    assert len({schedule.place(number) for number in range(1, 200)}) == 9
    assert len({schedule.content(number) for number in range(1, 200)}) == 199
    assert all(any(schedule.content(number)) for number in range(1, 200))


def test_the_cost_of_a_replay_does_not_grow_with_the_age_of_the_guest() -> None:
    schedule = RewriteSchedule(b"s" * 16, TARGETS)
    assert len(schedule.newest(10**12)) == 9


def test_two_seeds_rewrite_differently() -> None:
    one, other = RewriteSchedule(b"s" * 16, TARGETS), RewriteSchedule(b"t" * 16, TARGETS)
    assert one.content(1) != other.content(1)
    assert [one.place(n) for n in range(20)] != [other.place(n) for n in range(20)]


def test_original_files_have_no_zero_block_and_differ_by_path() -> None:
    content = original_file("/a", 2)
    assert len(content) == 2 * BLOCK_BYTES
    assert content != original_file("/b", 2)
    assert all(any(content[at : at + BLOCK_BYTES]) for at in (0, BLOCK_BYTES))


@pytest.mark.parametrize("targets", [(), (RewriteTarget(0, "/a", 1 << 20),)])
def test_a_list_without_blocks_or_with_too_many_is_refused(
    targets: tuple[RewriteTarget, ...],
) -> None:
    with pytest.raises(ValueError, match="rewrite list"):
        RewriteSchedule(b"s" * 16, targets)
