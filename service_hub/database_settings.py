"""Which database a hub uses: a file of its own, or a PostgreSQL that several hubs share."""

from enum import StrEnum
from pathlib import Path

from pydantic import Field, model_validator

from service_shell.configuration import Settings

PORT_MAX = 65_535


class DatabaseKind(StrEnum):
    """The databases that a hub can use."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


class DatabaseTls(StrEnum):
    """How a connection to PostgreSQL is protected; on a socket of this machine it never is."""

    OFF = "off"
    REQUIRE = "require"
    VERIFY = "verify"


class DatabaseSettings(Settings):
    """`kind: sqlite` needs nothing more: the file lies in the data directory."""

    kind: DatabaseKind = DatabaseKind.SQLITE
    host: str = Field(default="", max_length=253)
    socket_directory: Path | None = None
    port: int = Field(default=5432, ge=1, le=PORT_MAX)
    name: str = Field(default="service_hub", min_length=1, max_length=63)
    user: str = Field(default="service_hub", min_length=1, max_length=63)
    password_file: Path | None = None
    """A file of mode 0600 with the password; without one, PostgreSQL must trust the socket."""

    tls: DatabaseTls = DatabaseTls.VERIFY
    tls_root_file: Path | None = None
    """The roots (PEM) that the server's certificate must chain to; without it, the machine's."""

    @model_validator(mode="after")
    def _is_whole(self) -> "DatabaseSettings":
        if self.kind is DatabaseKind.SQLITE:
            meant = type(self).model_fields
            superfluous = sorted(
                name for name in meant if getattr(self, name) != meant[name].default
            )
            if superfluous:
                raise ValueError(f"kind sqlite takes no {superfluous[0]}: it is a file")
        elif bool(self.host) == (self.socket_directory is not None):
            raise ValueError("kind postgresql needs either host or socket_directory")
        return self

    @property
    def place(self) -> str:
        """The database in words; never with the password."""
        if self.socket_directory is not None:
            return f"PostgreSQL database {self.name} at {self.socket_directory} port {self.port}"
        return f"PostgreSQL database {self.name} at {self.host}:{self.port}"
