"""Checks operators' bearer tokens: signature, revocation, and what their holder may do now."""

from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import ec

from certs.tokens import TokenRefusedError, verify_operator_token
from service_hub.domain.access import OperatorIdentity, with_role
from service_hub.domain.errors import UnauthenticatedError
from service_hub.domain.service_accounts import RevokedToken, ServiceAccount, identity_of
from service_hub.ports.stores import Reader


class SignedOperatorTokens:
    """The OperatorTokens of the hub's ports.

    The database is asked each time: what an owner takes back is gone at once, at every hub.
    """

    def __init__(
        self, public_key: ec.EllipticCurvePublicKey, *, issuer: str, reader: Reader
    ) -> None:
        self._public_key = public_key
        self._issuer = issuer
        self._reader = reader

    async def verify(self, token: str, now: datetime) -> OperatorIdentity:
        """Return the holder of a valid token."""
        try:
            claims = verify_operator_token(token, (self._public_key,), issuer=self._issuer, now=now)
        except TokenRefusedError as error:
            raise UnauthenticatedError(str(error)) from error
        if await self._reader.get(RevokedToken, claims.token_id) is not None:
            raise UnauthenticatedError("the token is refused: it was revoked")
        if claims.account is None:
            return with_role(claims.principal, claims.role)
        account = await self._reader.get(ServiceAccount, claims.account)
        if account is None:
            raise UnauthenticatedError("the token is refused: its service account was removed")
        return identity_of(account.record)
