"""Who is to be looked at when: asked at each wake, so it must not cost more with more providers."""

import heapq


class DueTimes:
    """One moment for each name; the earliest is found without looking at the others."""

    def __init__(self) -> None:
        self._moments: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def note(self, name: str, moment: float | None) -> None:
        """Look at `name` at this moment and no other; None: not at all."""
        if moment is None:
            self._moments.pop(name, None)
        elif self._moments.get(name) != moment:
            self._moments[name] = moment
            heapq.heappush(self._heap, (moment, name))
        if len(self._heap) > 2 * len(self._moments) + 1:
            # What was set again or taken back lies in the heap until its moment comes.
            self._heap = [(at, each) for each, at in self._moments.items()]
            heapq.heapify(self._heap)

    def next_at(self) -> float | None:
        """Return the earliest moment, None when there is none."""
        while self._heap and self._moments.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take(self, now: float) -> set[str]:
        """Return those whose moment has come, and forget their moments."""
        due: set[str] = set()
        while (moment := self.next_at()) is not None and moment <= now:
            _, name = heapq.heappop(self._heap)
            del self._moments[name]
            due.add(name)
        return due
