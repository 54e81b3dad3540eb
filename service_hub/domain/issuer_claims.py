"""What an external issuer's token says, read as one of the hub's own identities; pure.

An issuer proves who asks. What that person may do here is what the hub's configuration gives to the
values of one claim: an issuer alone gives no right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from service_hub.domain.access import Grant, OperatorIdentity, Role
from service_hub.domain.errors import UnauthenticatedError

PRINCIPAL_CHARACTERS_MAX: Final = 128
VALUES_MAX: Final = 1_000
"""Most values of the claim that are looked at: an issuer may put a person into many groups."""

_SPACED: Final = frozenset({"scope", "scp"})
"""Claims whose text is several words, separated by spaces (RFC 8693, 4.2)."""

NO_ROLE: Final = "none of the issuer's that has one here"


@dataclass(frozen=True, slots=True)
class ClaimGrant:
    """What whoever has a value in the roles' claim may do, in one vault or (None) in all."""

    value: str
    role: Role
    vault_id: str | None = None


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """Where names and roles stand in an issuer's tokens; a path leads through objects."""

    principal: tuple[str, ...]
    roles: tuple[str, ...]
    prefix: str
    """Before each name: nobody of the issuer's has the name of one of the hub's own."""

    grants: tuple[ClaimGrant, ...]


def identity_in(claims: Mapping[str, Any], rules: ClaimRules) -> OperatorIdentity:
    """Return who a verified token names, with the roles here; UnauthenticatedError without a name.

    Who has no role here is known all the same, and may do nothing.
    """
    name = _at(claims, rules.principal)
    fits = isinstance(name, str) and 0 < len(name) <= PRINCIPAL_CHARACTERS_MAX
    if not fits or not str(name).isprintable():
        raise UnauthenticatedError(
            f"the token is refused: its claim {'.'.join(rules.principal)} is no name of at most"
            f" {PRINCIPAL_CHARACTERS_MAX} printable characters"
        )
    values = frozenset(_values(_at(claims, rules.roles), rules.roles[-1]))
    grants = dict.fromkeys(
        Grant(each.role, each.vault_id) for each in rules.grants if each.value in values
    )
    return OperatorIdentity(f"{rules.prefix}{name}", tuple(grants), named=NO_ROLE)


def _at(claims: Mapping[str, Any], path: Sequence[str]) -> object:
    found: object = claims
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _values(found: object, claim: str) -> list[str]:
    if isinstance(found, str):
        return found.split(" ")[:VALUES_MAX] if claim in _SPACED else [found]
    if isinstance(found, list):
        return [each for each in found[:VALUES_MAX] if isinstance(each, str)]
    return []
