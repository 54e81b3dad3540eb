"""Real proxies as their own users, with own files, on free loopback ports; and one that intercepts.

A distribution's own instance is never used: each is started here and ended here.
"""

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.agent_fakes.trust import Trust

USER, PASSWORD = "provider@tokyo", "pä:ss wörd"
SECONDS_MAX = 30.0
HEAD_BYTES_MAX = 16_384

SQUID = """
http_port 127.0.0.1:{port}
auth_param basic program {helper} {folder}/users
auth_param basic children 2
auth_param basic utf8 on
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
cache deny all
cache_mem 0 MB
access_log stdio:{folder}/access.log
cache_log {folder}/cache.log
cache_store_log none
pid_filename none
netdb_filename none
pinger_enable off
coredump_dir {folder}
shutdown_lifetime 0 seconds
visible_hostname proxy.test
"""
TINYPROXY = """
Port {port}
Listen 127.0.0.1
Timeout 60
MaxClients 50
Allow 127.0.0.1
LogFile "{folder}/access.log"
LogLevel Connect
"""


@dataclass(frozen=True)
class RealProxy:
    """A running proxy and the file in which it writes what it was asked for."""

    port: int
    log: Path

    def asked_for(self, target: str) -> bool:
        """Whether CONNECT to this host:port is in its log."""
        return target in self.log.read_text(errors="replace") if self.log.exists() else False


@contextlib.contextmanager
def squid(port: int) -> Iterator[RealProxy]:
    """Run squid; it wants USER and PASSWORD (Basic)."""
    with _folder("proxy") as folder:
        hashed = subprocess.run(
            ("openssl", "passwd", "-apr1", "-stdin"),
            input=PASSWORD.encode(),
            capture_output=True,
            check=True,
            timeout=SECONDS_MAX,
        )
        _write(folder / "users", f"{USER}:{hashed.stdout.decode().strip()}\n")
        helper = "/usr/lib/squid/basic_ncsa_auth"
        text = SQUID.format(port=port, folder=folder, helper=helper)
        configuration = _write(folder / "squid.conf", text)
        with _running(("squid", "-N", "-f", str(configuration)), folder, port):
            yield RealProxy(port, folder / "access.log")


@contextlib.contextmanager
def tinyproxy(port: int, user: str = "", password: str = "") -> Iterator[RealProxy]:
    """Run tinyproxy, with Basic authentication when a user is given."""
    with _folder("tinyproxy") as folder:
        text = TINYPROXY.format(port=port, folder=folder)
        if user:
            text += f"BasicAuth {user} {password}\n"
        configuration = _write(folder / "tinyproxy.conf", text)
        with _running(("tinyproxy", "-d", "-c", str(configuration)), folder, port):
            yield RealProxy(port, folder / "access.log")


@contextlib.contextmanager
def _folder(user: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="proxy-test-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            shutil.chown(folder, *_account(user))
        yield folder


def _account(user: str) -> tuple[int, int]:
    found = pwd.getpwnam(user)
    return found.pw_uid, found.pw_gid


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o644)
    return path


@contextlib.contextmanager
def _running(command: tuple[str, ...], folder: Path, port: int) -> Iterator[None]:
    facts = folder.stat()
    user, group = (facts.st_uid, facts.st_gid) if os.geteuid() == 0 else (None, None)
    extra_groups: list[int] | None = [] if os.geteuid() == 0 else None
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            user=user,
            group=group,
            extra_groups=extra_groups,
            process_group=0,
        )
        try:
            _wait_for(process, port, folder)
            yield
        finally:
            # With its helpers; its log is on disk, and squid would take 2 s to say goodbye.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(SECONDS_MAX)


def _wait_for(process: "subprocess.Popen[bytes]", port: int, folder: Path) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    logs = "\n".join(each.read_text(errors="replace") for each in folder.glob("*log"))
    output = (folder / "output").read_text(errors="replace")
    raise AssertionError(f"{process.args!r} does not listen:\n{output}\n{logs}")


@dataclass
class Interceptor:
    """A proxy that answers TLS itself, with certificates of its own authority."""

    port: int = 0
    asked: list[str] = field(default_factory=list)
    clear: bytes = b""
    """What it could read of what was meant for the hub; stays empty when it is recognised."""


@contextlib.asynccontextmanager
async def interceptor() -> AsyncIterator[Interceptor]:
    """Run an intercepting proxy with a rogue authority."""
    made = Interceptor()
    tls = Trust().server()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ssl.SSLError, EOFError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            made.asked.append(head.split()[1].decode())
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await writer.drain()
            await writer.start_tls(tls)
            made.clear += await reader.read(HEAD_BYTES_MAX)
        writer.transport.abort()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    made.port = int(server.sockets[0].getsockname()[1])
    try:
        yield made
    finally:
        server.close()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[int]:
    """Run something that answers whatever it is sent with these bytes; gives its port."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read(HEAD_BYTES_MAX)
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await server.wait_closed()
