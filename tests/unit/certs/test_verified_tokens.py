"""A token is verified once for each certificate, and never outlives what it says."""

from datetime import UTC, datetime, timedelta

import pytest

from certs.tokens import ProviderClaims, TokenRefusedError
from certs.verified_tokens import VerifiedTokens

NOW = datetime(2026, 11, 23, tzinfo=UTC)


class Verifier:
    """Counts its calls; answers or refuses as told."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.calls = 0
        self._refuses = refuses

    def __call__(self) -> ProviderClaims:
        """Return claims that hold for an hour."""
        self.calls += 1
        if self._refuses:
            raise TokenRefusedError("it has expired")
        return ProviderClaims("tokyo", "vault", NOW + timedelta(hours=1))


def test_the_signature_is_verified_once() -> None:
    tokens, verify = VerifiedTokens(), Verifier()
    for minutes in (0, 1, 59):
        claims = tokens.claims("token", "pem", NOW + timedelta(minutes=minutes), verify)
        assert claims.provider_id == "tokyo"
    assert verify.calls == 1


@pytest.mark.parametrize(
    ("token", "pem", "later"),
    [
        ("other", "pem", timedelta(0)),
        ("token", "other", timedelta(0)),
        ("token", "pem", timedelta(hours=1)),
        ("token", "pem", timedelta(seconds=-1)),
    ],
    ids=["another token", "another certificate", "expired", "clock set back"],
)
def test_everything_else_is_verified_again(token: str, pem: str, later: timedelta) -> None:
    tokens, refusing = VerifiedTokens(), Verifier(refuses=True)
    tokens.claims("token", "pem", NOW, Verifier())
    with pytest.raises(TokenRefusedError):
        tokens.claims(token, pem, NOW + later, refusing)
    assert refusing.calls == 1


def test_a_refusal_is_not_remembered_and_memory_is_bounded() -> None:
    tokens, verify = VerifiedTokens(tokens_max=2), Verifier()
    with pytest.raises(TokenRefusedError):
        tokens.claims("\ud800", "pem", NOW, Verifier(refuses=True))
    for token in ("a", "b", "a", "c", "a", "b"):
        tokens.claims(token, "pem", NOW, verify)
    assert verify.calls == 4, "b was the longest unused one when c came"
