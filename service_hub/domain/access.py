"""Who may do what: the roles of the field, the rights that routes ask for, and where they hold.

Roles are given for one vault or for all. The words of the roles are those of the original (built-in
roles Site Recovery Reader, Operator and Contributor); Owner and Injector are ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from service_hub.domain.errors import DomainError


class Role(StrEnum):
    """What may be given to an operator or to a service account."""

    OWNER = "Owner"
    CONTRIBUTOR = "Site Recovery Contributor"
    OPERATOR = "Site Recovery Operator"
    READER = "Site Recovery Reader"
    INJECTOR = "Injector"


class Right(StrEnum):
    """What a route asks for."""

    READ = "read"
    OPERATE = "operate"
    """Fail over, test, commit, clean up, reverse; cancel, restart and resume jobs."""

    CONFIGURE = "configure"
    """Everything that says what is protected, how, where to, and which servers may come."""

    INJECT = "inject"
    SEE_INJECTIONS = "see injections"
    ADMINISTER = "administer"
    """Give and take rights: service accounts and tokens."""


_SEES: Final = frozenset({Right.READ, Right.SEE_INJECTIONS})
_CONFIGURES: Final = _SEES | {Right.OPERATE, Right.CONFIGURE, Right.INJECT}

GRANTED: Final[Mapping[Role, frozenset[Right]]] = {
    Role.READER: _SEES,
    Role.OPERATOR: _SEES | {Right.OPERATE},
    Role.CONTRIBUTOR: _CONFIGURES,
    Role.OWNER: _CONFIGURES | {Right.ADMINISTER},
    Role.INJECTOR: frozenset({Right.INJECT, Right.SEE_INJECTIONS}),
}
"""What each role may do; what is absent is refused."""

_SHORT: Final = {"contributor": Role.CONTRIBUTOR, "operator": Role.OPERATOR, "reader": Role.READER}
"""Names without "Site Recovery": tokens and configurations may use them."""

_NAMED: Final[Mapping[str, Role]] = {**_SHORT, **{role.lower(): role for role in Role}}


class ForbiddenError(DomainError):
    """Who asks is known and has no right to this."""


def role_named(name: str) -> Role | None:
    """Return a role by its whole or short name, in any case."""
    return _NAMED.get(name.lower())


def roles_with(right: Right) -> tuple[Role, ...]:
    """Return the roles that have a right, in the order in which they are declared."""
    return tuple(role for role in Role if right in GRANTED[role])


@dataclass(frozen=True, slots=True)
class Grant:
    """A role, in one vault or (None) in all of them and over the hub itself."""

    role: Role
    vault_id: str | None = None


@dataclass(frozen=True, slots=True)
class OperatorIdentity:
    """Who asks, as a verified token says.

    `named` is what the token calls the role, for messages; `account` the service account, if it is
    one.
    """

    principal: str
    grants: tuple[Grant, ...]
    named: str = ""
    account: str | None = None

    @property
    def role(self) -> str:
        """The roles as they are told to people."""
        return ", ".join(dict.fromkeys(grant.role.value for grant in self.grants)) or self.named

    @property
    def everywhere(self) -> bool:
        """Whether any grant holds for all vaults."""
        return any(grant.vault_id is None for grant in self.grants)

    def sees(self, vault_id: str) -> bool:
        """Whether any grant holds in a vault: else it is not there for who asks."""
        return any(grant.vault_id in {None, vault_id} for grant in self.grants)

    def may(self, right: Right, vault_id: str | None = None) -> bool:
        """Whether the right is given in a vault, or (None) over the hub itself."""
        return any(
            right in GRANTED[grant.role] and grant.vault_id in {None, vault_id}
            for grant in self.grants
        )

    def check(self, right: Right) -> None:
        """Raise ForbiddenError where the right is not given over the hub itself."""
        if not self.may(right):
            raise refusal(self, right)

    def may_somewhere(self, right: Right) -> bool:
        """Whether the right is given in any vault."""
        return any(right in GRANTED[grant.role] for grant in self.grants)


def with_role(principal: str, name: str) -> OperatorIdentity:
    """Return who has one role in every vault; an unknown role gives no right."""
    role = role_named(name)
    return OperatorIdentity(principal, () if role is None else (Grant(role),), named=name)


def refusal(operator: OperatorIdentity, right: Right) -> ForbiddenError:
    """Return why a known operator is refused; it names who may, and nothing of the vault."""
    return ForbiddenError(
        f"The role '{operator.role}' has no right to {right.value} here. Ask for one of:"
        f" {', '.join(roles_with(right))}."
    )
