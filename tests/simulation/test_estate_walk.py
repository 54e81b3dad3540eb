"""Random operations with random faults over an estate of two and of three sites: what must hold.

Never two copies that hold the newest epoch, no write lost but by what may lose some, what is
offered leads on, and in the end hub and fabrics say the same (tests/support/estate_walk.py).
ESTATE_WALK_SEED walks another way; tests/long walks many.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import estate_walk
from tests.support.estate_walk import walked, walked_apart
from tests.support.kill_matrix import quiet_logs
from tests.support.played_network import played_network
from tests.support.small_guest import SmallGuest

SEED = int(os.environ.get("ESTATE_WALK_SEED", "1"))
OPERATIONS = 200
TWO, THREE = ("tokyo", "osaka"), ("tokyo", "osaka", "nagoya")
SECONDS_MAX = 500


@pytest.mark.timeout(SECONDS_MAX + 60)
def test_whatever_happens_in_an_estate_its_promises_hold(tell: Callable[[str], None]) -> None:
    walks = {(SEED, TWO): OPERATIONS, (SEED + 1, THREE): OPERATIONS}
    for (seed, sites), said in walked_apart(walks, SECONDS_MAX).items():
        tell(f"walk over {len(sites)} sites, seed {seed}: {said}")


def short_walk(folder: Path) -> None:
    with quiet_logs(), played_network():
        walked(SEED, 12, TWO, folder)


def test_a_write_that_is_lost_would_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forgotten(*_: object) -> None:
        """Keep nothing of what was written."""

    monkeypatch.setattr(SmallGuest, "write", forgotten)
    with pytest.raises(ExceptionGroup) as caught:
        short_walk(tmp_path)
    assert caught.group_contains(AssertionError, match="a write of vm-.* is lost")


def test_two_copies_that_hold_one_epoch_would_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estate_walk, "_runs", lambda *_: True)
    with pytest.raises(ExceptionGroup) as caught:
        short_walk(tmp_path)
    assert caught.group_contains(AssertionError, match="two copies of vm-.* hold the epoch")
