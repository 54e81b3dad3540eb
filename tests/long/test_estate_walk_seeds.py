"""Many walks of random operations with random faults, by seeds that are printed."""

import os
from collections.abc import Callable
from random import Random

import pytest

from tests.support.estate_walk import walked_apart

SEED = int(os.environ.get("ESTATE_WALK_SEED", "0")) or Random().randrange(1, 10**6)  # noqa: S311
WALKS = 12
OPERATIONS = 400
SITES = (("tokyo", "osaka"), ("tokyo", "osaka", "nagoya"))
SECONDS_MAX = 1200


@pytest.mark.timeout(SECONDS_MAX + 60)
@pytest.mark.parametrize("number", range(WALKS))
def test_the_promises_of_an_estate_hold(number: int, tell: Callable[[str], None]) -> None:
    first = SEED + 2 * number
    walks = {(first + place, sites): OPERATIONS for place, sites in enumerate(SITES)}
    for (seed, sites), said in walked_apart(walks, SECONDS_MAX).items():
        tell(f"walk over {len(sites)} sites, seed {seed}: {said}")
