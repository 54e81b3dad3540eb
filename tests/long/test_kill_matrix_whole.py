"""Every operation, every boundary, everybody who can be killed there: the whole kill matrix."""

from collections.abc import Callable

import pytest

from tests.support.kill_matrix import KillMatrix, Tally, all_kills, matrix_folder, quiet_logs
from tests.support.kill_stories import stories


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", stories())
async def test_a_kill_at_every_boundary_changes_nothing(
    name: str, tell: Callable[[str], None]
) -> None:
    tally = Tally()
    with quiet_logs(), matrix_folder() as folder:
        matrix = KillMatrix(folder)
        story = matrix.stories[name]
        reference = await matrix.reference(story)
        for kill in all_kills(reference.trace):
            await matrix.trial(story, kill, tally)
    tell(f"kill matrix, {name}: {tally}")
    assert not tally.failures, "\n".join(tally.failures)
    assert not tally.unreached
