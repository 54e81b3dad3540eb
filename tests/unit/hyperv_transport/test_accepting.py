"""Who calls in the moment in which a port stops waiting is not forgotten."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from vmm_simulator.hyperv.accepting import next_caller

SECONDS_MAX = 10
TURNS_MAX = 5
"""Within so many turns of a loop a connection is seen, taken and handed on."""

RUNS: dict[str, Callable[[Coroutine[Any, Any, None]], None]] = {
    "asyncio": asyncio.run,
    "uvloop": uvloop.run,
}


async def called_and_cancelled(listening: socket.socket, turns: int) -> None:
    """Call, let the loop turn, and cancel who waits: the caller is then taken by the next wait."""
    waiting = asyncio.create_task(next_caller(listening))
    await asyncio.sleep(0)
    with socket.create_connection(listening.getsockname(), timeout=SECONDS_MAX) as caller:
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        if waiting.cancelled():
            async with asyncio.timeout(SECONDS_MAX):
                accepted = await next_caller(listening)
        else:
            accepted = waiting.result()
        with accepted:
            assert accepted.getpeername() == caller.getsockname()


@pytest.mark.parametrize("loop", RUNS)
def test_a_wait_that_is_cancelled_has_taken_no_caller(loop: str) -> None:
    async def every_moment() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)  # noqa: FBT003 -- the socket module's signature
            for turns in range(TURNS_MAX + 1):
                await called_and_cancelled(listening, turns)

    RUNS[loop](every_moment())


@pytest.mark.parametrize("loop", RUNS)
def test_callers_are_taken_in_order(loop: str) -> None:
    async def both() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)  # noqa: FBT003 -- the socket module's signature
            callers = [socket.create_connection(listening.getsockname()) for _ in range(2)]
            for caller in callers:
                async with asyncio.timeout(SECONDS_MAX):
                    accepted = await next_caller(listening)
                with accepted, caller:
                    assert accepted.getpeername() == caller.getsockname()
                    assert accepted.gettimeout() == 0

    RUNS[loop](both())
