"""Ten thousand connections over real TLS that send what no client sends: `make test-long`."""

import asyncio
import os

import pytest

from tests.support.channel_world import channel_world
from tests.support.mqtt_mutations import GROWTH_MAX, LIMITS_OF_AN_ATTACK, attack

# A panic of the MQTT codec is expected; with its stack it takes 25 times longer.
os.environ["RUST_BACKTRACE"] = "0"

ROUNDS = 10
PER_ROUND = 1_000

pytestmark = [
    # What the codec's panic was about goes to sys.unraisablehook, which pytest makes an error.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"
    ),
    pytest.mark.timeout(600),
]


async def test_ten_thousand_mutated_connections_hurt_nobody() -> None:
    async with asyncio.timeout(500), channel_world(LIMITS_OF_AN_ATTACK) as world:
        grown = await attack(world, rounds=ROUNDS, per_round=PER_ROUND)
    assert grown < GROWTH_MAX, f"memory grew to {grown:.2f} times"
