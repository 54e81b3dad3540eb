"""How much may be asked: of one provider at a time (429), of all that arrive together (503).

See design: channel, pressure.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from service_hub.domain.accept_rate import AcceptRate
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


class Arrivals:
    """Lets so many providers begin a session each second, and gives the others a time."""

    def __init__(self, rate: AcceptRate | None) -> None:
        self._rate = rate

    def take_in(self) -> None:
        """Count one who arrives; ProblemError 503 with Retry-After when there are too many."""
        seconds = None if self._rate is None else self._rate.ask(asyncio.get_running_loop().time())
        if seconds is not None:
            raise ProblemError(
                503,
                "Busy",
                "Too many servers connect at this moment.",
                f"Come again in {seconds} s; the provider does so by itself.",
                {"Retry-After": str(seconds)},
            )
