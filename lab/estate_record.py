"""The record of what a lab has started, so that the next command can go on or clean up."""

from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lab.layout import Layout
from lab.process_table import ProcessRecord
from service_shell.errors import ProgramError
from service_shell.secret_files import write_secret

RECORD_BYTES_MAX: Final = 4_194_304


class EstateRecord(BaseModel):
    """One estate: `phase` becomes running only when every provider is connected."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    estate_file: str
    kind: Literal["story", "up"]
    phase: Literal["starting", "running"] = "starting"
    prefix: str
    processes: dict[str, ProcessRecord] = Field(default_factory=dict)

    def with_process(self, record: ProcessRecord) -> "EstateRecord":
        """Return the record with a process added, or replaced by its successor."""
        return self.model_copy(update={"processes": {**self.processes, record.name: record}})

    def process(self, name: str) -> ProcessRecord:
        """Return one process; ProgramError says which there are."""
        if name not in self.processes:
            known = ", ".join(sorted(self.processes)) or "none"
            raise ProgramError(f"there is no process {name!r}; PROCESS= is one of: {known}")
        return self.processes[name]

    @property
    def anything_alive(self) -> bool:
        """Whether at least one process of the record still runs."""
        return any(process.alive for process in self.processes.values())


def save_record(layout: Layout, record: EstateRecord) -> None:
    """Write the record; it is on disk when this returns."""
    write_secret(layout.record, record.model_dump_json(indent=2).encode())


def load_record(layout: Layout) -> EstateRecord | None:
    """Return the record, or None when nothing was started here (or the file is damaged)."""
    try:
        with layout.record.open("rb") as stream:
            return EstateRecord.model_validate_json(stream.read(RECORD_BYTES_MAX))
    except (FileNotFoundError, ValidationError):
        # A damaged record loses nothing: the processes carry the lab's mark.
        return None


def need_record(layout: Layout) -> EstateRecord:
    """Return the record of the estate; ProgramError when none runs here."""
    record = load_record(layout)
    if record is None:
        raise ProgramError(f"no estate runs in {layout.root}; start one with: make lab-up")
    return record


def process_folder(layout: Layout, name: str) -> Path:
    """Return the data folder of a process named `hub` or `site/agent`."""
    site, _, part = name.partition("/")
    return layout.site(site) / part if part else layout.root / site
