"""Service accounts on the command line against a real hub: made, logged in with, renewed, ended."""

import json
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ClientSecretCredential
from typer.testing import CliRunner

from site_recovery_cli.cli import application
from site_recovery_cli.exit_codes import ExitCode
from tests.support.operators import as_role
from tests.support.real_hub import RealHub, real_hub

TYPED = "wrong-secret\n"


@dataclass
class Operator:
    """Somebody at a shell, with profiles of their own."""

    hub: RealHub
    folder: Path

    def run(self, *arguments: str, code: int = 0, typed: str | None = None) -> str:
        """Run a command that must end with `code`; return both outputs."""
        environment = {"SITE_RECOVERY_CONFIG_DIRECTORY": str(self.folder), "COLUMNS": "200"}
        done = CliRunner().invoke(application, arguments, input=typed, env=environment)
        assert done.exit_code == code, (done.exit_code, done.output, done.exception)
        return done.stdout if code == 0 else done.stdout + done.stderr

    def read(self, *arguments: str) -> Any:
        """Return the JSON of a command that must succeed."""
        return json.loads(self.run(*arguments, "-o", "json"))

    def place(self) -> tuple[str, ...]:
        """Return where the hub is."""
        root = self.hub.settings.trust_directory / "root.pem"
        return ("--hub", self.hub.settings.public_url, "--ca-file", str(root))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, ports: Callable[[], int]) -> Iterator[RealHub]:
    with real_hub(tmp_path_factory.mktemp("hub"), ports) as running:
        running.vault("mine")
        yield running


@pytest.fixture
def owner(hub: RealHub, tmp_path: Path) -> Operator:
    token = tmp_path / "owner.token"
    token.write_text(as_role(hub, "Owner", "otto").token)
    token.chmod(0o600)
    operator = Operator(hub, tmp_path / "profiles")
    operator.run("login", *operator.place(), "--token-file", str(token))
    return operator


def test_an_account_logs_in_from_a_file_and_its_token_is_renewed(
    owner: Operator, tmp_path: Path
) -> None:
    secret = tmp_path / "robot.secret"
    grants = ("--grant", "Operator@mine", "--days", "30")
    made = owner.read("account", "create", "robot", *grants, "--secret-file", str(secret))
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert "client_secret" not in made
    login = ("login", "--client-id", made["client_id"], "--profile", "robot")
    said = owner.run(*login, *owner.place(), "--client-secret-file", str(secret))
    assert secret.read_text().strip() not in said
    file = owner.folder / "robot.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = json.loads(file.read_text())
    assert secret.read_text().strip() not in file.read_text()
    assert [each["name"] for each in owner.read("vault", "list", "-p", "robot")] == ["mine"]
    # As after an hour: it is fetched anew.
    file.write_text(json.dumps({**kept, "token": "x", "token_ends_at": "2020-01-01T00:00:00Z"}))
    assert [each["name"] for each in owner.read("vault", "list", "-p", "robot")] == ["mine"]
    assert json.loads(file.read_text())["token"] not in {"x", kept["token"]}
    shown = {each["name"]: each for each in owner.read("account", "list")}
    assert shown["robot"]["roles"] == "Site Recovery Operator@mine"
    owner.run("account", "revoke", "robot", "--yes")
    assert "log in again" in owner.run("vault", "list", "-p", "robot", code=ExitCode.NOT_LOGGED_IN)
    owner.run("logout", "-p", "robot")
    assert not file.exists()
    assert not file.with_suffix(".pem").exists()
    refused = owner.run("vault", "list", "-p", "robot", code=ExitCode.NOT_LOGGED_IN)
    assert "no profile robot" in refused


def test_a_secret_is_asked_for_and_kept_nowhere(owner: Operator) -> None:
    made = owner.read("account", "create", "typed", "--grant", "Reader")
    login = ("login", "--client-id", made["client_id"], "--profile", "typed", *owner.place())
    refused = owner.run(*login, typed=TYPED, code=ExitCode.NOT_LOGGED_IN)
    assert "site-recovery account rotate" in refused
    assert TYPED.strip() not in refused
    assert "typed" not in [each["profile"] for each in owner.read("profiles")]
    owner.run(*login, typed=f"{made['client_secret']}\n")
    file = owner.folder / "typed.json"
    assert made["client_secret"] not in file.read_text()
    kept = json.loads(file.read_text())
    file.write_text(json.dumps({**kept, "token_ends_at": "2020-01-01T00:00:00Z"}))
    again = owner.run("vault", "list", "-p", "typed", code=ExitCode.NOT_LOGGED_IN)
    assert f"--client-id {made['client_id']}" in again
    rotated = owner.read("account", "rotate", "typed")
    assert rotated["client_secret"] != made["client_secret"]
    # Hub and root are the profile's own.
    short = ("login", "--client-id", made["client_id"], "--profile", "typed")
    owner.run(*short, typed=f"{rotated['client_secret']}\n")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("login",), ExitCode.USAGE),
        (("login", "--token-file", "a", "--client-id", "b"), ExitCode.USAGE),
        (("login", "--token-file", "a", "--client-secret-file", "b"), ExitCode.USAGE),
        (("login", "--client-id", "b", "--profile", "none"), ExitCode.USAGE),
        (("account", "create", "a", "--grant", "Reader@nowhere"), ExitCode.NOT_FOUND),
        (("account", "create", "a", "--grant", "Cook"), ExitCode.REFUSED),
        (("account", "rotate", "nobody"), ExitCode.NOT_FOUND),
        (("account", "revoke", "nobody", "--yes"), ExitCode.NOT_FOUND),
    ],
)
def test_mistakes_end_with_one_line_and_their_code(
    owner: Operator, arguments: tuple[str, ...], code: ExitCode
) -> None:
    told = owner.run(*arguments, code=code)
    assert told.startswith("error: ")
    assert told.count("\n") == 1


def test_the_official_credential_gets_tokens_of_an_account(
    hub: RealHub, owner: Operator, tmp_path: Path
) -> None:
    made = owner.read("account", "create", "sdk", "--grant", "Reader")
    here = hub.settings.public_url
    root = str(hub.settings.trust_directory / "root.pem")

    def credential(secret: str) -> ClientSecretCredential:
        return ClientSecretCredential(
            "hub",
            made["client_id"],
            secret,
            authority=here,
            disable_instance_discovery=True,
            connection_verify=root,
        )

    with credential(made["client_secret"]) as asked:
        token = tmp_path / "sdk.token"
        token.write_text(asked.get_token(f"{here}/.default").token)
    token.chmod(0o600)
    owner.run("login", *owner.place(), "--token-file", str(token), "--profile", "sdk")
    with credential("wrong") as asked, pytest.raises(ClientAuthenticationError):
        asked.get_token(f"{here}/.default")


def test_the_doctor_finds_nothing_and_then_what_is_wrong(owner: Operator, tmp_path: Path) -> None:
    told = {each["step"]: each for each in owner.read("doctor")}
    assert {each["state"] for each in told.values()} <= {"ok", "warning"}
    steps = {"profile", "root", "hub", "certificate", "clock", "token", "version"}
    assert steps | {"servers of mine", "jobs of mine"} == set(told)
    file = owner.folder / "default.json"
    kept = json.loads(file.read_text())

    def sick(code: ExitCode, **changed: str) -> dict[str, Any]:
        file.write_text(json.dumps({**kept, **changed}))
        done = owner.run("doctor", "-o", "json", code=code)
        found = {each["step"]: each for each in json.loads(done)}
        assert all(each["remedy"] for each in found.values() if each["state"] == "failed")
        return found

    found = sick(ExitCode.NOT_LOGGED_IN, token="nonsense")  # noqa: S106 -- no secret
    assert (found["clock"]["state"], found["token"]["state"]) == ("ok", "failed")
    assert found["version"]["state"] == "not reached"
    found = sick(ExitCode.NOT_REACHABLE, hub="https://127.0.0.1:1")
    assert (found["connection"]["state"], found["token"]["state"]) == ("failed", "not reached")
    other = tmp_path / "other.pem"
    made = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    subject = ("-nodes", "-keyout", str(tmp_path / "k"), "-out", str(other), "-subj", "/CN=o")
    subprocess.run([*made, *subject, "-days", "1"], check=True, capture_output=True)
    found = sick(ExitCode.NOT_REACHABLE, root_pem=other.read_text())
    assert "not signed by the trusted root" in found["connection"]["detail"]
    assert found["root"]["state"] == "warning"
