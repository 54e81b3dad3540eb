"""Which events are sent now, which again, and when the pump must look again."""

from hypothesis import given
from hypothesis import strategies as st

from service_hub.channel.flight import (
    BUSY_SECONDS,
    IN_FLIGHT_MAX,
    FlightLog,
    Hint,
    Publish,
    Step,
)
from wire_contract.topics import EVENT_BYTES_MAX


def waiting(first: int, count: int, size: int = 100) -> list[tuple[int, int]]:
    return [(seq, size) for seq in range(first, first + count)]


def take(flights: FlightLog, events: list[tuple[int, int]], now: float) -> list[Step]:
    steps = flights.steps(events, now)
    for step in steps:
        flights.done(step, now)
    return steps


def test_an_event_is_sent_once_and_again_after_2_5_and_15_seconds_then_hinted() -> None:
    flights, sent, now = FlightLog(), [], 0.0
    flights.acknowledge("s", 0)
    while now < 60.0:
        sent += [(now, type(step)) for step in take(flights, waiting(1, 1), now)]
        now += 0.5
    assert sent == [
        (0.0, Publish),
        (2.0, Publish),
        (7.0, Publish),
        (22.0, Publish),
        (37.0, Hint),
        (52.0, Hint),
    ]


def test_at_most_20_are_in_flight_then_one_hint() -> None:
    flights = FlightLog()
    flights.acknowledge("s", 0)
    steps = take(flights, waiting(1, 21), 0.0)
    assert steps == [*(Publish(seq) for seq in range(1, IN_FLIGHT_MAX + 1)), Hint(None)]
    assert take(flights, waiting(1, 21), 1.0) == []


def test_an_acknowledgement_moves_the_window_without_another_hint() -> None:
    flights = FlightLog()
    flights.acknowledge("s", 0)
    take(flights, waiting(1, 21), 0.0)
    flights.acknowledge("s", 5)
    assert take(flights, waiting(6, 21), 0.1) == [Publish(seq) for seq in range(21, 26)]


def test_a_large_event_is_hinted_at_and_nothing_above_it_is_sent() -> None:
    flights = FlightLog()
    flights.acknowledge("s", 0)
    events = [(1, 100), (2, EVENT_BYTES_MAX + 1), (3, 100)]
    assert take(flights, events, 0.0) == [Publish(1), Hint(2)]
    flights.acknowledge("s", 2)
    assert take(flights, [(3, 100)], 0.1) == [Publish(3)]


def test_an_event_of_exactly_the_limit_is_sent() -> None:
    flights = FlightLog()
    assert take(flights, [(1, EVENT_BYTES_MAX)], 0.0) == [Publish(1)]


def test_a_new_stream_begins_with_nothing_in_flight() -> None:
    flights = FlightLog()
    flights.acknowledge("old", 0)
    take(flights, waiting(1, 3), 0.0)
    flights.acknowledge("new", 0)
    assert take(flights, waiting(1, 2), 0.1) == [Publish(1), Publish(2)]


def test_a_step_that_was_not_taken_is_due_after_the_connection_had_a_rest() -> None:
    flights = FlightLog()
    flights.acknowledge("s", 0)
    assert flights.steps(waiting(1, 1), 3.0) == [Publish(1)]
    flights.hold(3.0)
    assert flights.due_at() == 3.0 + BUSY_SECONDS
    assert flights.steps(waiting(1, 1), 3.5) == [Publish(1)]


def test_nothing_waiting_means_nothing_is_due() -> None:
    flights = FlightLog()
    flights.acknowledge("s", 0)
    take(flights, waiting(1, 30), 0.0)
    flights.acknowledge("s", 30)
    assert take(flights, [], 1.0) == []
    assert flights.due_at() is None


@given(
    looks=st.lists(
        st.tuples(
            st.floats(min_value=0.0, max_value=20.0),
            st.integers(min_value=0, max_value=5),
            st.integers(min_value=0, max_value=8),
            st.integers(min_value=1, max_value=EVENT_BYTES_MAX + 10),
        ),
        max_size=40,
    )
)
def test_whatever_happens_order_and_window_hold_and_time_moves_on(
    looks: list[tuple[float, int, int, int]],
) -> None:
    flights, now, acknowledged, events = FlightLog(), 0.0, 0, list[tuple[int, int]]()
    highest = 0
    for passed, acknowledge, added, size in looks:
        now += passed
        events += waiting(highest + 1, added, size)
        highest += added
        acknowledged = min(acknowledged + acknowledge, highest)
        events = [each for each in events if each[0] > acknowledged]
        flights.acknowledge("s", acknowledged)
        steps = take(flights, events, now)
        sent = [step.seq for step in steps if isinstance(step, Publish)]
        assert sent == sorted(sent)
        assert all(seq <= acknowledged + IN_FLIGHT_MAX for seq in sent)
        assert sum(isinstance(step, Hint) for step in steps) <= 1
        due_at = flights.due_at()
        # Else the pump would turn without end.
        assert due_at is None or due_at > now
        assert bool(events) == (due_at is not None)
