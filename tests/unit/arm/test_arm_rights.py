import pytest

from service_hub.arm.rights import _CHANGING, right_of
from service_hub.arm.routes import missing_routes, working_routes
from service_hub.domain.access import Right
from tests.unit.arm.arm_hub import prepared_hub
from tests.unit.arm.arm_use_cases import arm_api


def test_every_operation_has_a_right_and_every_right_an_operation() -> None:
    api = arm_api(prepared_hub(), "https://hub.example")
    table = [*working_routes(api), *missing_routes()]
    assert {right_of(each.method, each.path) for each in table} == {
        Right.READ,
        Right.OPERATE,
        Right.CONFIGURE,
    }
    served = {(each.method, each.path) for each in table}
    assert set(_CHANGING) <= served, "rights of what is not served any more"


def test_what_nobody_has_placed_is_not_served() -> None:
    with pytest.raises(LookupError, match="POST /new has no right"):
        right_of("POST", "/new")
