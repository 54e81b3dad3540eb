"""How much one provider may ask at the same time; beyond it 429 (design: channel, pressure)."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from service_hub.provider_api.problems import RETRY_AFTER_SECONDS, ProblemError


class Pressure:
    """Counts the requests of each provider that are being answered."""

    def __init__(self, parallel_max: int) -> None:
        self._parallel_max = parallel_max
        self._running: Counter[str] = Counter()

    @contextmanager
    def counted(self, provider_id: str) -> Iterator[None]:
        """Count a request while the block runs; ProblemError 429 when there are too many."""
        if self._running[provider_id] >= self._parallel_max:
            raise ProblemError(
                429,
                "TooManyRequests",
                f"More than {self._parallel_max} requests of this server are open.",
                "Wait for their answers.",
                {"Retry-After": str(RETRY_AFTER_SECONDS)},
            )
        self._running[provider_id] += 1
        try:
            yield
        finally:
            self._running[provider_id] -= 1
            if not self._running[provider_id]:
                del self._running[provider_id]
