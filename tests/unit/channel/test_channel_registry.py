"""Who is connected: one per provider, limits per certificate."""

from service_hub.channel.limits import EndpointLimits
from service_hub.channel.registry import ConnectionRegistry, Peer

LIMITS = EndpointLimits(connections=5, connections_per_certificate=2, held_off_seconds=30.0)
TOKYO, OSAKA = Peer("tokyo", "aa"), Peer("osaka", "bb")


def registry(now: list[float]) -> ConnectionRegistry[str]:
    return ConnectionRegistry(LIMITS, lambda: now[0])


def test_the_second_connection_replaces_the_first_and_gets_a_new_number() -> None:
    known = registry([0.0])
    for name in ("first", "second"):
        assert known.open(TOKYO, name) is None
    assert known.admit("first") is None
    number = known.numbers()["tokyo"]
    assert known.admit("second") == "first"
    assert known.admitted("tokyo") == "second"
    assert known.numbers()["tokyo"] != number
    known.close("first")
    assert known.admitted("tokyo") == "second"
    known.close("second")
    known.close("second")
    assert known.admitted("tokyo") is None
    assert known.numbers() == {}


def test_a_certificate_has_a_limit_that_does_not_touch_another_of_the_same_name() -> None:
    known = registry([0.0])
    assert [known.open(TOKYO, name) for name in ("a", "b")] == [None, None]
    assert known.open(TOKYO, "c") is not None
    assert known.open(Peer("tokyo", "renewed"), "d") is None
    known.close("a")
    assert known.open(TOKYO, "e") is None
    assert set(known.all_of("tokyo")) == {"b", "d", "e"}


def test_all_connections_together_have_a_limit() -> None:
    known = registry([0.0])
    for number in range(5):
        assert known.open(Peer("p", str(number)), str(number)) is None
    assert known.open(OSAKA, "one more") is not None


def test_a_held_off_certificate_comes_back_after_its_time() -> None:
    now = [100.0]
    known = registry(now)
    known.open(TOKYO, "garbage")
    known.hold_off("garbage")
    known.close("garbage")
    assert known.open(TOKYO, "again") is not None
    assert known.open(Peer("tokyo", "another certificate"), "fresh") is None
    now[0] += 30.0
    assert known.open(TOKYO, "later") is None


def test_after_the_stop_nobody_is_taken_in() -> None:
    known = registry([0.0])
    known.open(TOKYO, "a")
    assert known.stop() == ["a"]
    assert known.open(OSAKA, "b") is not None
