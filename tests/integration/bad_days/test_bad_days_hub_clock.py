"""The whole hub, whose clock jumps by an hour while a server and an operator use it."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.real_hub import VAULTS, Holder, RealHub, real_hub
from wire_contract import paths

HOUR = timedelta(hours=1)
BEAT = b'{"boot_id": "b", "last": null, "fabric_reachable": true}'


def beat(hub: RealHub, server: Holder) -> int:
    return hub.provider("POST", paths.HEARTBEAT, server, BEAT).code


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["ahead", "back"])
def test_a_jump_and_its_end_cost_tokens_at_most(
    tmp_path: Path, free_port: Callable[[], int], jump: timedelta
) -> None:
    """A token of the other time is refused in its own words; a new one is given and works."""
    with real_hub(tmp_path, free_port) as hub:
        server = hub.registered("prod")
        assert beat(hub, server) == 200
        for ahead in (jump, timedelta(0)):
            hub.clock.ahead = ahead
            refused = hub.provider("POST", paths.HEARTBEAT, server, BEAT)
            if refused.code != 200:
                assert refused.code == 401, refused
                assert refused.content["code"] == "Unauthenticated"
                server = hub.renewed(server)
            assert beat(hub, server) == 200
            answer = hub.operator("GET", "/hub/v1/vaults")
            if jump > timedelta(0) or not ahead:
                assert answer.code == 200, answer
                name = "ahead" if ahead else "back"
                body = {"location": "local", "sku": {"name": "RS0"}, "properties": {}}
                path = f"{VAULTS}/{name}?api-version=2024-04-01"
                assert hub.operator("PUT", path, body).code in {200, 201, 202}
            else:  # the operator's token was made an hour later
                assert answer.code == 401, answer
        assert hub.failures == []
