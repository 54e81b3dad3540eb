"""Who insists, and since when: the local commands, the credentials file, the operator's key."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from certs.channel_integrity import fingerprint, new_key
from certs.vault_credentials import parse
from provider_agent.cli import application
from provider_agent.credentials import forget_identity
from provider_agent.operator_orders import insist, insisted_key
from provider_agent.register_command import Dialogue, RegisterOptions, run_registration
from service_shell.clock import SystemClock
from service_shell.errors import ProgramError
from service_shell.secret_files import write_secret
from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError
from site_recovery_cli.operator_signature import read_key, read_or_make_key, with_key
from tests.integration.agent_fakes.fake_hub import FakeHub
from tests.integration.agent_fakes.trust import Trust
from tests.support.setup_world import setup_world, vault_credentials
from tests.support.simulator_estate import make_estate, trust

KEY = new_key()


def command(folder: Path, *arguments: str) -> Result:
    config = folder / "agent.yaml"
    vmm = "{url: 'https://vmm:1', ca_file: ca.pem, token_file: token}"
    config.write_text(f"data_directory: data\nvmm: {vmm}\n")
    whole = ("operator-signature", arguments[0], "--config", str(config), *arguments[1:])
    return CliRunner().invoke(application, whole)


def test_a_server_insists_from_one_command_to_the_other(tmp_path: Path) -> None:
    key_file = tmp_path / "prod.key"
    write_secret(key_file, f"{KEY}\n".encode())
    assert "insists on no operator's signature" in command(tmp_path, "show").stdout
    done = command(tmp_path, "require", "--key-file", str(key_file))
    assert (done.exit_code, insisted_key(tmp_path / "data")) == (0, KEY)
    (kept,) = (tmp_path / "data/identity.operator-signature").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    shown = command(tmp_path, "show").stdout
    assert fingerprint(KEY) in shown
    assert KEY not in shown + done.stdout
    assert command(tmp_path, "off").exit_code == 0
    assert command(tmp_path, "off").exit_code == 0
    assert insisted_key(tmp_path / "data") is None


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 64, b"k" * 5000])
def test_an_unfit_key_file_changes_nothing(tmp_path: Path, content: bytes) -> None:
    insist(tmp_path / "data", KEY)
    write_secret(tmp_path / "bad.key", content)
    done = command(tmp_path, "require", "--key-file", str(tmp_path / "bad.key"))
    assert done.exit_code != 0
    assert insisted_key(tmp_path / "data") == KEY


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    key_file = tmp_path / "open.key"
    key_file.write_text(KEY)
    key_file.chmod(0o644)
    assert command(tmp_path, "require", "--key-file", str(key_file)).exit_code != 0
    with pytest.raises(ProgramError, match="others may read"):
        read_key(key_file)


def test_the_operators_key_is_made_once_and_an_unfit_one_is_named(tmp_path: Path) -> None:
    made = read_or_make_key(tmp_path / "new.key")
    assert read_or_make_key(tmp_path / "new.key") == made
    write_secret(tmp_path / "bad.key", b"short")
    with pytest.raises(CommandError, match="holds no channel integrity key") as caught:
        read_or_make_key(tmp_path / "bad.key")
    assert caught.value.exit_code == ExitCode.USAGE
    with pytest.raises(CommandError, match="is no vault credentials file"):
        with_key(b"<html/>", made)


async def test_registration_with_a_key_in_the_file_makes_the_server_insist(tmp_path: Path) -> None:
    hub = FakeHub(Trust(trust()))
    lines: list[str] = []
    dialogue = Dialogue(lines.append, lambda _: True)
    async with setup_world(make_estate(tmp_path)) as world, hub.serve():
        plain = vault_credentials(hub.url)
        assert parse(with_key(plain, KEY)).channel_integrity_key == KEY
        options = RegisterOptions(world.credentials, "Tokyo VMM", yes=True)
        settings = world.settings()
        world.credentials.write_bytes(with_key(plain, "short"))
        with pytest.raises(ProgramError, match="ChannelIntegrityKey in the credentials file"):
            await run_registration(settings, options, dialogue, SystemClock())
        assert insisted_key(settings.data_directory) is None
        world.credentials.write_bytes(with_key(plain, KEY))
        await run_registration(settings, options, dialogue, SystemClock())
    assert insisted_key(settings.data_directory) == KEY
    assert any("on an operator's signature alone" in line for line in lines)
    assert KEY not in "".join(lines)
    forget_identity(settings.data_directory)
    assert insisted_key(settings.data_directory) is None
