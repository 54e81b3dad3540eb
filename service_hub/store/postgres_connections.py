"""Connections to PostgreSQL: how they are made, and what is said when they cannot be.

The server ends what a paused hub left open (idle_in_transaction_session_timeout, below the lease),
so that no lock outlives its holder's right; every wait of ours is bounded too.
"""

import ssl
from dataclasses import dataclass
from typing import Final, TypeAlias

import asyncpg

from service_hub.database_settings import DatabaseSettings, DatabaseTls
from service_hub.domain.errors import StorageUnavailableError
from service_hub.store.errors import DatabaseUnusableError
from service_hub.store.unavailable import unavailable
from service_shell.secret_files import read_secret

CONNECT_SECONDS_MAX: Final = 10.0
STATEMENT_SECONDS_MAX: Final = 10.0
ANSWER_SECONDS_MAX: Final = STATEMENT_SECONDS_MAX + 5
"""How long we wait for an answer: the server works less long on it; the network may be gone."""

IDLE_MS_MIN: Final = 500
"""Of a transaction that waits for us; a hub that is only slow must get its work done."""

PASSWORD_BYTES_MAX: Final = 1024
VERSION_MIN: Final = 14

LOST: Final = (asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asyncpg says on a connection that has ended: the second when the server's farewell came
between two statements."""

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@dataclass(frozen=True, slots=True)
class Address:
    """Where and as whom to connect; the password is shown nowhere."""

    settings: DatabaseSettings
    password: str | None
    lease_seconds: float

    def __repr__(self) -> str:
        return f"Address({self.settings.place})"

    async def connect(self, purpose: str, *, seconds_max: float | None = None) -> Connection:
        """Return a new connection; `seconds_max` for work that takes longer than a hub's."""
        settings = self.settings
        statement = STATEMENT_SECONDS_MAX if seconds_max is None else seconds_max
        idle_ms = max(int(self.lease_seconds * 1000 / 3), IDLE_MS_MIN)
        return await asyncpg.connect(
            host=settings.host or str(settings.socket_directory),
            port=settings.port,
            user=settings.user,
            password=self.password,
            database=settings.name,
            ssl=self._tls(),
            timeout=CONNECT_SECONDS_MAX,
            command_timeout=statement + ANSWER_SECONDS_MAX - STATEMENT_SECONDS_MAX,
            server_settings={
                "application_name": f"service-hub {purpose}",
                "statement_timeout": str(int(statement * 1000)),
                "idle_in_transaction_session_timeout": str(idle_ms),
                "synchronous_commit": "on",
                "jit": "off",
            },
        )

    def _tls(self) -> ssl.SSLContext | bool:
        settings = self.settings
        if settings.socket_directory is not None or settings.tls is DatabaseTls.OFF:
            return False
        context = ssl.create_default_context(
            cafile=None if settings.tls_root_file is None else str(settings.tls_root_file)
        )
        if settings.tls is DatabaseTls.REQUIRE:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def address(settings: DatabaseSettings, lease_seconds: float) -> Address:
    """Return where to connect; ProgramError when the password file is unfit."""
    password = None
    if settings.password_file is not None:
        text = read_secret(settings.password_file, PASSWORD_BYTES_MAX).decode(errors="replace")
        password = text.rstrip("\r\n")
    return Address(settings, password, lease_seconds)


async def first_connection(where: Address, *, seconds_max: float | None = None) -> Connection:
    """Connect and look whom we have reached; DatabaseUnusableError names cause and remedy."""
    try:
        connection = await where.connect("opening", seconds_max=seconds_max)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as error:
        raise DatabaseUnusableError(explained(where.settings, error)) from error
    version = connection.get_server_version()
    if version.major < VERSION_MIN:
        await connection.close()
        raise DatabaseUnusableError(
            f"{where.settings.place} is version {version.major}: service-hub needs PostgreSQL "
            f"{VERSION_MIN} or newer"
        )
    return connection


def explained(settings: DatabaseSettings, error: BaseException) -> str:
    """Return one line: what is wrong with the database, and what to do."""
    place, user = settings.place, settings.user
    match error:
        case asyncpg.InvalidPasswordError() | asyncpg.InvalidAuthorizationSpecificationError():
            file = settings.password_file or "(none)"
            remedy = f"the server refuses the user {user}: check database.user and that"
            remedy += f" database.password_file {file} holds its password"
        case asyncpg.InvalidCatalogNameError():
            remedy = "there is no such database; as its administrator: CREATE DATABASE"
            remedy += f" {settings.name} OWNER {user}"
        case asyncpg.InsufficientPrivilegeError():
            remedy = f"the user {user} lacks a right ({_words(error)}); as its administrator:"
            remedy += f" ALTER DATABASE {settings.name} OWNER TO {user}"
        case asyncpg.TooManyConnectionsError() | asyncpg.CannotConnectNowError():
            remedy = f"the server takes no connection now ({_words(error)}); try again, or raise"
            remedy += " max_connections"
        case OSError() if isinstance(error, ssl.SSLError) or "SSL" in str(error):
            remedy = f"TLS fails ({_words(error)}): check database.tls and database.tls_root_file"
        case OSError():
            remedy = f"it cannot be reached ({_words(error)}): start the server, or correct"
            remedy += " database.host, database.socket_directory or database.port"
        case _:
            remedy = f"it cannot be used ({_words(error)}); look into the server's log"
    return f"{place}: {remedy}"


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def told(settings: DatabaseSettings, error: BaseException) -> BaseException:
    """Return the error to raise of a running hub: StorageUnavailableError when it may pass."""
    if isinstance(error, LOST):
        return StorageUnavailableError(_words(error), f"see that {settings.place} can be reached")
    return unavailable(error) or error
