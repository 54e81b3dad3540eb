"""Moments of many names: the earliest is right after any order of notes and takes."""

from hypothesis import given
from hypothesis import strategies as st

from service_hub.channel.due_times import DueTimes

NAMES = st.sampled_from("abcdef")
MOMENTS = st.none() | st.integers(0, 20).map(float)


@given(st.lists(st.tuples(NAMES, MOMENTS) | st.integers(0, 20).map(float)))
def test_what_is_due_is_what_was_noted_last(steps: list[tuple[str, float | None] | float]) -> None:
    due_times = DueTimes()
    known: dict[str, float] = {}
    for step in steps:
        if isinstance(step, float):
            expected = {name for name, moment in known.items() if moment <= step}
            assert due_times.take(step) == expected
            for name in expected:
                del known[name]
        else:
            name, moment = step
            due_times.note(name, moment)
            known.pop(name, None)
            if moment is not None:
                known[name] = moment
        assert due_times.next_at() == min(known.values(), default=None)
