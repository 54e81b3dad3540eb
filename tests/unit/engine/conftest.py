from collections.abc import Iterator
from typing import Any

import pytest
import structlog


@pytest.fixture(autouse=True)
def _logged() -> Iterator[list[Any]]:
    """Keep what is logged: to render a trace for a reader takes longer than a test."""
    with structlog.testing.capture_logs() as entries:
        yield entries
