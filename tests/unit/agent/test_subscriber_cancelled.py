"""An agent that stops waits for nobody: a cancellation that another library lost is found again."""

import asyncio
from typing import Any, cast

from provider_agent.domain.transports import MqttTransport
from provider_agent.subscriber import Subscriber
from tests.support.moved_clock import MovedClock


class Session:
    """A session that has begun."""

    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self.connected.set()
        self.events_due = asyncio.Event()


class Hub:
    """A hub that refuses at the moment in which the agent stops, as asyncio.wait_for loses it."""

    async def access_token(self) -> str:
        """Lose a cancellation; refuse."""
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            raise OSError("refused") from None
        raise AssertionError("nothing was cancelled")


async def test_a_cancellation_that_came_with_a_refusal_ends_the_subscriber() -> None:
    nothing = cast("Any", None)
    subscriber = Subscriber(
        cast("Any", Hub()),
        nothing,
        cast("Any", Session()),
        MovedClock(),
        provider_id="provider-1",
        addresses=nothing,
        transport=MqttTransport.TLS,
        tls=nothing,
    )
    running = asyncio.create_task(subscriber.run())
    ended, _ = await asyncio.wait({running}, timeout=10)
    running.cancel()
    assert running in ended
    assert running.cancelled()
