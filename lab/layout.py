"""Where everything of a lab lies, below one folder (`.lab`)."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one lab; `root` is absolute."""

    root: Path

    @classmethod
    def at(cls, folder: Path) -> "Layout":
        """Return the layout of the lab in `folder`."""
        return cls(folder.absolute())

    @property
    def lock(self) -> Path:
        """Held by the command that changes this lab."""
        return self.root / "lock"

    @property
    def log_of_lab(self) -> Path:
        """What the lab itself logs, over all runs."""
        return self.root / "lab.log"

    @property
    def record(self) -> Path:
        """What runs, and which addresses it has (see lab.estate_record)."""
        return self.root / "estate.json"

    @property
    def operator_file(self) -> Path:
        """What an operator needs to reach the estate."""
        return self.root / "operator.json"

    @property
    def report(self) -> Path:
        """The report of the story."""
        return self.root / "report.json"

    @property
    def logs(self) -> Path:
        """One JSON log and one output file per process."""
        return self.root / "logs"

    @property
    def cache(self) -> Path:
        """What the next run may use again: base images."""
        return self.root / "cache"

    @property
    def hub(self) -> Path:
        """The hub's folder."""
        return self.root / "hub"

    @property
    def trust(self) -> Path:
        """Authority of the VMM servers' certificates, and the bundle that clients verify with."""
        return self.root / "trust"

    @property
    def ca_bundle(self) -> Path:
        """Verifies every URL of the operator file."""
        return self.trust / "bundle.pem"

    @property
    def hosts_file(self) -> Path:
        """Host names and addresses, in the format of /etc/hosts."""
        return self.root / "hosts"

    @property
    def ledger(self) -> Path:
        """The ledger's folder: outside all sites."""
        return self.root / "ledger"

    @property
    def relay(self) -> Path:
        """The relay's folder: its configuration, control socket, and what is cut."""
        return self.root / "relay"

    def site(self, name: str) -> Path:
        """Return the folder of one site."""
        return self.root / "sites" / name

    def log(self, process: str) -> Path:
        """Return the JSON log of a process named `hub` or `site/agent`."""
        return self.logs / f"{process.replace('/', '-')}.log"

    def output(self, process: str) -> Path:
        """Return the file that takes a process's standard output and error."""
        return self.logs / f"{process.replace('/', '-')}.out"
