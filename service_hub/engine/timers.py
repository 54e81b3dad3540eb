"""When jobs are to be looked at: a heap, so that a thousand waiting jobs cost nothing."""

import heapq
from datetime import datetime


class Timers:
    """One moment for each job; the earliest is found without looking at the others.

    They are no second truth: each follows from the stored job (domain.decide.next_deadline), and is
    found again when the job is taken up.
    """

    def __init__(self) -> None:
        self._due: dict[str, datetime] = {}
        self._heap: list[tuple[datetime, str]] = []

    def set(self, job_id: str, due: datetime | None) -> None:
        """Look at the job at this moment and no other; None: not at all."""
        if due is None:
            self._due.pop(job_id, None)
        elif self._due.get(job_id) != due:
            self._due[job_id] = due
            heapq.heappush(self._heap, (due, job_id))
        if len(self._heap) > 2 * len(self._due) + 64:
            # What was set anew or taken back lies in the heap until its moment comes.
            self._heap = [(at, each) for each, at in self._due.items()]
            heapq.heapify(self._heap)

    def next_at(self) -> datetime | None:
        """Return the earliest moment, None when there is none."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take(self, now: datetime, at_most: int) -> list[str]:
        """Return the jobs whose moment has come, the earliest first, and forget their moments."""
        taken: list[str] = []
        while len(taken) < at_most and (due := self.next_at()) is not None and due <= now:
            _, job_id = heapq.heappop(self._heap)
            del self._due[job_id]
            taken.append(job_id)
        return taken
