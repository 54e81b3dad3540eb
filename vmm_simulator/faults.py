"""Faults on demand: what the simulated fabric does wrong, verb by verb; deterministic."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass

from wire_contract.faults import Fault
from wire_contract.vocabulary import Verb


class FaultView(Fault):
    """A fault as `GET /faults` shows it; `waiting` is how many calls it holds now."""

    remaining: int | None
    hits: int
    waiting: int


@dataclass(slots=True)
class _Counter:
    fault: Fault
    remaining: int | None
    hits: int = 0
    waiting: int = 0

    def matches(self, verb: Verb, identities: Collection[str]) -> bool:
        wanted = self.fault.machine is None or self.fault.machine in identities
        return self.remaining != 0 and self.fault.verb is verb and wanted


class FaultSet:
    """The faults that are set now; `hold` keeps calls until the set is changed."""

    def __init__(self) -> None:
        self._counters: list[_Counter] = []
        self._changed = asyncio.Event()

    def replace(self, faults: Collection[Fault]) -> None:
        """Set these faults and no others; whatever was held goes on."""
        self._counters = [_Counter(fault, fault.times) for fault in faults]
        self._changed.set()
        self._changed = asyncio.Event()

    def view(self) -> tuple[FaultView, ...]:
        """Return the set with its counters."""
        return tuple(
            FaultView(
                **each.fault.model_dump(),
                remaining=each.remaining,
                hits=each.hits,
                waiting=each.waiting,
            )
            for each in self._counters
        )

    def take(self, verb: Verb, identities: Collection[str]) -> "TakenFault | None":
        """Return the first fault that applies to a call, counted, or None."""
        for counter in self._counters:
            if counter.matches(verb, identities):
                counter.hits += 1
                if counter.remaining is not None:
                    counter.remaining -= 1
                return TakenFault(counter.fault, counter, self._changed)
        return None


class TakenFault:
    """A fault that applies to one call."""

    def __init__(self, fault: Fault, counter: _Counter, changed: asyncio.Event) -> None:
        self.fault = fault
        self._counter = counter
        self._changed = changed

    async def held(self) -> None:
        """Return when the set was changed."""
        async with self._counted():
            await self._changed.wait()

    @contextlib.asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        self._counter.waiting += 1
        try:
            yield
        finally:
            self._counter.waiting -= 1
