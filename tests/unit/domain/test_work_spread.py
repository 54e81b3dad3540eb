import pytest

from service_hub.domain.work_spread import RELEASED_AT_ONCE, Load, surplus

SILENT = 15.0


@pytest.mark.parametrize(
    ("held", "others", "expected"),
    [
        # Alone, nothing is given back.
        (1_000, [], 0),
        # A hub that has come back holds nothing: half goes to it.
        (100, [0], 50),
        (101, [0], 50),
        # The average is rounded up, so that two hubs never push one job to and fro.
        (9, [0], 0),
        (10, [0], 5),
        (5, [4], 0),
        # About its share is near enough.
        (60, [40], 0),
        (62, [38], 0),
        (63, [37], 13),
        # Each of two gives its own surplus to the third.
        (90, [90, 0], 30),
        (0, [90, 90], 0),
        (60, [60, 60], 0),
        (100_000, [0], RELEASED_AT_ONCE),
    ],
)
def test_who_holds_many_more_than_the_average_gives_the_surplus_back(
    held: int, others: list[int], expected: int
) -> None:
    loads = [Load(each, 100.0) for each in others]
    assert surplus(held, loads, 100.0, SILENT) == expected


def test_who_was_not_heard_for_long_counts_for_nothing() -> None:
    assert surplus(100, [Load(0, 100.0)], 100.0 + SILENT, SILENT) == 50
    assert surplus(100, [Load(0, 100.0)], 100.1 + SILENT, SILENT) == 0
    assert surplus(100, [Load(0, 100.0), Load(100, 120.0)], 120.0, SILENT) == 0


@pytest.mark.parametrize("counts", [[100, 0], [7, 500, 3], [1, 1, 1, 400], [250, 250, 0, 0]])
def test_giving_back_and_claiming_by_turns_ends_near_the_average(counts: list[int]) -> None:
    for _ in range(10):
        for index, count in enumerate(counts):
            others = [Load(each, 0.0) for at, each in enumerate(counts) if at != index]
            given = surplus(count, others, 0.0, SILENT)
            counts[index] -= given
            # Whoever holds the fewest takes what is free, one after the other.
            for _ in range(given):
                counts[counts.index(min(counts))] += 1
    average = sum(counts) / len(counts)
    assert max(counts) - average <= max(5, 0.25 * average + 1)
    for index, count in enumerate(counts):
        others = [Load(each, 0.0) for at, each in enumerate(counts) if at != index]
        assert surplus(count, others, 0.0, SILENT) == 0
