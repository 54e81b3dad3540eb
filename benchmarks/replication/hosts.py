"""Our two hosts in processes of their own, as a run leads them."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.channel.processes import NotMeasuredError, end
from benchmarks.replication.ground import Ground


@dataclass(slots=True)
class Host:
    """One host; see host_process for the orders."""

    process: "subprocess.Popen[str]"
    folder: Path

    def ask(self, do: str, **more: Any) -> dict[str, Any]:
        """Give an order and return the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # said below, with the end of the answers
            self.process.stdin.write(json.dumps({"do": do, **more}) + "\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            last = (self.folder / "log").read_text().strip().rpartition("\n")[2]
            raise NotMeasuredError(f"the host in {self.folder.name} has ended: {last}")
        told: dict[str, Any] = json.loads(line)
        return told


@dataclass(slots=True)
class Pair:
    """A primary's host and a replica's host; machines are called alike on both."""

    ground: Ground
    primary: Host
    replica: Host
    port: int

    @classmethod
    @contextlib.contextmanager
    def opened(cls, ground: Ground) -> Iterator["Pair"]:
        """Run two hosts until the block is left."""
        with _host(ground, "tokyo") as primary, _host(ground, "osaka") as replica:
            yield cls(ground, primary, replica, replica.ask("listen")["port"])

    def add(self, machine: str, disk: Path, size: int) -> None:
        """Have a machine with this disk, and an empty replica of it."""
        self.primary.ask("primary", machine=machine, path=str(disk), size=size)
        self.renew(machine, size)

    def renew(self, machine: str, size: int) -> None:
        """Begin with an empty replica again."""
        self.replica.ask("replica", machine=machine, path=str(self.copy_of(machine)), size=size)

    def copy_of(self, machine: str) -> Path:
        """Return the replica's disk."""
        return self.replica.folder / f"{machine}.raw"

    def send(self, machines: Sequence[str], kind: str, cut: int) -> dict[str, Any]:
        """Send a cut of each machine, all at once."""
        return self.primary.ask("send", machines=list(machines), kind=kind, port=self.port, cut=cut)

    def processor(self) -> float:
        """Return the processor time that both have taken."""
        return sum(float(each.ask("figures")["cpu"]) for each in (self.primary, self.replica))


@contextlib.contextmanager
def _host(ground: Ground, name: str) -> Iterator[Host]:
    folder = ground.fresh(name)
    command = (
        *(sys.executable, "-m", "benchmarks.replication.host_process"),
        *(str(folder), str(ground.certificates)),
    )
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 -- our own program
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        yield Host(process, folder)
    finally:
        end(process)
