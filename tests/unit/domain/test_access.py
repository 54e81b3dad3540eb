import pytest

from service_hub.domain.access import (
    GRANTED,
    ForbiddenError,
    Grant,
    OperatorIdentity,
    Right,
    Role,
    refusal,
    role_named,
    roles_with,
    with_role,
)
from service_hub.domain.errors import NotFoundError
from service_hub.operator_door import check_anywhere, check_vault

HERE, THERE, NOWHERE = "here", "there", "nowhere"


def test_an_operator_fails_over_and_configures_nothing() -> None:
    assert GRANTED[Role.OPERATOR] == {Right.READ, Right.SEE_INJECTIONS, Right.OPERATE}
    assert Right.CONFIGURE in GRANTED[Role.CONTRIBUTOR]


def test_only_an_owner_gives_rights_and_an_injector_does_nothing_else() -> None:
    assert roles_with(Right.ADMINISTER) == (Role.OWNER,)
    assert GRANTED[Role.INJECTOR] == {Right.INJECT, Right.SEE_INJECTIONS}


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("Reader", Role.READER),
        ("site recovery operator", Role.OPERATOR),
        ("OWNER", Role.OWNER),
        ("Cook", None),
        ("", None),
    ],
)
def test_roles_have_short_names_in_any_case(name: str, role: Role | None) -> None:
    assert role_named(name) is role


def test_an_unknown_role_gives_no_right_and_is_told() -> None:
    cook = with_role("anna", "Cook")
    assert not any(cook.may_somewhere(right) for right in Right)
    assert not cook.sees(HERE)
    assert "'Cook'" in str(refusal(cook, Right.READ))


def test_a_role_in_one_vault_is_none_in_another() -> None:
    identity = OperatorIdentity("anna", (Grant(Role.CONTRIBUTOR, HERE), Grant(Role.READER, THERE)))
    assert identity.may(Right.CONFIGURE, HERE)
    assert not identity.may(Right.CONFIGURE, THERE)
    assert not identity.may(Right.READ)
    assert not identity.everywhere
    assert [identity.sees(each) for each in (HERE, THERE, NOWHERE)] == [True, True, False]


def test_a_foreign_vault_is_told_like_one_that_does_not_exist() -> None:
    identity = OperatorIdentity("anna", (Grant(Role.READER, HERE),))
    check_vault(identity, Right.READ, HERE, "v")
    with pytest.raises(NotFoundError, match="'v'"):
        check_vault(identity, Right.READ, THERE, "v")
    with pytest.raises(ForbiddenError, match="Site Recovery Operator"):
        check_anywhere(identity, Right.OPERATE)
    with pytest.raises(ForbiddenError):
        check_vault(identity, Right.OPERATE, HERE, "v")
