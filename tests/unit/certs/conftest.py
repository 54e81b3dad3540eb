"""A chain of trust that the tests of this folder share; making one is cheap, but not free."""

from datetime import UTC, datetime

import pytest

from certs.chain import TrustChain


@pytest.fixture(scope="session")
def now() -> datetime:
    """A fixed moment: nothing here depends on the day on which it runs."""
    return datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def trust(now: datetime) -> TrustChain:
    return TrustChain.create(now, "Contoso")
