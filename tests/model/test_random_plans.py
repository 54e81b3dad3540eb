"""Plans of up to 50 items in groups end as they must, whatever is lost, repeated or disordered."""

from collections.abc import Callable

from hypothesis import settings

from tests.support.random_plans import SEEN, play

PLANS_MAX = 50


def test_any_plan_ends_as_it_must(tell: Callable[[str], None]) -> None:
    settings(max_examples=PLANS_MAX)(play)()
    tell(f"random plans: {SEEN['plans']} plans, {SEEN['jobs']} jobs, {SEEN['steps']} steps")
    assert SEEN["jobs"] > SEEN["plans"]
