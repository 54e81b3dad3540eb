"""The walks of tests/model with larger bounds: more restarts, and restarts of the scenarios too."""

from collections.abc import Callable

import pytest
from hypothesis import settings

from service_hub.domain.decide import decide
from service_hub.domain.scenarios import SCENARIOS
from tests.support.job_plans import PLANS, job_of, scenario_job
from tests.support.job_walk import Walk, explore
from tests.support.random_plans import SEEN, play

PLANS_MAX = 1_000


@pytest.mark.timeout(1800)
def test_every_order_of_events_with_more_restarts_keeps_the_invariants(
    tell: Callable[[str], None],
) -> None:
    walk = sum((explore(decide, job_of(plan), restarts=3) for plan in PLANS.values()), Walk())
    walk += sum((explore(decide, scenario_job(key)) for key in SCENARIOS), Walk())
    tell(f"decide: {walk.states} states, {walk.transitions} transitions, {walk.ends} ends")
    assert walk.states > 200_000, "the walk has become smaller than what it was made for"


@pytest.mark.timeout(1800)
def test_more_random_plans_end_as_they_must(tell: Callable[[str], None]) -> None:
    settings(max_examples=PLANS_MAX)(play)()
    tell(f"random plans: {SEEN['plans']} plans, {SEEN['jobs']} jobs, {SEEN['steps']} steps")
