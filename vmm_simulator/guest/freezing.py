"""The host's side of holding a guest still for a cut, as a volume shadow copy does."""

import asyncio
from collections.abc import Callable
from typing import Any

from vmm_simulator.guest.frames import (
    Frame,
    FrameError,
    Kind,
    encode_number,
    parse_number,
    parse_object,
)


class Freezing:
    """Asks for a freeze and its end; each freeze has a number, so that a late answer is none."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._number = 0
        self._frozen: asyncio.Future[None] | None = None
        self._thawed: asyncio.Future[bool] | None = None

    async def freeze(self, seconds: float) -> None:
        """Return when the guest holds still; TimeoutError when it does not within the bound."""
        self._number += 1
        self._frozen = asyncio.get_running_loop().create_future()
        self._send(encode_number(Kind.FREEZE, self._number))
        async with asyncio.timeout(seconds):
            await self._frozen

    async def thaw(self, seconds: float) -> bool:
        """End the freeze; whether the guest had held still until now."""
        self._thawed = asyncio.get_running_loop().create_future()
        self._send(encode_number(Kind.THAW, self._number))
        try:
            async with asyncio.timeout(seconds):
                return await self._thawed
        except TimeoutError:
            return False

    def take(self, frame: Frame) -> None:
        """Take an answer of the guest; FrameError when it is none."""
        if frame.kind is Kind.FROZEN:
            if parse_number(frame.body) == self._number:
                _resolve(self._frozen, None)
            return
        answer = parse_object(frame.body)
        number, held = answer.get("token"), answer.get("held")
        if type(number) is not int or type(held) is not bool:
            raise FrameError("a guest that is thawed says its token and whether it held still")
        if number == self._number:
            _resolve(self._thawed, held)

    def waiting(self) -> list[asyncio.Future[Any]]:
        """Return what still waits for an answer."""
        return [each for each in (self._frozen, self._thawed) if each is not None]


def _resolve(waiting: "asyncio.Future[Any] | None", value: object) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(value)
