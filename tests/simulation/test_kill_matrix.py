"""Killed at every boundary of every operation, everything ends as if nothing had happened.

Here each boundary of each operation with who reaches it and with everybody at once; by a seed that
is printed, a share of those who have nothing to do with it, and of the boundaries of plans and of
operations that have been killed in from another state. tests/long leaves out nothing.
"""

import os
from collections.abc import Callable
from random import Random

import pytest

from service_hub.domain.protection import TRANSITIONS, ProtectionState
from service_hub.domain.scenarios import PLANS, SCENARIOS
from service_shell.failpoints import POINTS
from tests.support.kill_matrix import (
    KillMatrix,
    difference,
    matrix_folder,
    quiet_logs,
)
from tests.support.kill_plans import every_story, plan_stories
from tests.support.kill_stories import FOLLOWED, NOT_WALKED, stories
from tests.support.kill_workers import Shares, all_told, names_to_kill_in
from tests.support.kill_world import PROGRAMS, SITES
from tests.support.played_network import played_network

SEED = int(os.environ.get("KILL_MATRIX_SEED", "0")) or Random().randrange(1, 10**6)  # noqa: S311
SHARES = Shares(bystanders=0.03, repeats=0.2)
SECONDS_MAX = 1200

NOT_TOLD = {"tidy_partner"}
"""Plans without a story: it needs a server that was purged, and has tests of its own."""


def test_every_plan_of_the_table_is_killed_in_the_middle() -> None:
    told = frozenset[str]().union(*(story.covers for story in stories().values()))
    assert told == SCENARIOS.keys() - NOT_TOLD
    assert frozenset[str]().union(*(story.covers for story in plan_stories())) == PLANS.keys()


def test_every_way_of_the_protection_table_has_a_story() -> None:
    told = {name for name in every_story() if " of " in name}
    arcs_there = [arc for arcs in TRANSITIONS.values() for arc in arcs.values()]
    reached = {arc.done for arc in arcs_there}
    reached |= {arc.undo_failed for arc in arcs_there if arc.undo_failed is not None}
    reached |= {arc.half_done for arc in arcs_there if arc.half_done is not None}
    ways = {
        f"{operation.value} of {state.value}"
        for state in (ProtectionState.UNPROTECTED, *reached)
        if not FOLLOWED & TRANSITIONS.get(state, {}).keys()
        for operation in TRANSITIONS.get(state, {})
        if operation not in NOT_WALKED
    }
    assert told == ways


@pytest.mark.timeout(SECONDS_MAX + 60)
def test_a_kill_at_any_boundary_changes_nothing(tell: Callable[[str], None]) -> None:
    tally = all_told(SEED, SHARES, names_to_kill_in(), SECONDS_MAX)
    words = f"{tally}; bystanders and repeats by seed {SEED}, all of them in test-long"
    tell(f"kill matrix: {words}")
    # Those of the simulator lie between two bytes of a transfer: test_simulator_kills goes there.
    assert tally.points == {point for point in POINTS if not point.startswith("simulator.")}
    assert not tally.failures, "\n".join([*tally.failures, words])
    assert tally.tried == tally.converged


def test_a_story_that_is_told_again_is_the_same_story() -> None:
    """Nothing in it comes by chance: a boundary that was tried is there when it is repeated."""
    with matrix_folder() as folder, quiet_logs(), played_network():
        matrix = KillMatrix(folder)
        story = every_story()["pair_clouds"]
        assert matrix.reference(story) == matrix.reference(story)


def test_a_lost_write_would_be_seen() -> None:
    """The comparison itself can fail: one effect twice, one record less, another state."""
    with matrix_folder() as folder, quiet_logs(), played_network():
        matrix = KillMatrix(folder)
        reference = matrix.reference(matrix.stories["pair_clouds"])
    effects = [line for line in reference.picture.splitlines() if " effect " in line]
    assert {line.split()[0] for line in effects} == set(SITES)
    assert len(effects) == len(set(effects)), "each effect of an undisturbed pairing is one line"
    twice = f"{reference.picture}\n{effects[0]}"
    assert effects[0][:30] in difference(reference.picture, twice)
    other = reference.picture.replace("Succeeded", "Failed", 1)
    assert difference(reference.picture, other)
    assert {boundary.program for boundary in reference.trace} == set(PROGRAMS)
