"""Checks operators' bearer tokens against the hub's token key."""

from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import ec

from certs.tokens import TokenRefusedError, verify_operator_token
from service_hub.domain.access import OperatorIdentity, with_role
from service_hub.domain.errors import UnauthenticatedError


class SignedOperatorTokens:
    """The OperatorTokens of the hub's ports."""

    def __init__(self, public_key: ec.EllipticCurvePublicKey, *, issuer: str) -> None:
        self._public_key = public_key
        self._issuer = issuer

    async def verify(self, token: str, now: datetime) -> OperatorIdentity:
        """Return the holder of a valid token."""
        try:
            claims = verify_operator_token(token, (self._public_key,), issuer=self._issuer, now=now)
        except TokenRefusedError as error:
            raise UnauthenticatedError(str(error)) from error
        return with_role(claims.principal, claims.role)
