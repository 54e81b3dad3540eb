"""Secrets stay where they belong: the real programs, with debug logs and without any umask.

A hub, an operator, a VMM server, a proxy that wants a password and a provider are run through
registration, a session, the doctor, a backup and a broker's files. Then everything that was said,
logged or written is searched for what they know.
"""

import base64
import json
import os
import re
import socket
import stat
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import typer
from typer.testing import CliRunner

from certs.vault_credentials import parse
from service_hub.cli import application as service_hub
from service_shell.secret_files import write_secret
from site_recovery_cli.cli import application as site_recovery
from tests.integration import proxy_servers
from tests.integration.proxy_servers import PASSWORD, USER
from tests.support.simulator_estate import TOKEN, make_estate, trust

HOST = "127.0.0.1"
SECONDS_MAX = 60.0
PROGRAMS = Path(sys.executable).parent

TOKEN_FORM = re.compile(rb"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.")
KEY_FORM = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")

pytestmark = pytest.mark.needs("squid", "openssl")


@dataclass
class Flow:
    """The folder of a story, what was said in it, and the secrets that it was about."""

    folder: Path
    said: dict[str, bytes] = field(default_factory=dict)
    command_lines: list[bytes] = field(default_factory=list)
    secrets: dict[str, bytes] = field(default_factory=dict)

    def call(self, program: str, *arguments: str) -> None:
        """Run a program to its end and keep what it says; it has to succeed."""
        done = subprocess.run(
            (PROGRAMS / program, *arguments),
            capture_output=True,
            check=False,
            timeout=SECONDS_MAX,
            umask=0,
        )
        self.said[f"{program} {arguments[0]} {len(self.said)}"] = done.stdout + done.stderr
        assert done.returncode == 0, (program, arguments, done.stdout, done.stderr)

    def operate(self, program: typer.Typer, *arguments: str) -> None:
        """Run a command line in this process, which is quicker; it has to succeed."""
        environment = {"SITE_RECOVERY_CONFIG_DIRECTORY": str(self.folder / "profiles")}
        done = CliRunner().invoke(program, arguments, env=environment)
        self.said[" ".join(arguments[:2])] = done.output.encode()
        assert done.exit_code == 0, (arguments, done.output, done.exception)

    def start(self, stack: ExitStack, program: str, config: Path) -> None:
        """Run a daemon until the story ends; return when it is ready."""
        output = self.folder / f"{config.stem}.output"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                (PROGRAMS / program, "run", "--config", config),
                stdout=stream,
                stderr=stream,
                umask=0,
            )
        stack.callback(self._end, process, output)
        deadline = time.monotonic() + SECONDS_MAX
        while not (self.folder / f"{config.stem}.ready").exists():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, f"{program} is not ready"
            time.sleep(0.02)

    def _end(self, process: "subprocess.Popen[bytes]", output: Path) -> None:
        process.terminate()
        process.wait(SECONDS_MAX)
        self.said[output.name] = output.read_bytes()

    def write(self, name: str, values: dict[str, Any]) -> Path:
        """Write a daemon's configuration: debug log, ready file."""
        log = {"file": f"{name}.log", "level": "debug"}
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps({"log": log, "ready_file": f"{name}.ready", **values}))
        return path


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Flow:
    """Run the whole story."""
    story = Flow(tmp_path_factory.mktemp("secrets"))
    former = os.umask(0)
    try:
        with ExitStack() as stack:
            _play(story, stack)
        story.said |= {each.name: each.read_bytes() for each in story.folder.glob("*.log")}
        _note_secrets(story)
    finally:
        os.umask(former)
    return story


def _play(story: Flow, stack: ExitStack) -> None:
    folder = story.folder
    hub = _hub(story)
    story.operate(service_hub, "init", "--config", str(hub))
    token = ("--principal", "anna", "--role", "Contributor", "--output", str(folder / "token"))
    story.operate(service_hub, "token", "issue", "--config", str(hub), *token)
    story.start(stack, "service-hub", hub)
    url = json.loads((folder / "hub.ready").read_text())["operator_url"]
    root = str(folder / "hub/trust/root.pem")
    where = ("--hub", url, "--ca-file", root, "--token-file", str(folder / "token"))
    story.operate(site_recovery, "login", *where)
    story.operate(site_recovery, "vault", "create", "prod", "--region", "local")
    key = str(folder / "key.VaultCredentials")
    integrity = ("--channel-integrity-key-file", str(folder / "operators.key"))
    made = ("--vault", "prod", "-o", key, *integrity)
    story.operate(site_recovery, "vault", "registration-key", *made)
    (folder / "estate").mkdir()
    estate = make_estate(folder / "estate")
    vmm = estate.configuration("osaka", vmm={"id": str(uuid4()), "fqdn": "vmm.osaka.example"})
    story.start(stack, "vmm-simulator", story.write("vmm", vmm))
    proxy = stack.enter_context(proxy_servers.squid(_free_port()))
    write_secret(folder / "proxy.password", PASSWORD.encode())
    agent = _agent(story)
    story.call(
        *("provider-agent", "register", "--config", str(agent), "--credentials", key, "--yes"),
        *("--friendly-name", "Osaka", "--proxy-address", HOST, "--proxy-port", str(proxy.port)),
        *("--proxy-username", USER, "--proxy-password-file", str(folder / "proxy.password")),
    )
    story.start(stack, "provider-agent", agent)
    story.command_lines = [_command_line(each) for each in Path("/proc").glob("[0-9]*")]
    story.call("provider-agent", "doctor", "--config", str(agent), "--json")
    story.operate(service_hub, "trust", "rotate-root", "--config", str(hub))
    backup = ("--config", str(hub), "--output", str(folder / "hub.backup"))
    story.operate(service_hub, "database", "backup", *backup)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _hub(story: Flow) -> Path:
    operator, provider, mqtt = (_free_port() for _ in range(3))
    return story.write(
        "hub",
        {
            "data_directory": "hub",
            "key_file": "hub.key",
            "public_url": f"https://{HOST}:{operator}",
            "operator": {"host": HOST, "port": operator},
            "provider": {
                "host": HOST,
                "port": provider,
                "public_url": f"https://{HOST}:{provider}",
            },
            "mqtt": {"host": HOST, "port": mqtt, "public_host": HOST},
        },
    )


def _agent(story: Flow) -> Path:
    port = json.loads((story.folder / "vmm.ready").read_text())["vmm_port"]
    (story.folder / "vmm.pem").write_text(trust().root_pem)
    vmm = {
        "url": f"https://{HOST}:{port}",
        "ca_file": "vmm.pem",
        "token_file": str(story.folder / "estate" / "token"),
    }
    return story.write("agent", {"data_directory": "agent", "vmm": vmm})


def _command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    except OSError:  # It has ended meanwhile, or is somebody else's.
        return b""


def _note_secrets(story: Flow) -> None:
    folder = story.folder
    credentials = parse((folder / "key.VaultCredentials").read_bytes())
    key = (folder / "agent/identity/key.pem").read_bytes()
    story.secrets = {
        "operator's token": (folder / "token").read_bytes(),
        "VMM's token": TOKEN.encode(),
        "proxy's password": PASSWORD.encode(),
        "proxy's password in a header": base64.b64encode(f"{USER}:{PASSWORD}".encode()),
        "proxy's password in JSON": json.dumps(PASSWORD).strip('"').encode(),
        "password of the hub's keys": (folder / "hub.key").read_bytes().strip(),
        "registration key": base64.b64encode(credentials.management_pfx)[64:128],
        "channel integrity key": credentials.channel_integrity_key.encode(),
        "provider's key": key.splitlines()[1],
    }


def test_the_story_is_told_in_debug_logs(flow: Flow) -> None:
    """Otherwise the next tests would search nothing."""
    assert b"mqtt_connected" in flow.said["hub.log"]
    assert flow.said["agent.log"].count(b"\n") > 3
    assert flow.said["vmm.log"]
    assert any(b"provider-agent" in line for line in flow.command_lines)
    assert len(flow.secrets) == 9
    assert all(len(secret) >= 8 for secret in flow.secrets.values())


def test_no_secret_is_said_or_logged(flow: Flow) -> None:
    for name, text in flow.said.items():
        found = [secret for secret, value in flow.secrets.items() if value in text]
        assert not found, (name, found)
        assert not TOKEN_FORM.search(text), name
        assert not KEY_FORM.search(text), name


def test_no_secret_is_in_a_command_line_or_an_environment(flow: Flow) -> None:
    for line in flow.command_lines:
        found = [secret for secret, value in flow.secrets.items() if value in line]
        assert not found, (line[:200], found)


def test_files_with_secrets_are_their_owners_alone(flow: Flow) -> None:
    """Also without a umask; their folders too, except those that the story itself has made."""
    made_by_hand = {flow.folder, flow.folder / "estate"}
    places = set()
    for path in sorted(flow.folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        content = path.read_bytes()
        is_secret = any(value in content for value in flow.secrets.values())
        if is_secret or KEY_FORM.search(content) or TOKEN_FORM.search(content):
            places.add(str(path.relative_to(flow.folder)))
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
            if path.parent not in made_by_hand:
                assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700, path.parent
    expected = {"hub.key", "token", "agent/identity/key.pem", "agent/proxy.json"}
    expected |= {"hub/trust/token.key", "hub/trust/next/root-key.pem", "profiles/default.json"}
    assert places >= expected


def test_what_the_daemons_keep_is_closed_to_others(flow: Flow) -> None:
    for name in ("hub", "hub/trust", "agent", "agent/identity", "profiles"):
        assert stat.S_IMODE((flow.folder / name).stat().st_mode) == 0o700, name
    for pattern in ("hub/**/*", "agent/**/*", "profiles/*", "hub.backup"):
        for path in flow.folder.glob(pattern):
            if path.is_file():
                assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
