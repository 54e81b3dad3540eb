"""Reads of outboxes that are asked for at the same time are made as one.

A thousand long polls that a commit wakes, or that begin together, are answered by a few reads.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from service_hub.ports.stores import OutboxReader, StreamPage

PROVIDERS_MAX: Final = 200
"""Providers in one read: more would hold the loop up."""


@dataclass(eq=False, slots=True)
class _Question:
    provider_id: str
    after: int
    limit: int
    is_answered: bool = False
    page: StreamPage | None = None
    failure: Exception | None = None


class ReadingDesk:
    """Whoever has its turn reads for all that have asked by then."""

    def __init__(self, reader: OutboxReader) -> None:
        self._reader = reader
        self._asked: list[_Question] = []
        self._turn = asyncio.Lock()

    async def page(self, provider_id: str, after: int, limit: int) -> StreamPage | None:
        """Return a provider's stream and what is above a number; None: it has no stream.

        The read begins after the question, so that it sees every commit before it.
        """
        question = _Question(provider_id, after, limit)
        self._asked.append(question)
        async with self._turn:
            while not question.is_answered:
                await self._answer_some()
        if question.failure is not None:
            raise question.failure
        return question.page

    async def _answer_some(self) -> None:
        batch = self._taken()
        try:
            await self._answer(list(batch.values()))
        except Exception as error:  # noqa: BLE001 -- raised again for everybody who asked
            for question in batch.values():
                if not question.is_answered:
                    question.is_answered, question.failure = True, error
        finally:
            # Who reads may be cancelled: the others' questions are still open then.
            self._asked[:0] = [each for each in batch.values() if not each.is_answered]

    def _taken(self) -> dict[str, _Question]:
        """Take the oldest questions, one of each provider: places may differ."""
        batch: dict[str, _Question] = {}
        later: list[_Question] = []
        for question in self._asked:
            if question.provider_id in batch or len(batch) >= PROVIDERS_MAX:
                later.append(question)
            else:
                batch[question.provider_id] = question
        self._asked = later
        return batch

    async def _answer(self, questions: list[_Question]) -> None:
        limit = max(each.limit for each in questions)
        pages = await self._reader.pages(
            {each.provider_id: each.after for each in questions}, limit
        )
        for question in questions:
            page = pages.get(question.provider_id)
            if page is None and len(questions) > 1:
                # It may have been left out, since all were too large together.
                page = (
                    await self._reader.pages({question.provider_id: question.after}, question.limit)
                ).get(question.provider_id)
            if page is not None:
                page = StreamPage(page.stream, page.events[: question.limit])
            question.is_answered, question.page = True, page
