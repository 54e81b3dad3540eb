"""Profiles: which hub, with which token and trust; kept in the operator's own folder, 0600."""

import os
import re
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from pydantic import BaseModel, ConfigDict, ValidationError

from service_shell.errors import ProgramError
from service_shell.secret_files import SECRET_FOLDER_MODE, read_secret, write_secret
from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError

PROFILE_BYTES_MAX: Final = 262_144
TOKEN_BYTES_MAX: Final = 16_384
DEFAULT_PROFILE: Final = "default"
FOLDER_VARIABLE: Final = "SITE_RECOVERY_CONFIG_DIRECTORY"

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=-]+")


class Profile(BaseModel):
    """All that is needed to speak to one hub; `root_pem` is the only trust that is used.

    The file of the channel integrity key is named only: the key stays where its owner keeps it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hub: str
    root_pem: str
    token: str
    subscription_id: str
    resource_group: str
    vault: str | None = None
    token_ends_at: datetime | None = None
    """As the token itself says; None: it does not."""

    client_id: str | None = None
    """The service account that the token is of, if it was logged in with its secret."""

    client_secret_file: str | None = None
    """Where the account's secret stays: named, so that a token that ends is fetched anew."""

    channel_integrity_key_file: str | None = None


class ProfileFolder:
    """The operator's profiles; the folder is 0700 and each file 0600."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, name: str) -> Profile:
        """Return a profile; CommandError says how to make it when it is not there."""
        path = self._path(name)
        if not path.exists():
            raise CommandError(
                f"there is no profile {name}; make it: site-recovery login --profile {name}"
                " --hub URL --ca-file FILE --token-file FILE",
                ExitCode.NOT_LOGGED_IN,
            )
        try:
            return Profile.model_validate_json(read_secret(path, PROFILE_BYTES_MAX))
        except ValidationError as error:
            raise CommandError(
                f"{path} is damaged; make it anew: site-recovery login --profile {name} ...",
                ExitCode.NOT_LOGGED_IN,
            ) from error

    def save(self, name: str, profile: Profile) -> Path:
        """Store a profile, in place of an earlier one of that name; return its file."""
        path = self._path(name)
        self._make_folder()
        write_secret(path, profile.model_dump_json(indent=2).encode())
        return path

    def remove(self, name: str) -> bool:
        """Forget a profile, its token and its root; whether there was one."""
        path = self._path(name)
        try:
            path.with_suffix(".pem").unlink(missing_ok=True)
            path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise ProgramError(
                f"cannot remove {path}: {error.strerror}; make its folder one of this user"
            ) from error
        return True

    def trust_file(self, name: str, profile: Profile) -> Path:
        """Return a file that holds the profile's root; the SDK takes trust from files alone."""
        path = self._path(name).with_suffix(".pem")
        content = profile.root_pem.encode()
        if not path.exists() or path.read_bytes() != content:
            self._make_folder()
            write_secret(path, content)
        return path

    def names(self) -> list[str]:
        """Return the names of all profiles, sorted."""
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(mode=SECRET_FOLDER_MODE, parents=True, exist_ok=True)
            self.folder.chmod(SECRET_FOLDER_MODE)  # it may have been made by somebody else's umask
        except OSError as error:
            raise ProgramError(
                f"cannot use {self.folder}: {error.strerror}; make it a folder of this user,"
                f" or name another one in {FOLDER_VARIABLE}"
            ) from error

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise CommandError(
                f"{name!r} cannot be a profile's name; use up to 64 letters, digits, '-' and '_'",
                ExitCode.USAGE,
            )
        return self.folder / f"{name}.json"


def default_folder() -> Path:
    """Return the folder of profiles: the variable, else below the XDG configuration folder."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "site-recovery"


def read_root(path: Path) -> str:
    """Return the PEM of a root certificate file; CommandError when it holds no certificate."""
    try:
        with path.open("rb") as stream:
            content = stream.read(PROFILE_BYTES_MAX + 1)
        # A file as large as this is something else.
        x509.load_pem_x509_certificates(content if len(content) <= PROFILE_BYTES_MAX else b"")
        return content.decode("ascii")
    except OSError as error:
        raise CommandError(
            f"cannot read {path}: {error.strerror}; name the hub's root certificate"
            " (its data directory has it as trust/root.pem)",
            ExitCode.USAGE,
        ) from error
    except ValueError as error:
        raise CommandError(
            f"{path} holds no certificate ({error}); name the hub's trust/root.pem", ExitCode.USAGE
        ) from error


def read_client_secret(path: Path) -> str:
    """Return a service account's secret in a file that only its owner may read."""
    secret = read_secret(path, TOKEN_BYTES_MAX).decode("ascii", errors="replace").strip()
    if not _TOKEN.fullmatch(secret):
        raise CommandError(
            f"{path} holds no client secret; make a new one: site-recovery account rotate",
            ExitCode.USAGE,
        )
    return secret


def read_token(path: Path) -> str:
    """Return the bearer token in a file that only its owner may read."""
    token = read_secret(path, TOKEN_BYTES_MAX).decode("ascii", errors="replace").strip()
    if not _TOKEN.fullmatch(token):
        raise CommandError(
            f"{path} holds no bearer token; make one on the hub: service-hub token issue",
            ExitCode.USAGE,
        )
    return token
