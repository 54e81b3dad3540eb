"""Providers as the engine sees them: a command that is committed is answered after its time.

They stand right behind the store: what a transaction has put into the outbox they have at once,
each answer is fed to the engine when its time has come, and receipts are reported together, as
agents report them. What they themselves need of the processor is counted.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pydantic import JsonValue

from service_hub.domain.jobs import PartSucceeded
from service_hub.ports.changes import Applied, Change, EventReceipt, NewEvent
from service_hub.ports.running import JobRunner
from service_hub.ports.stores import Committer, Store
from service_hub.ports.surroundings import Clock
from wire_contract.events import parse_assignment_task
from wire_contract.vocabulary import EventType

REPORT_SECONDS: Final = 0.25
"""How often a provider reports its receipts."""

OBSERVED: Final[dict[str, JsonValue]] = {"state": "Running", "epoch": 2, "result": {"cut": 12}}
"""What is read back after a task."""


class PlayedProviders:
    """The store, and all providers behind its outbox."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        streams: Mapping[str, str],
        answers: Callable[[str], Mapping[str, float] | None],
        group: asyncio.TaskGroup,
    ) -> None:
        self._store = store
        self._clock = clock
        self._streams = streams
        self._answers = answers
        self._group = group
        self._loop = asyncio.get_running_loop()
        self._runner: JobRunner | None = None
        self._last_seq: dict[str, int] = dict.fromkeys(streams, 0)
        self._known: dict[str, Mapping[str, float] | None] = {}
        self._receipts: defaultdict[str, list[EventReceipt]] = defaultdict(list)
        self._reporting = asyncio.Lock()
        self.own_seconds = 0.0
        self.commands = 0
        self._ended_count = 0
        self._wanted_ends = 0
        self._some_ended = asyncio.Event()
        self.first_command: asyncio.Future[float] = self._loop.create_future()

    def __getattr__(self, name: str) -> Any:
        """Everything else is the store's."""
        return getattr(self._store, name)

    def answer_to(self, runner: JobRunner) -> None:
        """Feed the answers to this engine."""
        self._runner = runner

    async def apply(self, changes: Sequence[Change]) -> Applied:
        """Store a batch; what it has put into the outbox is with the providers then."""
        outcomes = await self._store.apply(changes)
        began = time.thread_time()
        for change, outcome in zip(changes, outcomes, strict=True):
            if isinstance(outcome, int):
                for event in change.events:
                    self._take(event)
                self._ended_count += len(change.ends)
        if self._ended_count >= self._wanted_ends:
            self._some_ended.set()
        self.own_seconds += time.thread_time() - began
        return outcomes

    async def have_ended(self, jobs: int) -> None:
        """Return when the ends of so many jobs are durable."""
        self._wanted_ends = jobs
        if self._ended_count < jobs:
            self._some_ended.clear()
        await self._some_ended.wait()

    async def report_receipts(self, committer: Committer) -> None:
        """Report every provider's receipts together, again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            await self.settle(committer)

    async def settle(self, committer: Committer) -> None:
        """Return when what there is now is reported."""
        async with self._reporting:
            for provider_id in list(self._receipts):
                await committer.commit(Change(receipts=self._receipts.pop(provider_id)))

    def _take(self, event: NewEvent) -> None:
        provider_id = event.provider_id
        seq = self._last_seq[provider_id] = self._last_seq[provider_id] + 1
        self._receipts[provider_id].append(
            EventReceipt(provider_id, self._streams[provider_id], seq, "journalled")
        )
        if event.type is not EventType.ASSIGNMENT:
            return
        self.commands += 1
        if not self.first_command.done():
            self.first_command.set_result(time.monotonic())
        job_id = str(event.body["job"])
        if job_id not in self._known:
            self._known[job_id] = self._answers(job_id)
        answers = self._known[job_id]
        if answers is not None:
            task_id, _ = parse_assignment_task(str(event.body["task"]))
            self._loop.call_later(answers[task_id], self._answer, event)

    def _answer(self, event: NewEvent) -> None:
        began = time.thread_time()
        assert self._runner is not None, "the engine runs before anything is committed"
        task_id, side = parse_assignment_task(str(event.body["task"]))
        now = self._clock.now()
        answer = PartSucceeded(
            now=now,
            task_id=task_id,
            side=side,
            attempt=int(str(event.body["attempt"])),
            observed=OBSERVED,
            observed_at=now,
        )
        self._group.create_task(self._runner.feed(str(event.body["job"]), answer))
        self.own_seconds += time.thread_time() - began
