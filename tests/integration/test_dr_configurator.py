import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from provider_agent.credentials import is_registered
from tests.integration.agent_fakes.fake_hub import FakeHub
from tests.integration.agent_fakes.trust import Trust
from tests.support.setup_world import SetupWorld, setup_world, vault_credentials
from tests.support.simulator_estate import make_estate, trust

RUN = "from provider_agent.dr_configurator import main; main()"
SECONDS_MAX = 30


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[SetupWorld]:
    hub = FakeHub(Trust(trust()))
    async with setup_world(make_estate(tmp_path)) as made, hub.serve():
        made.credentials.write_bytes(vault_credentials(hub.url))
        made.config.write_text(json.dumps(made.configuration()))
        yield made


async def configurator(*words: str | Path) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        RUN,
        *map(str, words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), SECONDS_MAX)
    return process.returncode or 0, output.decode(), errors.decode()


async def test_it_registers_as_the_seed_shows(world: SetupWorld) -> None:
    code, output, errors = await configurator(
        *("/R", "/friendlyname", "Tokyo VMM", "/CREDENTIALS", world.credentials),
        *("/EncryptionEnabled", world.folder / "c.pfx", "--config", world.config),
    )
    assert code == 0, errors
    assert "vault: Contoso vault" in output
    assert "is not used" in output
    assert "registered as Tokyo VMM" in output
    assert is_registered(world.settings().data_directory)


async def test_a_password_on_the_command_line_is_warned_about_and_never_shown(
    world: SetupWorld,
) -> None:
    code, output, errors = await configurator(
        *("/r", "/Friendlyname", "Tokyo", "/Credentials", world.credentials),
        *("/proxyAddress", "127.0.0.1", "/proxyport", "1"),
        *("/proxyUsername", "user", "/proxyPassword", "s3cret-word", "--config", world.config),
    )
    assert code == 1
    assert "visible in the process list" in errors
    assert "the proxy 127.0.0.1:1 is not accepted" in errors
    assert "s3cret-word" not in output + errors
    assert not is_registered(world.settings().data_directory)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["/r", "/Friendlyname", "T"], "/Credentials is missing"),
        (["/r", "/Friendlyname", "T", "/Credentials", "f", "--config", "/no"], "/no"),
        (["/x"], "word 1 is no switch"),
        (
            ["/R", "/VMMFRIENDLYNAME", "T", "/credentials", "f", "/DataEncryptionEnabled", "c.cer"],
            "/EncryptionEnabled: the encryption certificate's file must end in .pfx",
        ),
    ],
)
async def test_mistakes_end_with_one_line(words: list[str], message: str) -> None:
    code, _, errors = await configurator(*words)
    assert code == 1
    (line,) = errors.splitlines()
    assert line.startswith("error: ")
    assert message in line


async def test_help_shows_the_switches() -> None:
    code, output, _ = await configurator("/?")
    assert code == 0
    assert "/proxyPassword" in output
