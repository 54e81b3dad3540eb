"""An estate on which the shipped scenarios run, and the operator's command line for them."""

import contextlib
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.layout import Layout
from lab.operator_file import load_operator_file
from tests.support.lab_commands import command, logged_in
from tests.support.lab_world import ROOT, raised_estate

_MACHINE = """
      - name: {name}
        cloud: Cloud
        host: hv01.tokyo.contoso.example
        disks:
          - {{name: system, kind: OperatingSystem, files: 8MiB, free: 8MiB}}
          - {{name: data, kind: Data, files: 4MiB, free: 4MiB}}
"""
ESTATE = f"""
name: scenarios
replication_interval_seconds: 1
lines: relayed
sites:
  - name: tokyo
    vmm: {{fqdn: vmm01.tokyo.contoso.example}}
    host_groups: [Hosts]
    hosts: [{{fqdn: hv01.tokyo.contoso.example, host_group: Hosts}}]
    library_shares: [{{name: Library, path: '\\\\vmm01.tokyo.contoso.example\\Library'}}]
    clouds: [{{name: Cloud, host_groups: [Hosts]}}]
    machines: {_MACHINE.format(name="web01")} {_MACHINE.format(name="sql01")}
  - name: osaka
    vmm: {{fqdn: vmm01.osaka.contoso.example}}
    host_groups: [Hosts]
    hosts: [{{fqdn: hv01.osaka.contoso.example, host_group: Hosts}}]
    clouds: [{{name: Cloud, host_groups: [Hosts]}}]
pairings:
  - {{primary: tokyo/Cloud, recovery: osaka/Cloud, protect: [web01, sql01]}}
"""


@dataclass(frozen=True)
class Drills:
    """A lab whose two machines are protected, and an operator who is logged in to its hub."""

    place: Path
    lab: Path

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Give a command of the operator's, with profiles of its own."""
        return command(self.place, *words)

    def run(self, scenario: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a shipped scenario as its page says."""
        file = f"deploy/scenarios/{scenario}.yaml"
        return self.command("inject", "run", file, "--laboratory", str(self.lab), *words)

    def holds(self, scenario: str, *words: str) -> None:
        """Run a shipped scenario: every step of it must hold, and the report must say so."""
        report = self.place / f"{scenario}.xml"
        done = self.run(scenario, "--junit", str(report), *words)
        assert done.returncode == 0, done.stdout + done.stderr
        suite = ET.parse(report).getroot()  # noqa: S314 -- our own file
        assert int(suite.attrib["tests"]) > 1
        assert (suite.attrib["failures"], suite.attrib["skipped"]) == ("0", "0")

    def log_in(self) -> None:
        """Log in as the estate's operator."""
        logged_in(self.place, load_operator_file(Layout.at(self.lab).operator_file))

    def save_plan(self) -> None:
        """Put the sample scripts into the library, and save the plan that names one of them."""
        (share,) = (self.lab / "sites/tokyo/library").iterdir()
        for script in (ROOT / "deploy/scripts").glob("*.py"):
            shutil.copy(script, share)
        plan = ("plan", "import", "database-first", "deploy/plans/database-first.yaml")
        done = self.command(*plan)
        assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def drills(place: Path) -> Iterator[Drills]:
    """Raise the estate, log in, save the plan; take everything down again."""
    with raised_estate(place, ESTATE, "--protect") as lab:
        found = Drills(place, lab)
        found.log_in()
        found.save_plan()
        yield found
