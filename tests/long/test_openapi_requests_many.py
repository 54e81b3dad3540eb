"""The hub's own routes asked at random by their own document, 20,000 times."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.openapi_run import ask, asking

REQUESTS = 20_000


@pytest.mark.timeout(1800)
def test_never_a_500_in_twenty_thousand_requests(
    tmp_path: Path, free_port: Callable[[], int], tell: Callable[[str], None]
) -> None:
    with asking(tmp_path, free_port) as asked:
        ask(asked, REQUESTS)
        assert sum(asked.statuses.values()) >= REQUESTS
        tell(f"openapi: {dict(sorted(asked.statuses.items()))}")
