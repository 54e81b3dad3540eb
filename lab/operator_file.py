"""`.lab/operator.json`: all that an operator, a script or a test needs to reach the estate."""

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from lab.layout import Layout
from lab.process_table import ProcessRecord
from service_shell.errors import ProgramError
from service_shell.secret_files import read_secret, write_secret

OPERATOR_FILE_BYTES_MAX: Final = 4_194_304


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProcessEntry(_Entry):
    """A process as an operator finds it."""

    pid: int
    config: str
    log: str


class HubEntry(ProcessEntry):
    """The hub and where providers reach it."""

    provider_url: str
    mqtt_url: str


class HostEntry(_Entry):
    """A Hyper-V host: its own loopback address and the folder of its disks."""

    address: str
    disks_dir: str


class SiteEntry(_Entry):
    """One site; `fabric` and `cloud` are names on the ARM surface."""

    fabric: str
    cloud: str
    vmm_url: str
    management_url: str
    management_token: str
    vmm: ProcessEntry
    agent: ProcessEntry
    hosts: dict[str, HostEntry]


class OperatorFile(_Entry):
    """The whole file; `ca_file` verifies every URL in it."""

    base_url: str
    ca_file: str
    token: str
    subscription_id: str
    resource_group: str
    vault: str
    vault_id: str
    hub: HubEntry
    sites: dict[str, SiteEntry]

    def with_process(self, record: ProcessRecord) -> "OperatorFile":
        """Return the file with the pid of a process that was started again."""
        site, _, part = record.name.partition("/")
        if record.name == "hub":
            return self.model_copy(update={"hub": self.hub.model_copy(update={"pid": record.pid})})
        if part not in ("vmm", "agent") or site not in self.sites:
            return self
        entry = self.sites[site]
        process = (entry.vmm if part == "vmm" else entry.agent).model_copy(
            update={"pid": record.pid}
        )
        sites = {**self.sites, site: entry.model_copy(update={part: process})}
        return self.model_copy(update={"sites": sites})


def process_entry(record: ProcessRecord) -> ProcessEntry:
    """Return what the operator file says of a process."""
    return ProcessEntry(pid=record.pid, config=record.config, log=record.log)


def save_operator_file(layout: Layout, content: OperatorFile) -> None:
    """Write the file; it holds tokens, so only its owner may read it."""
    write_secret(layout.operator_file, content.model_dump_json(indent=2).encode())


def load_operator_file(path: Path) -> OperatorFile:
    """Return the file's content, or a ProgramError that says what to do."""
    try:
        return OperatorFile.model_validate_json(read_secret(path, OPERATOR_FILE_BYTES_MAX))
    except ValidationError as error:
        raise ProgramError(f"{path} is damaged; make it anew with: make lab-up") from error
