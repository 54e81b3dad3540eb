"""What an injected event asks of a laboratory's site, and which arguments are refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.injections import SITE_KINDS, InjectionKind
from service_hub.domain.site_events import site_orders

OUTAGE, LOSS, FAULT = (
    InjectionKind.SITE_OUTAGE,
    InjectionKind.PROVIDER_LOSS,
    InjectionKind.REPLICATION_FAULT,
)
HOLD: dict[str, Any] = {"verb": "start", "machine": None, "kind": "hold"}


@pytest.mark.parametrize(
    ("event", "arguments", "asked"),
    [
        (OUTAGE, {}, [("/power", {"on": False})]),
        (OUTAGE, {"restore": True}, [("/power", {"on": True})]),
        (LOSS, {}, [("/service", {"running": False})]),
        (LOSS, {"restore": True}, [("/service", {"running": True})]),
        (FAULT, {"link": "cut"}, [("/link", {"up": False})]),
        (FAULT, {"link": "cut", "restore": True}, [("/link", {"up": True})]),
        (FAULT, {"link": "up"}, [("/link", {"up": True})]),
        (FAULT, {"restore": True}, [("/faults", {"faults": []})]),
        (OUTAGE, {"link": "cut"}, [("/link", {"up": False}), ("/power", {"on": False})]),
    ],
)
def test_an_event_is_requests_to_the_management_port(
    event: InjectionKind, arguments: dict[str, Any], asked: list[tuple[str, Any]]
) -> None:
    assert [(each.path, each.body) for each in site_orders(event, arguments)] == asked


def test_faults_are_those_of_the_management_port() -> None:
    (order,) = site_orders(FAULT, {"faults": [HOLD]})
    assert order.path == "/faults"
    body: Any = order.body
    assert body["faults"][0].items() >= HOLD.items()


@pytest.mark.parametrize(
    ("event", "arguments", "named"),
    [
        (FAULT, {}, "faults"),
        (FAULT, {"faults": "all"}, "faults"),
        (FAULT, {"faults": [{"verb": "explode", "kind": "hold"}]}, "faults.0.verb"),
        (FAULT, {"faults": [{"verb": "start", "kind": "slow"}]}, "faults.0"),
        (FAULT, {"faults": [HOLD] * 201}, "faults"),
        (FAULT, {"faults": [HOLD], "restore": True}, "faults"),
        (FAULT, {"link": "banana"}, "link"),
        (FAULT, {"link": None}, "link"),
        (OUTAGE, {"restore": "yes"}, "restore"),
        (LOSS, {"failoverDirection": "PrimaryToRecovery"}, "failoverDirection"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_is_stored(
    event: InjectionKind, arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidRequestError, match=named) as refused:
        site_orders(event, arguments)
    assert refused.value.target == f"arguments.{named}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["verb", "kind", "times", "code", "x"]), inner)
    ),
    max_leaves=8,
)


@given(
    st.sampled_from(sorted(SITE_KINDS)),
    st.dictionaries(st.sampled_from(["faults", "link", "restore", "other"]), JSON),
)
def test_whatever_comes_is_orders_or_refused(
    event: InjectionKind, arguments: dict[str, Any]
) -> None:
    try:
        orders = site_orders(event, arguments)
    except InvalidRequestError as error:
        assert error.target is not None  # noqa: PT017 -- either is right, nothing else is
        return
    assert orders
