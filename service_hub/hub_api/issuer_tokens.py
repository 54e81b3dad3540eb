"""Checks operators' tokens of an external issuer, beside the hub's own."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from certs.issuer_tokens import (
    IssuerKey,
    UnknownKeyError,
    unverified_issuer,
    verify_issuer_token,
)
from certs.tokens import TokenRefusedError
from service_hub.domain.access import OperatorIdentity
from service_hub.domain.errors import UnauthenticatedError
from service_hub.domain.issuer_claims import ClaimRules, identity_in
from service_hub.domain.service_accounts import RevokedToken, may_be_token_id
from service_hub.hub_api.issuer_keys import IssuerKeys
from service_hub.ports.stores import Reader
from service_hub.ports.use_cases import OperatorTokens

REVOKED: Final = "the token is refused: it was revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerTokens:
    """The OperatorTokens of an external issuer."""

    issuer: str
    audience: str
    algorithms: Collection[str]
    tolerance_seconds: int
    rules: ClaimRules
    keys: IssuerKeys
    reader: Reader

    async def verify(self, token: str, now: datetime) -> OperatorIdentity:
        """Return the holder of a valid token.

        UnauthenticatedError; IssuerUnavailableError where only the issuer could tell.
        """
        try:
            try:
                claims = self._claims(token, await self.keys.known(), now)
            except UnknownKeyError:
                # The issuer may have a new key since: asked at most every few seconds.
                claims = self._claims(token, await self.keys.renewed(), now)
        except TokenRefusedError as error:
            raise UnauthenticatedError(str(error)) from error
        identity = identity_in(claims, self.rules)
        token_id = claims.get("jti")
        if (
            isinstance(token_id, str)
            and may_be_token_id(token_id)
            and await self.reader.get(RevokedToken, token_id) is not None
        ):
            raise UnauthenticatedError(REVOKED)
        return identity

    def _claims(self, token: str, keys: tuple[IssuerKey, ...], now: datetime) -> dict[str, object]:
        return dict(
            verify_issuer_token(
                token,
                keys,
                issuer=self.issuer,
                audience=self.audience,
                algorithms=self.algorithms,
                now=now,
                tolerance_seconds=self.tolerance_seconds,
            )
        )


@dataclass(frozen=True, slots=True)
class TokensOfBoth:
    """The OperatorTokens of a hub with an external issuer: whose a token is, it says itself.

    That only chooses by whom it is verified: each verifies the issuer among the rest.
    """

    own: OperatorTokens
    external: IssuerTokens

    async def verify(self, token: str, now: datetime) -> OperatorIdentity:
        """Return the holder of a valid token of either."""
        if unverified_issuer(token) == self.external.issuer:
            return await self.external.verify(token, now)
        return await self.own.verify(token, now)
