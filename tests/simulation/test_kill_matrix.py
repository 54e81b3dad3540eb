"""Killed at every kind of place of every operation, everything ends as if nothing had happened.

Here a covering set, by a seed that is printed; tests/long kills at every boundary.
"""

import os
from collections.abc import Callable
from random import Random

import pytest

from service_hub.domain.protection import TRANSITIONS, Operation, ProtectionState
from service_hub.domain.scenarios import SCENARIOS
from service_shell.failpoints import POINTS
from tests.support.kill_matrix import (
    KillMatrix,
    Reference,
    Tally,
    all_kills,
    covering_kills,
    difference,
    matrix_folder,
    quiet_logs,
)
from tests.support.kill_stories import stories
from tests.support.kill_world import HUB, PROGRAMS, SITES

SEED = int(os.environ.get("KILL_MATRIX_SEED", "0")) or Random().randrange(1, 10**6)  # noqa: S311
KILLS_MAX = 100

NOT_TOLD = {"tidy_partner"}
"""Plans without a story: this one needs a site that is gone, and has tests of its own."""


def test_every_plan_of_the_table_is_killed_in_the_middle() -> None:
    told = frozenset[str]().union(*(story.covers for story in stories().values()))
    assert told == SCENARIOS.keys() - NOT_TOLD


def test_every_way_of_the_protection_table_that_success_leads_to_has_a_story() -> None:
    told = {name for name in stories() if " of " in name}
    reached = {arc.done for arcs in TRANSITIONS.values() for arc in arcs.values()}
    ways = {
        f"{operation.value} of {state.value}"
        for state in (ProtectionState.UNPROTECTED, *reached)
        for operation in TRANSITIONS.get(state, {})
        if operation not in {Operation.COMPLETE_PRIMARY, Operation.COMPLETE_RECOVERY}
    }
    assert told == ways


@pytest.mark.timeout(600)
async def test_a_kill_at_any_kind_of_place_changes_nothing(tell: Callable[[str], None]) -> None:
    random, tally = Random(SEED), Tally()  # noqa: S311 -- a choice that can be repeated
    reached: set[str] = set()
    with quiet_logs(), matrix_folder() as folder:
        matrix = KillMatrix(folder)
        chosen, boundaries = [], 0
        for story in matrix.stories.values():
            reference = await matrix.reference(story)
            reached |= {boundary.name for boundary in reference.trace}
            boundaries += len(list(all_kills(reference.trace)))
            chosen += [(story, kill) for kill in covering_kills(reference.trace, random)]
        covering = random.sample(chosen, min(KILLS_MAX, len(chosen)))
        covering.sort(key=lambda each: (each[0].name, each[1]))
        for story, kill in covering:
            await matrix.trial(story, kill, tally)
    words = f"{tally}; {len(covering)} of {boundaries} by seed {SEED}, all of them in test-long"
    tell(f"kill matrix: {words}")
    assert reached == set(POINTS)
    assert not tally.failures, "\n".join([*tally.failures, words])
    assert not tally.unreached, words
    assert tally.tried == len(covering)


async def test_a_lost_write_would_be_seen() -> None:
    """The comparison itself can fail: one effect twice, one record less, another state."""
    with quiet_logs(), matrix_folder() as folder:
        matrix = KillMatrix(folder)
        reference = await matrix.reference(matrix.stories["pair_clouds"])
    effects = [line for line in reference.picture.splitlines() if " effect " in line]
    assert {line.split()[0] for line in effects} == set(SITES)
    assert len(effects) == len(set(effects)), "each effect of an undisturbed pairing is one line"
    twice = f"{reference.picture}\n{effects[0]}"
    assert effects[0][:30] in difference(reference.picture, twice)
    other = reference.picture.replace("Succeeded", "Failed", 1)
    assert difference(reference.picture, other)
    assert {boundary.program for boundary in reference.trace} == set(PROGRAMS)
    assert isinstance(reference, Reference)
    assert HUB in PROGRAMS
