"""A real PostgreSQL of the distribution's packages: own directory, own port, durable, ended by pid.

It runs as the user `postgres` when the tests run as root, which PostgreSQL refuses, else as whoever
runs them. Nothing of a server that may run on this machine already is touched.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

SYSTEM_USER: Final = "postgres"
"""What Debian's package calls the owner of servers."""

START_SECONDS_MAX: Final = 60
STOP_SECONDS_MAX: Final = 30
POLL_SECONDS: Final = 0.02
VERSION_MIN: Final = 14
ROLE: Final = "hub"

_SETTINGS: Final[Mapping[str, str]] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "listen_addresses": "127.0.0.1",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] %a ",
}


def binaries() -> Path | None:
    """Return the folder of the newest installed server that is new enough, or None."""
    found: list[tuple[int, Path]] = []
    for program in Path("/usr/lib/postgresql").glob("*/bin/postgres"):
        version = program.parent.parent.name
        if version.isdecimal() and int(version) >= VERSION_MIN:
            found.append((int(version), program.parent))
    if found:
        return max(found)[1]
    program_in_path = shutil.which("postgres")
    if program_in_path is None:
        return None
    return Path(program_in_path).resolve().parent


@dataclass(slots=True)
class PostgresServer:
    """A server; `port` stays the same when it is started again."""

    folder: Path
    port: int
    superuser_password: str
    password: str
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    shared_database: str | None = None
    """A database that contract tests use one after the other, emptied in between."""

    @property
    def data(self) -> Path:
        """The directory of the cluster."""
        return self.folder / "data"

    @property
    def log(self) -> str:
        """What the server has said so far."""
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        settings = {
            **_SETTINGS,
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                _as_owner([_program("postgres"), "-D", str(self.data), *options]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.folder,
            )
        limit = time.monotonic() + START_SECONDS_MAX
        while not self._is_ready():
            assert self.process.poll() is None, f"the server has ended:\n{self.log}"
            assert time.monotonic() < limit, f"the server is not ready in time:\n{self.log}"
            time.sleep(POLL_SECONDS)

    def _is_ready(self) -> bool:
        # The last line of postmaster.pid says so (src/include/utils/pidfile.h).
        with contextlib.suppress(FileNotFoundError):
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            return (
                self.process is not None
                and len(lines) > 7
                and int(lines[0]) == self.process.pid
                and lines[7].strip() == "ready"
            )
        return False

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it by its pid: SIGINT ends connections, SIGQUIT at once as a crash would."""
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(STOP_SECONDS_MAX)
        self.process = None

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it and start it again on the same port."""
        self.stop(how)
        self.start()

    def run(self, statement: str, database: str = "postgres") -> str:
        """Run a statement as the superuser; return rows as text, columns parted by `|`."""
        done = subprocess.run(
            [_program("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement],
            env={
                "PATH": os.defpath,
                "PGHOST": str(self.folder),
                "PGPORT": str(self.port),
                "PGUSER": SYSTEM_USER,
                "PGPASSWORD": self.superuser_password,
                "PGDATABASE": database,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{statement}\n{done.stderr}"
        return done.stdout.strip()

    def create_database(self) -> str:
        """Return the name of a new database that belongs to the hub's role."""
        name = f"hub_{secrets.token_hex(6)}"
        self.run(f"CREATE DATABASE {name} OWNER {ROLE}")
        return name

    def emptied_database(self) -> str:
        """Return the shared database, its tables there and empty: quicker than a new one."""
        if self.shared_database is None:
            self.shared_database = self.create_database()
            return self.shared_database
        name = self.shared_database
        tables = self.run("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", name)
        if not tables:
            return name
        kept = {"alembic_version", "change_counter"}
        emptied = [f"DELETE FROM {table}" for table in tables.split() if table not in kept]  # noqa: S608 -- our own names
        steps = [
            "BEGIN",
            "SET LOCAL synchronous_commit = off",
            *emptied,
            "UPDATE change_counter SET number = 0",
            "COMMIT",
        ]
        self.run("; ".join(steps), name)
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database with whoever is connected."""
        self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def end_connections(self, database: str) -> int:
        """End all connections to a database, as a broken network would; return how many."""
        mine = f"datname = '{database}' AND pid <> pg_backend_pid()"
        ended = self.run(
            f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {mine}"  # noqa: S608 -- our own name
        )
        return int(ended)

    def offer_tls(self, certificate: str, key: str) -> str:
        """Offer TLS to who connects from now on; return the certificate."""
        for name, text in (("server.crt", certificate), ("server.key", key)):
            file = self.data / name
            file.touch(mode=0o600)
            file.write_text(text)
            _own(file)
        self.run("ALTER SYSTEM SET ssl = on")
        self._reload("on")
        return certificate

    def offer_no_tls(self) -> None:
        """Speak in clear again."""
        self.run("ALTER SYSTEM RESET ssl")
        self._reload("off")

    def _reload(self, ssl: str) -> None:
        self.run("SELECT pg_reload_conf()")
        limit = time.monotonic() + START_SECONDS_MAX
        while self.run("SHOW ssl") != ssl:
            assert time.monotonic() < limit, f"ssl is not {ssl} in time:\n{self.log}"
            time.sleep(POLL_SECONDS)

    def settings(
        self, database: str, password_file: Path, port: int | None = None
    ) -> dict[str, object]:
        """Return the hub's `database:` settings; writes the password file (0600)."""
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        return {
            "kind": "postgresql",
            "host": "127.0.0.1",
            "port": port or self.port,
            "name": database,
            "user": ROLE,
            "password_file": str(password_file),
            "tls": "off",
        }


@contextmanager
def running_server() -> Iterator[PostgresServer]:
    """Make a cluster and run it while the context is open."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    server = PostgresServer(
        folder, _free_port(), secrets.token_urlsafe(12), secrets.token_urlsafe(12)
    )
    try:
        _own(folder)
        _make_cluster(server)
        server.start()
        server.run(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{server.password}'")
        yield server
    finally:
        # All of it is thrown away: at once, without a checkpoint.
        server.stop(signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)


def _make_cluster(server: PostgresServer) -> None:
    password_file = server.folder / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(server.superuser_password)
    _own(password_file)
    # What initdb itself writes need not survive a power cut; what the server writes must.
    command = [
        _program("initdb"),
        "--no-sync",
        "--no-instructions",
        f"--pgdata={server.data}",
        f"--username={SYSTEM_USER}",
        "--auth=scram-sha-256",
        f"--pwfile={password_file}",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
    ]
    done = subprocess.run(
        _as_owner(command),
        capture_output=True,
        text=True,
        timeout=START_SECONDS_MAX,
        check=False,
        cwd=server.folder,
    )
    assert done.returncode == 0, f"initdb: {done.stderr}"


def _program(name: str) -> str:
    folder = binaries()
    assert folder is not None, "mark the test with needs('postgresql')"
    return str(folder / name)


def _as_owner(command: list[str]) -> list[str]:
    """Return a command that runs as somebody whom PostgreSQL does not refuse; same process id."""
    if os.geteuid() != 0:
        return command
    entry = pwd.getpwnam(SYSTEM_USER)
    become = [f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
    return ["setpriv", *become, "--", *command]


def _own(path: Path) -> None:
    if os.geteuid() == 0:
        entry = pwd.getpwnam(SYSTEM_USER)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
