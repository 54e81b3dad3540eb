"""Every operation and plan, every boundary, everybody who can be killed there: the whole matrix."""

from collections.abc import Callable

import pytest

from tests.support.kill_workers import Shares, all_told, names_to_kill_in

SECONDS_MAX = 3600


@pytest.mark.timeout(SECONDS_MAX + 60)
@pytest.mark.parametrize("name", names_to_kill_in())
def test_a_kill_at_every_boundary_changes_nothing(name: str, tell: Callable[[str], None]) -> None:
    tally = all_told(0, Shares(), [name], SECONDS_MAX)
    tell(f"kill matrix, {name}: {tally}")
    assert not tally.failures, "\n".join(tally.failures)
    assert tally.tried == tally.converged == tally.boundaries - tally.alike
