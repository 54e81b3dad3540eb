"""The line from a site's hosts to those of others, which a laboratory may cut and heal."""

import contextlib
from collections.abc import Iterator
from typing import Protocol


class Cuttable(Protocol):
    """A connection that can be broken off."""

    def abort(self) -> None:
        """End it at once, as a line does that is cut."""


class ReplicationLink:
    """One for all hosts of a site; it lies on the way of every connection that they make.

    What others' hosts send here goes over their own. A simulator that is started has a line.
    """

    def __init__(self) -> None:
        self._up = True
        self._carried: set[Cuttable] = set()

    @property
    def up(self) -> bool:
        """Whether it carries anything."""
        return self._up

    def cut(self) -> None:
        """Break off what is under way, and carry nothing more."""
        self._up = False
        for each in tuple(self._carried):
            each.abort()

    def heal(self) -> None:
        """Carry new connections again."""
        self._up = True

    def require(self) -> None:
        """Return where it carries something; ConnectionError where it is cut."""
        if not self._up:
            raise ConnectionError("the replication link of this site is cut")

    @contextlib.contextmanager
    def carrying(self, connection: Cuttable) -> Iterator[None]:
        """Carry a connection for as long as the block runs; ConnectionError where it is cut."""
        self.require()
        self._carried.add(connection)
        try:
            yield
        finally:
            self._carried.discard(connection)
