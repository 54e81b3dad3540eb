"""The machine's clock, moved on by as much as a test likes."""

from datetime import datetime, timedelta

from service_shell.clock import SystemClock


class MovedClock(SystemClock):
    """A clock that is `ahead` of the machine's."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        """Return the moved moment."""
        return super().now() + self.ahead
