"""The extracted package: what an unattended installation takes, each file known by its digest."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service_shell.atomic_files import write_atomically
from service_shell.errors import ProgramError

MANIFEST: Final = "manifest.json"
UNIT: Final = "provider-agent.service"
ADDRESSES: Final = "addresses.txt"
FILE_BYTES_MAX: Final = 1_048_576


class Manifest(BaseModel):
    """What a package holds: the provider's version and the SHA-256 of each file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str = Field(max_length=64)
    files: dict[str, str] = Field(max_length=16)


def extract(folder: Path, version: str, files: Mapping[str, str]) -> None:
    """Write the package; the manifest comes last, so that half a package is none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        for name, text in files.items():
            write_atomically(folder / name, text.encode())
        manifest = Manifest(
            version=version, files={name: _digest(text.encode()) for name, text in files.items()}
        )
        write_atomically(folder / MANIFEST, manifest.model_dump_json(indent=2).encode())
    except OSError as error:
        raise ProgramError(
            f"cannot extract into {folder}: {error.strerror}; name a folder that can be written"
        ) from error


def open_package(folder: Path, version: str) -> dict[str, str]:
    """Return the files of a package of this version; refuse one that is incomplete or changed."""
    again = f"extract it again: provider-agent setup --config FILE --extract {folder}"
    try:
        manifest = Manifest.model_validate_json(_read(folder / MANIFEST))
    except FileNotFoundError as error:
        raise ProgramError(f"{folder} holds no extracted provider; {again}") from error
    except (OSError, ValidationError) as error:
        raise ProgramError(f"the manifest in {folder} is damaged; {again}") from error
    if manifest.version != version:
        raise ProgramError(
            f"{folder} holds provider {manifest.version}, this program is {version}; {again}"
        )
    files: dict[str, str] = {}
    for name in (UNIT, ADDRESSES):
        try:
            data = _read(folder / name)
        except OSError as error:
            raise ProgramError(f"{folder / name} cannot be read: {error}; {again}") from error
        if manifest.files.get(name) != _digest(data):
            raise ProgramError(f"{folder / name} was changed since it was extracted; {again}")
        files[name] = data.decode()
    return files


def _read(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(FILE_BYTES_MAX)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
