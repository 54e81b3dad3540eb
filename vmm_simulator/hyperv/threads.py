"""Blocking file work in threads, never left running behind the back of its caller."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def run_to_end(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run in a thread; when cancelled, wait for the thread's end before saying so.

    A thread cannot be stopped. A caller that holds a lock or a file for it must not let go while it
    still writes.
    """
    future = asyncio.get_running_loop().run_in_executor(None, partial(function, *args, **kwargs))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await wait_for_end(future)
        raise


async def wait_for_end(future: "asyncio.Future[T]") -> None:
    """Return when the thread has ended, however often the caller is cancelled meanwhile."""
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError:
            # The caller is already being cancelled and raises that as soon as this returns.
            continue
    if not future.cancelled():
        future.exception()
