"""Servers are revoked, taken over, removed and purged: real hub, real agents, real commands."""

import asyncio
import json
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from lab.commands import kill_process, lower_estate
from lab.estate_record import need_record
from lab.item_operations import Place, create_policy, pair_clouds
from lab.layout import Layout
from lab.operator_client import HubAddress, open_operator
from lab.operator_file import OperatorFile, load_operator_file
from lab.process_table import marked_processes
from lab.processes import program
from site_recovery_cli.cli import application
from site_recovery_cli.exit_codes import ExitCode
from wire_contract import paths

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 30.0
POLL_SECONDS = 0.05

ESTATE = """
name: leaving
sites:
  - name: tokyo
    vmm: {fqdn: vmm01.tokyo.contoso.example}
    host_groups: [Hosts]
    hosts: [{fqdn: hv01.tokyo.contoso.example, host_group: Hosts}]
    clouds: [{name: Cloud, host_groups: [Hosts]}]
    machines:
      - name: web01
        cloud: Cloud
        host: hv01.tokyo.contoso.example
        disks: [{name: system, kind: OperatingSystem, files: 4MiB, free: 4MiB}]
  - name: osaka
    vmm: {fqdn: vmm01.osaka.contoso.example}
    host_groups: [Hosts]
    hosts: [{fqdn: hv01.osaka.contoso.example, host_group: Hosts}]
    clouds: [{name: Cloud, host_groups: [Hosts]}]
"""
TOKYO, OSAKA = "vmm01.tokyo.contoso.example", "vmm01.osaka.contoso.example"


@dataclass(frozen=True)
class Estate:
    """An estate whose machine nobody protects, and an operator who is logged in."""

    layout: Layout
    profiles: Path

    @property
    def file(self) -> OperatorFile:
        """What the lab wrote for operators."""
        return load_operator_file(self.layout.operator_file)

    def operate(self, *arguments: str, code: int = 0) -> str:
        """Run the operator's command; return all that it said."""
        environment = {"SITE_RECOVERY_CONFIG_DIRECTORY": str(self.profiles)}
        done = CliRunner().invoke(application, arguments, env=environment)
        assert done.exit_code == code, (arguments, done.output, done.exception)
        return done.output

    def servers(self) -> dict[str, str]:
        """Return all servers with their connection."""
        listed = json.loads(self.operate("server", "list", "-o", "json"))
        return {each["server"]: each["connection"] for each in listed}

    def agent(self, site: str, *arguments: str, code: int = 0) -> str:
        """Run a command of a site's provider beside the daemon; return all that it said."""
        process = self.begin(site, *arguments)
        output, _ = process.communicate(timeout=SECONDS_MAX)
        assert process.returncode == code, output
        return output

    def begin(self, site: str, *arguments: str) -> subprocess.Popen[str]:
        """Begin such a command."""
        command, *others = arguments
        config = self.layout.site(site) / "agent.yaml"
        return subprocess.Popen(
            [program("provider-agent"), command, "--config", str(config), *others],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def log(self, site: str) -> list[dict[str, Any]]:
        """Return what a site's provider has logged."""
        lines = self.layout.log(f"{site}/agent").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def runs(self, site: str) -> bool:
        """Return whether a site's provider runs."""
        return need_record(self.layout).process(f"{site}/agent").alive

    def inventory(self, site: str) -> dict[str, Any]:
        """Return what a site's VMM server shows of itself."""
        place = self.file.sites[site]
        token = (self.layout.site(site) / "vmm.token").read_text()
        trust = ssl.create_default_context(cafile=self.layout.ca_bundle)
        headers = {"Authorization": f"Bearer {token}"}
        _, content = ask(place.vmm_url, "GET", paths.VMM_INVENTORY, trust, headers)
        return content


def lab(layout: Layout, *arguments: str) -> None:
    """Run a command of the lab, in a process of its own: what it starts stays."""
    command = (sys.executable, "-m", "lab", *arguments, "--lab", str(layout.root))
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def ask(
    url: str, method: str, path: str, trust: ssl.SSLContext, headers: dict[str, str]
) -> tuple[int, dict[str, Any]]:
    """Send one request without content; return status and JSON of its answer."""
    place = urlsplit(url).netloc
    with closing(HTTPSConnection(place, timeout=SECONDS_MAX, context=trust)) as connection:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, json.load(answer)


def wait(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, f"this did not happen: {what}"
        time.sleep(POLL_SECONDS)


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    folder = tmp_path_factory.mktemp("departure")
    (folder / "estate.yaml").write_text(ESTATE)
    layout = Layout.at(folder / ".lab")
    lab(layout, "up", "--estate", str(folder / "estate.yaml"))
    try:
        made = Estate(layout, folder / "profiles")
        file = made.file
        made.operate(
            *("login", "--hub", file.base_url, "--vault", file.vault),
            *("--ca-file", str(layout.hub / "trust" / "root.pem")),
            *("--token-file", str(layout.root / "operator.token")),
            *("--subscription", file.subscription_id, "--resource-group", file.resource_group),
        )
        yield made
    finally:
        asyncio.run(lower_estate(layout))
    assert marked_processes(layout.root) == []


def test_a_revoked_server_is_cut_off_and_comes_back_with_a_new_key(
    estate: Estate, tmp_path: Path
) -> None:
    assert estate.servers() == {TOKYO: "Connected", OSAKA: "Connected"}
    estate.operate("server", "revoke", TOKYO, "--yes")
    assert estate.servers() == {TOKYO: "Disconnected", OSAKA: "Connected"}
    wait(lambda: says(estate, "mqtt_lost"), "MQTT is cut")
    wait(lambda: says(estate, "session_failed"), "HTTPS is refused")
    report = estate.agent("tokyo", "doctor", code=1)
    assert "the hub does not accept this server's certificate" in report
    assert "it was revoked or unregistered" in report

    identity = estate.layout.site("tokyo") / "agent"
    asyncio.run(kill_process(estate.layout, "tokyo/agent", signal.SIGKILL))
    shutil.move(identity, tmp_path / "former")
    (key,) = estate.layout.root.glob("*.VaultCredentials")
    register = ("register", "--credentials", str(key), "--friendly-name", TOKYO, "--yes")
    waiting = estate.begin("tokyo", *register)
    wait(lambda: "pending" in estate.operate("server", "approvals", "-o", "json"), "it waits")
    assert "is approved" in estate.operate("server", "approve", TOKYO, "--yes")
    output, _ = waiting.communicate(timeout=SECONDS_MAX)
    assert waiting.returncode == 0, output
    assert "it waits for an operator: site-recovery server approve" in output

    lab(estate.layout, "start", "tokyo/agent")
    wait(lambda: estate.servers()[TOKYO] == "Connected", "it is connected again")
    assert "done" in estate.operate("server", "refresh", TOKYO, "--wait")
    refusal = refused(estate, tmp_path / "former" / "identity")
    assert refusal["code"] == "CertificateRefused"
    alerts = json.loads(estate.operate("server", "alerts", "-o", "json"))
    assert [each["code"] for each in alerts] == ["ServerRevoked", "ServerReplaced"]


def test_a_server_that_is_gone_is_purged_and_its_partner_tidies_its_own_cloud(
    estate: Estate,
) -> None:
    asyncio.run(pair(estate))
    assert "1 pairing (lab-pairing)" in estate.operate(
        "server", "remove", OSAKA, "--yes", "--wait", code=ExitCode.JOB_FAILED
    )
    assert "1 pairing (lab-pairing)" in estate.agent("osaka", "unregister", "--yes", code=1)
    refusal = estate.operate("server", "purge", OSAKA, "--yes", code=ExitCode.REFUSED)
    assert "is connected: remove it" in refusal
    asyncio.run(kill_process(estate.layout, "osaka/agent", signal.SIGKILL))
    assert "still knows this server" in estate.agent("osaka", "cleanup", code=1)
    estate.operate("server", "revoke", OSAKA, "--yes")
    estate.operate("server", "purge", OSAKA, "--yes")
    assert list(estate.servers()) == [TOKYO]
    wait(lambda: estate.inventory("tokyo")["clouds"][0]["partner_cloud_id"] is None, "tidied")
    (host,) = estate.inventory("tokyo")["hosts"]
    assert not host["replica_enabled"]
    assert "PartnerPurged" in estate.operate("server", "alerts")
    said = estate.agent("osaka", "cleanup")
    assert "the hub does not know this server any more" in said
    assert not (estate.layout.site("osaka") / "agent" / "identity").exists()
    assert not estate.inventory("osaka")["clouds"][0]["synchronized"]


def test_a_removed_server_cleans_up_by_itself_and_ends(estate: Estate) -> None:
    assert estate.inventory("tokyo")["clouds"][0]["synchronized"]
    said = estate.operate("server", "remove", TOKYO, "--yes", "--wait")
    assert "Cleaning up the provider settings" in said
    assert estate.servers() == {}
    wait(lambda: not estate.runs("tokyo"), "the provider has ended")
    assert not (estate.layout.site("tokyo") / "agent" / "identity").exists()
    assert not estate.inventory("tokyo")["clouds"][0]["synchronized"]
    said = estate.agent("tokyo", "cleanup")
    assert "registration is forgotten" in said, "it may be repeated, and finds nothing"
    estate.operate("vault", "delete", estate.file.vault, "--yes")


async def pair(estate: Estate) -> None:
    """Pair the two clouds, as the lab's story does."""
    file = estate.file
    address = HubAddress(
        file.base_url, file.ca_file, file.subscription_id, file.resource_group, file.vault
    )
    async with open_operator(address, file.token, datetime.now(UTC)) as operator:
        policy = await create_policy(operator, "policy", 30)
        tokyo, osaka = (
            Place.of(operator, file.sites[site].fabric, file.sites[site].cloud)
            for site in ("tokyo", "osaka")
        )
        await pair_clouds(operator, tokyo, osaka, policy)


def says(estate: Estate, event: str) -> bool:
    return any(each["event"] == event for each in estate.log("tokyo"))


def refused(estate: Estate, identity: Path) -> dict[str, Any]:
    """Return how the hub refuses a former identity."""
    trust = ssl.create_default_context(cafile=identity / "root.pem")
    trust.load_cert_chain(identity / "certificate.pem", identity / "key.pem")
    status, problem = ask(estate.file.hub.provider_url, "POST", paths.TOKEN, trust, {})
    assert status == HTTPStatus.FORBIDDEN
    return problem
