"""What parts are given from outside: time, ids, chance, and places where tests may break in."""

from datetime import datetime
from typing import Final, Protocol


class Clock(Protocol):
    """Time, ids and chance as arguments (service_shell.clock implements it)."""

    def now(self) -> datetime:
        """Return the present moment, UTC, aware."""

    def new_id(self) -> str:
        """Return a new GUID."""


class FaultPoints(Protocol):
    """Named places where a test may kill, delay, fail or hang; off unless asked for at start."""

    async def reach(self, name: str) -> None:
        """Do what was asked for at this place."""

    def reach_now(self, name: str) -> None:
        """Do it where nothing can be awaited: kill and error alone."""


class NoFaults:
    """The fault points of a part that was given none: nothing happens."""

    async def reach(self, name: str) -> None:
        """Go on."""

    def reach_now(self, name: str) -> None:
        """Go on."""


NO_FAULTS: Final[FaultPoints] = NoFaults()
