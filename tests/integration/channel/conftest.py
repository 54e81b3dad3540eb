"""Everything here runs under both event loops that the hub may have."""

import asyncio
import os
from collections.abc import Callable, Mapping

import uvloop

# A panic of the MQTT codec is expected in some tests; with its stack it takes 25 times longer.
os.environ["RUST_BACKTRACE"] = "0"


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return the loops: the hub takes uvloop, and plain asyncio where that is missing."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
