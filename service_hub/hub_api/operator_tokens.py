"""Checks operators' bearer tokens: signature, revocation, and what their holder may do now."""

import hashlib
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from certs.tokens import OperatorClaims, TokenRefusedError, verify_operator_token
from service_hub.domain.access import OperatorIdentity, with_role
from service_hub.domain.errors import UnauthenticatedError
from service_hub.domain.service_accounts import RevokedToken, ServiceAccount, identity_of
from service_hub.ports.stores import Reader

KNOWN_MAX: Final = 1_024
"""Tokens of which is kept what they say."""


class SignedOperatorTokens:
    """The OperatorTokens of the hub's ports.

    The database is asked each time: what an owner takes back is gone at once, at every hub. What a
    token says is kept from when it was looked at until it expires: its signature holds for ever. By
    a clock that went back it may be one of the future, so it is looked at again.
    """

    def __init__(
        self, public_key: ec.EllipticCurvePublicKey, *, issuer: str, reader: Reader
    ) -> None:
        self._public_key = public_key
        self._issuer = issuer
        self._reader = reader
        self._known: dict[bytes, tuple[datetime, OperatorClaims]] = {}

    async def verify(self, token: str, now: datetime) -> OperatorIdentity:
        """Return the holder of a valid token."""
        claims = self._claims(token, now)
        if await self._reader.get(RevokedToken, claims.token_id) is not None:
            raise UnauthenticatedError("the token is refused: it was revoked")
        if claims.account is None:
            return with_role(claims.principal, claims.role)
        account = await self._reader.get(ServiceAccount, claims.account)
        if account is None:
            raise UnauthenticatedError("the token is refused: its service account was removed")
        return identity_of(account.record)

    def _claims(self, token: str, now: datetime) -> OperatorClaims:
        # A digest, so that no token stays in memory that somebody could read and use.
        digest = hashlib.sha256(token.encode(errors="surrogatepass")).digest()
        known = self._known.get(digest)
        if known is not None and known[0] <= now < known[1].expires_at:
            return known[1]
        self._known.pop(digest, None)
        try:
            claims = verify_operator_token(token, (self._public_key,), issuer=self._issuer, now=now)
        except TokenRefusedError as error:
            raise UnauthenticatedError(str(error)) from error
        if len(self._known) >= KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[digest] = (now, claims)
        return claims
