"""The shipped sample scripts against a real DNS server: what they change, and what they refuse."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.name_server import NameServer, name_server
from tests.support.simulator_estate import free_network

SAMPLES = Path(__file__).resolve().parents[2] / "deploy/scripts"
LIVE, DRILL = "corp.example", "drill.example"
SECONDS_MAX = 60


@dataclass
class Library:
    """A folder with the samples, and the server that they speak with."""

    folder: Path
    server: NameServer

    def settle(self, mode: int = 0o600, **more: Any) -> None:
        """Write the settings of the scripts."""
        file = self.folder / "update_dns.json"
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)
        file.write_text(json.dumps({**self.server.settings(LIVE, test_zone=DRILL), **more}))
        file.chmod(mode)

    def run(
        self, script: str, kind: str, *addresses: str, name: str = "SQL-01", job: str = "j"
    ) -> subprocess.CompletedProcess[str]:
        """Run a script as a provider does, about one machine."""
        context = self.folder / "context.json"
        machines = [{"name": name, "addresses": addresses}]
        context.write_text(json.dumps({"kind": kind, "job_id": job, "machines": machines}))
        environment = {
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), "/usr/bin", "/bin")),
            "SITE_RECOVERY_CONTEXT": str(context),
            "SITE_RECOVERY_SCRIPT_FOLDER": str(self.folder),
        }
        return subprocess.run(
            [str(self.folder / script)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS_MAX,
        )

    def well(self, *arguments: Any, **more: Any) -> str:
        """Run a script that must succeed: exit code 0 and nothing on standard error."""
        done = self.run(*arguments, **more)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def refused(self, *arguments: Any, **more: Any) -> str:
        """Run a script that must fail; what it says, which is one line."""
        done = self.run(*arguments, **more)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        return done.stderr


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    folder = tmp_path / "RPScripts"
    folder.mkdir()
    for file in SAMPLES.glob("*.py"):
        shutil.copy(file, folder)
    records = ["sql-01 A 192.0.2.1", "sql-01 AAAA 2001:db8::1"]
    address = f"{free_network()}.53"
    with name_server(tmp_path / "dns", address, (LIVE, DRILL), records) as server:
        made = Library(folder, server)
        made.settle()
        yield made


@pytest.mark.needs("knotd")
def test_a_name_is_changed_once_by_a_job_and_brought_back(library: Library) -> None:
    name, server = f"sql-01.{LIVE}", library.server
    said = library.well("update_dns.py", "PlannedFailover", "10.0.0.1")
    assert said == f"{name}. 192.0.2.1 2001:db8::1 -> 10.0.0.1\n"
    assert (server.asked(name), server.asked(name, "AAAA")) == (["10.0.0.1"], [])
    library.well("update_dns.py", "PlannedFailover", "10.0.0.2", "fd00::2")
    assert server.asked(name, "AAAA") == ["fd00::2"]
    library.well("update_dns_undo.py", "CancelFailover")
    assert (server.asked(name), server.asked(name, "AAAA")) == (["192.0.2.1"], ["2001:db8::1"])
    assert library.well("update_dns_undo.py", "CancelFailover") == f"{name}. was not changed\n"
    library.well("update_dns.py", "PlannedFailover", "10.0.0.3")
    library.well("update_dns.py", "PlannedFailover", "192.0.2.7", job="back")
    library.well("update_dns_undo.py", "CancelFailover", job="undo")
    assert server.asked(name) == ["10.0.0.3"], "as before the last failover, not the first"
    assert not (library.folder / "__pycache__").exists(), "nothing is left in the library"


@pytest.mark.needs("knotd")
def test_a_test_changes_names_of_its_own_zone_alone(library: Library) -> None:
    library.well("update_dns.py", "TestFailover", "10.0.0.1")
    assert library.server.asked(f"sql-01.{DRILL}") == ["10.0.0.1"]
    assert library.server.asked(f"sql-01.{LIVE}") == ["192.0.2.1"]
    library.well("update_dns_undo.py", "TestFailoverCleanup")
    assert library.server.asked(f"sql-01.{DRILL}") is None
    library.settle(test_zone=None)
    assert "give" in library.refused("update_dns.py", "TestFailover", "10.0.0.1")


@pytest.mark.needs("knotd")
def test_what_cannot_be_done_is_one_line_on_standard_error(library: Library) -> None:
    planned = ("update_dns.py", "PlannedFailover")
    assert "VMM knows no address of SQL-01" in library.refused(*planned)
    assert "no address" in library.refused("read_ip_address.py", "PlannedFailover")
    assert library.well("read_ip_address.py", "Commit", "10.0.0.1", "fd00::1") == (
        "SQL-01 10.0.0.1 fd00::1\n"
    )
    long = "a" * 64
    assert "is no DNS name" in library.refused(*planned, "10.0.0.1", name=long)
    assert "outside of the zone" in library.refused(*planned, "10.0.0.1", name="sql-01.other.")
    library.settle(names={long: "short"})
    library.well(*planned, "10.0.0.1", name=long)
    assert library.server.asked(f"short.{LIVE}") == ["10.0.0.1"]
    library.settle(mode=0o644)
    assert "chmod 600" in library.refused(*planned, "10.0.0.1")
    library.settle(key={"name": "recovery", "secret": "AAAA"})
    assert library.refused(*planned, "10.0.0.1")
    library.settle(port=1)
    assert "refused" in library.refused(*planned, "10.0.0.1")
    library.settle(zone=7.5, ttl="x")
    assert "cannot be used" in library.refused(*planned, "10.0.0.1")
    assert library.server.asked(f"sql-01.{LIVE}") == ["192.0.2.1"]
