"""Remembers which tokens were found good, so that each signature is verified once."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from certs.tokens import ProviderClaims

TOKENS_MAX: Final = 4096
"""Tokens remembered; the longest unused ones go first."""


@dataclass(frozen=True, slots=True)
class _Verified:
    claims: ProviderClaims
    at: datetime


class VerifiedTokens:
    """Answers for a token that was verified with the same certificate, until the token expires.

    It holds no token, only hashes. That a certificate was revoked is not known here: the caller
    asks the database every time, as it did before.
    """

    def __init__(self, tokens_max: int = TOKENS_MAX) -> None:
        self._tokens_max = tokens_max
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()

    def claims(
        self,
        token: str,
        certificate_pem: str,
        now: datetime,
        verify: Callable[[], ProviderClaims],
    ) -> ProviderClaims:
        """Return the claims of this token on a connection of this certificate.

        What `verify` raises passes through and is not remembered.
        """
        # "surrogatepass": whatever came in as text has a hash; whether it is a token, verify says.
        key = hashlib.sha256(
            certificate_pem.encode() + b"\0" + token.encode(errors="surrogatepass")
        ).digest()
        known = self._verified.get(key)
        # A clock that was set back is no proof of what it said before: verified again.
        if known is not None and known.at <= now < known.claims.expires_at:
            self._verified.move_to_end(key)
            return known.claims
        claims = verify()
        self._verified[key] = _Verified(claims, now)
        self._verified.move_to_end(key)
        if len(self._verified) > self._tokens_max:
            self._verified.popitem(last=False)
        return claims
