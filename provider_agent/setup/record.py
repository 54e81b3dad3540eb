"""What set-up has done on this server, and the update policy that was chosen."""

from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from service_shell.errors import ProgramError
from service_shell.secret_files import read_secret, write_secret

RECORD_BYTES_MAX: Final = 65_536
_FOLDER: Final = "setup"


class InstallationRecord(BaseModel):
    """One node's installation; nodes of a cluster share the data directory, each has its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    node: str
    version: str
    auto_update: bool
    installed_at: datetime


def save_record(data_directory: Path, record: InstallationRecord) -> None:
    """Keep the record; set-up repeated replaces it."""
    write_secret(_path(data_directory, record.node), record.model_dump_json(indent=2).encode())


def load_record(data_directory: Path, node: str) -> InstallationRecord | None:
    """Return what set-up noted for this node; null: set-up has not run here."""
    path = _path(data_directory, node)
    if not path.exists():
        return None
    try:
        return InstallationRecord.model_validate_json(read_secret(path, RECORD_BYTES_MAX))
    except ValidationError as error:
        raise ProgramError(f"{path} is damaged; run: provider-agent setup") from error


def sole_node(data_directory: Path) -> str | None:
    """Return the node that set-up has run on, where it is one alone."""
    names = [path.stem for path in (data_directory / _FOLDER).glob("*.json")]
    return names[0] if len(names) == 1 else None


def remove_record(data_directory: Path, node: str) -> None:
    """Forget the installation; none is no error."""
    _path(data_directory, node).unlink(missing_ok=True)


def _path(data_directory: Path, node: str) -> Path:
    return data_directory / _FOLDER / f"{node}.json"
