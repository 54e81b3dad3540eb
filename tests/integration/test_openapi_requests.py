"""The hub's own routes asked at random by their own document: 2,000 requests, a tenth of `long`."""

from collections.abc import Callable
from pathlib import Path

from service_hub.hub_api.described import OPERATIONS
from tests.support.openapi_run import ask, asking

REQUESTS = 2_000

ANSWERED_MIN = 8
"""Operations that are answered without an error, at least: 16 to 20 are, of more than 30."""


def test_never_a_500_a_hang_or_an_unauthenticated_success(
    tmp_path: Path, free_port: Callable[[], int], tell: Callable[[str], None]
) -> None:
    with asking(tmp_path, free_port) as asked:
        paths = asked.document["paths"].items()
        assert {(m.upper(), path) for path, item in paths for m in item} == set(OPERATIONS)
        ask(asked, REQUESTS)
        assert sum(asked.statuses.values()) >= REQUESTS
        assert {200, 400, 401, 403, 404} <= set(asked.statuses)
        assert len(asked.answered) >= ANSWERED_MIN
        tell(f"openapi: {dict(sorted(asked.statuses.items()))}")
