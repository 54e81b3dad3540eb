"""The command line against the real hub process: vaults and registration keys from end to end."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from certs.vault_credentials import parse
from site_recovery_cli.cli import application
from site_recovery_cli.exit_codes import ExitCode

SERVICE_HUB = Path(sys.executable).with_name("service-hub")
HOST = "127.0.0.1"
READY_SECONDS_MAX = 60


def configuration(folder: Path, ports: tuple[int, int, int]) -> Path:
    operator, provider, mqtt = ports
    file = folder / "hub.yaml"
    file.write_text(
        f"data_directory: hub\nkey_file: hub.key\npublic_url: https://{HOST}:{operator}\n"
        f"operator: {{host: {HOST}, port: {operator}}}\n"
        f"provider: {{host: {HOST}, port: {provider}, public_url: 'https://{HOST}:{provider}'}}\n"
        f"mqtt: {{host: {HOST}, port: {mqtt}, public_host: {HOST}}}\n"
        "log: {file: hub.log}\nready_file: ready.json\n"
    )
    return file


@pytest.fixture
def hub_url(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[str]:
    """Run a fresh hub, with a Contributor's token in `token`."""
    ports = (free_port(), free_port(), free_port())
    config = str(configuration(tmp_path, ports))
    token = ("--principal", "anna", "--role", "Contributor", "--hours", "1")
    for command in (
        ("init", "--config", config),
        ("token", "issue", "--config", config, *token, "--output", str(tmp_path / "token")),
    ):
        subprocess.run([SERVICE_HUB, *command], check=True, timeout=60, capture_output=True)
    process = subprocess.Popen([SERVICE_HUB, "run", "--config", config])
    try:
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not (tmp_path / "ready.json").exists():
            assert process.poll() is None, (tmp_path / "hub.log").read_text()
            assert time.monotonic() < deadline, "the hub is not ready"
            time.sleep(0.05)
        yield f"https://{HOST}:{ports[0]}"
    finally:
        process.terminate()
        process.wait(30)


def test_a_vault_and_its_registration_keys(hub_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "profiles"

    def run(*arguments: str, code: int = 0) -> str:
        environment = {"SITE_RECOVERY_CONFIG_DIRECTORY": str(folder)}
        done = CliRunner().invoke(application, arguments, env=environment)
        assert done.exit_code == code, (arguments, done.stdout, done.stderr, done.exception)
        return done.stdout

    trust = ("--ca-file", str(tmp_path / "hub/trust/root.pem"))
    run("login", "--hub", hub_url, *trust, "--token-file", str(tmp_path / "token"))
    made = json.loads(run("vault", "create", "prod", "--region", "local", "-o", "json"))
    assert (made["name"], made["state"]) == ("prod", "Active")
    key_file = tmp_path / "prod.VaultCredentials"
    run("vault", "registration-key", "--vault", "prod", "-o", str(key_file))
    assert parse(key_file.read_bytes()).vault_name == "prod"
    insisting, secret = tmp_path / "insisting.VaultCredentials", tmp_path / "prod.key"
    with_key = ("--channel-integrity-key-file", str(secret))
    run("vault", "registration-key", "--vault", "prod", *with_key, "-o", str(insisting))
    assert parse(key_file.read_bytes()).channel_integrity_key == ""
    assert parse(insisting.read_bytes()).channel_integrity_key == secret.read_text().strip()
    assert (secret.stat().st_mode & 0o777, insisting.stat().st_mode & 0o777) == (0o600, 0o600)
    for switch, required in (("--require", True), ("--no-require", False)):
        run("vault", "set", "prod", f"{switch}-operator-signature")
        shown = json.loads(run("vault", "show", "prod", "-o", "json"))
        assert shown["operator_signature_required"] is required
    assert secret.read_text().strip() not in (tmp_path / "hub.log").read_text()
    key, _ = json.loads(run("vault", "keys", "--vault", "prod", "-o", "json"))
    run("vault", "revoke-key", key["key_id"], "--vault", "prod", "--yes")
    revoked, _ = json.loads(run("vault", "keys", "--vault", "prod", "-o", "json"))
    assert revoked["revoked_at"] is not None
    assert revoked["state"] != key["state"]
    assert json.loads(run("server", "list", "--vault", "prod", "-o", "json")) == []
    assert json.loads(run("server", "approvals", "--vault", "prod", "-o", "json")) == []
    assert json.loads(run("server", "alerts", "--vault", "prod", "-o", "json")) == []
    where = ("--vault", "prod")
    changed = json.loads(run("changes", *where, "-o", "json"))
    assert {"vault", "registration_key"} <= {row["kind"] for row in changed}
    newest = max(row["change"] for row in changed)
    since = ("--since", str(newest))
    assert json.loads(run("changes", *where, *since, "-o", "json")) == []
    assert json.loads(run("job", "export", *where)) == {"jobs": []}
    run("preview", "commit", "web01", *where, code=ExitCode.NOT_FOUND)
    run("vault", "delete", "prod", "--yes")
    run("vault", "show", "prod", code=ExitCode.NOT_FOUND)
    assert json.loads(run("vault", "list", "-o", "json")) == []
