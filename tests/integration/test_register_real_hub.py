"""`provider-agent register` before the real hub: what will not do is refused, each by its words.

Each refusal leaves nothing behind: the same server then registers with a good file.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from certs.vault_credentials import parse, render
from provider_agent.credentials import is_registered
from provider_agent.register_command import Dialogue, RegisterOptions, run_registration
from service_shell.clock import SystemClock
from service_shell.errors import ProgramError
from tests.support.real_hub import VMM_ID, MovedClock, RealHub, real_hub
from tests.support.setup_world import SetupWorld, setup_world
from tests.support.simulator_estate import make_estate

HOUR = timedelta(hours=1)


@pytest.fixture
def hub(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[RealHub]:
    folder = tmp_path / "served"
    folder.mkdir()
    with real_hub(folder, free_port) as running:
        yield running


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[SetupWorld]:
    async with setup_world(make_estate(tmp_path), id=VMM_ID) as made:
        yield made


async def register(world: SetupWorld, content: bytes, clock: SystemClock | None = None) -> str:
    """Register with a file of this content; return what was said, the refusal included."""
    world.credentials.write_bytes(content)
    said: list[str] = []
    options = RegisterOptions(world.credentials, "Tokyo VMM", yes=True)
    dialogue = Dialogue(said.append, lambda _: False)
    try:
        await run_registration(world.settings(), options, dialogue, clock or SystemClock())
    except ProgramError as error:
        said.append(str(error))
        assert not is_registered(world.settings().data_directory)
    return "\n".join(said)


async def test_each_key_that_is_refused_has_its_words_and_a_good_one_registers(
    hub: RealHub, world: SetupWorld
) -> None:
    revoked, thumbprint = hub.credentials("prod")
    hub.revoke("prod", thumbprint)
    told = await register(world, revoked)
    assert "the hub refuses the registration: The registration key " in told
    assert " was revoked at " in told
    assert "Generate a new registration key in the vault" in told

    file = parse(hub.credentials("prod")[0])
    other = replace(file, vault_name="other", service_principal_client_id=hub.vault("other"))
    told = await register(world, render(other))
    assert "belongs to the vault 'prod', not to the one that the credentials file names" in told

    good, _ = hub.credentials("prod")
    assert "registered as Tokyo VMM" in await register(world, good)


async def test_an_hour_ahead_of_the_hub_is_told_before_anything_is_asked(
    hub: RealHub, world: SetupWorld
) -> None:
    good, _ = hub.credentials("prod")
    hub.clock.ahead = -HOUR
    told = await register(world, good)
    assert "this server's clock is 3600 s ahead of the hub's; nothing was registered" in told
    assert "set this server's clock" in told
    hub.clock.ahead = timedelta(0)
    assert "registered as Tokyo VMM" in await register(world, good)


async def test_an_hour_behind_the_hub_is_told_before_anything_is_asked(
    hub: RealHub, world: SetupWorld
) -> None:
    good, _ = hub.credentials("prod")
    hub.clock.ahead = HOUR
    told = await register(world, good)
    assert "this server's clock is 3600 s behind the hub's; nothing was registered" in told
    hub.clock.ahead = timedelta(0)
    assert "registered as Tokyo VMM" in await register(world, good)


async def test_a_hub_that_began_an_hour_ahead_is_told_by_the_file_and_by_tls(
    tmp_path: Path, free_port: Callable[[], int], world: SetupWorld
) -> None:
    """Its certificate, and the key's, are not valid yet at this server's time."""
    folder = tmp_path / "ahead"
    folder.mkdir()
    with real_hub(folder, free_port, ahead=HOUR) as hub:
        content = hub.credentials("prod")[0]
        told = await register(world, content)
        assert "is valid only from" in told
        assert "set this server's clock" in told
        told = await register(world, content, MovedClock(HOUR))
        assert "is not valid at this server's time" in told
        assert "synchronise both clocks (NTP)" in told
        assert os.fspath(world.credentials) not in told
