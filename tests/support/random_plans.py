"""Random plans of up to 50 items in groups, and how each of them must end.

Every state of every job is held against the invariants on the way (tests/support/job_invariants).
"""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from service_hub.domain.jobs import Job, JobState, TaskState
from tests.support.plan_world import PARENT, Group, Luck, World, plan_of

ITEMS_MAX = 50
GROUPS_MAX = 7

_ODDS = st.sampled_from([0.0, 0.05, 0.3])


@st.composite
def plans(draw: st.DrawFn) -> list[Group]:
    """Return groups of 0 to 50 members, 50 in all at most."""
    groups: list[Group] = []
    left = ITEMS_MAX
    for _ in range(draw(st.integers(1, GROUPS_MAX))):
        size = draw(st.integers(0, left))
        left -= size
        groups.append(Group(size, draw(st.booleans()), draw(st.booleans())))
    return groups


lucks = st.builds(
    Luck, fails=_ODDS, is_lost=_ODDS, is_repeated=_ODDS, cancels=st.sampled_from([0.0, 0.0, 0.01])
)

SEEN = {"plans": 0, "jobs": 0, "steps": 0}


@given(plans(), lucks, st.integers(0, 2**32))
def play(groups: list[Group], luck: Luck, seed: int) -> None:
    world = World(Random(seed), luck, {PARENT: plan_of(groups)})  # noqa: S311 -- a played world
    parent = world.run()
    check_end(parent, {name: job for name, job in world.jobs.items() if name != PARENT})
    if luck == Luck(0, 0, luck.is_repeated, 0):
        assert parent.state is JobState.SUCCEEDED, "nothing went wrong and it did not succeed"
    SEEN["plans"] += 1
    SEEN["jobs"] += len(world.jobs)
    SEEN["steps"] += world.steps


def check_end(parent: Job, children: dict[str, Job]) -> None:
    """An AssertionError names what a plan left behind."""
    assert all(child.finished for child in children.values()), "a child was left running"
    for task in parent.tasks:
        group = parent.spec(task.task_id).group
        if group is None:
            continue
        mine = [children.get(f"{task.task_id}/{member}") for member in group.members]
        if task.state is TaskState.SUCCEEDED:
            assert all(each and each.state is JobState.SUCCEEDED for each in mine)
        if task.state is TaskState.SKIPPED and task.attempt == 0:
            assert not any(mine), "children of a group that was never begun"
        if task.state is TaskState.FAILED:
            failed = [each for each in mine if each and each.state is not JobState.SUCCEEDED]
            assert len(failed) == task.failed_count > 0
    if parent.state is JobState.SUCCEEDED:
        done = {TaskState.SUCCEEDED}
        assert {task.state for task in parent.tasks} <= done
