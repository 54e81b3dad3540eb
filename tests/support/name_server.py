"""A real DNS server (knot) that takes updates by TSIG: own files, own address, ended by its pid."""

import contextlib
import secrets
import shutil
import signal
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

PORT: Final = 5_300
START_SECONDS_MAX: Final = 30
STOP_SECONDS_MAX: Final = 20
QUERY_SECONDS_MAX: Final = 10
POLL_SECONDS: Final = 0.05
KEY_NAME: Final = "recovery"

_ZONE: Final = """$ORIGIN {zone}.
$TTL 60
@ IN SOA ns hostmaster 1 3600 600 86400 60
@ IN NS ns
ns IN A {address}
"""

_CONFIGURATION: Final = """
server:
    rundir: "{folder}"
    listen: {address}@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
control:
    listen: "{folder}/control"
log:
  - target: stderr
    any: warning
database:
    storage: "{folder}/database"
    journal-db-max-size: 16M
    kasp-db-max-size: 16M
    timer-db-max-size: 16M
key:
  - id: {key}
    algorithm: hmac-sha256
    secret: {secret}
acl:
  - id: updates
    key: {key}
    action: update
"""


@dataclass(frozen=True)
class NameServer:
    """A running server with zones that whoever has the key may change."""

    address: str
    port: int = PORT
    secret: str = field(default_factory=lambda: b64encode(secrets.token_bytes(32)).decode())

    def settings(self, zone: str, **more: Any) -> dict[str, Any]:
        """Return the settings that the sample scripts read."""
        key = {"name": KEY_NAME, "algorithm": "hmac-sha256", "secret": self.secret}
        return {"server": self.address, "port": self.port, "zone": zone, "key": key, **more}

    def asked(self, name: str, kind: str = "A") -> list[str] | None:
        """Return what a name means; None: there is no such name."""
        query = dns.message.make_query(name, kind)
        answer = dns.query.udp(query, self.address, port=self.port, timeout=QUERY_SECONDS_MAX)
        if answer.rcode() == dns.rcode.NXDOMAIN:
            return None
        assert answer.rcode() == dns.rcode.NOERROR, dns.rcode.to_text(answer.rcode())
        wanted = dns.rdatatype.from_text(kind)
        found = (each for each in answer.answer if each.rdtype == wanted)
        return sorted(record.to_text() for each in found for record in each)


@contextmanager
def name_server(
    folder: Path, address: str, zones: Sequence[str], records: Sequence[str] = ()
) -> Iterator[NameServer]:
    """Run a server of these zones; `records` stand in the first of them."""
    folder.mkdir()
    (folder / "database").mkdir()
    server = NameServer(address)
    text = _CONFIGURATION.format(
        folder=folder, address=address, port=PORT, key=KEY_NAME, secret=server.secret
    )
    text += "zone:\n"
    for place, zone in enumerate(zones):
        more = "\n".join(records) if place == 0 else ""
        (folder / zone).write_text(f"{_ZONE.format(zone=zone, address=address)}{more}\n")
        text += f'  - domain: {zone}\n    storage: "{folder}"\n    file: {zone}\n    acl: updates\n'
    file = folder / "knot.conf"
    file.touch(mode=0o600)
    file.write_text(text)
    program = shutil.which("knotd")
    assert program is not None, "the test is marked with what it needs"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "-c", str(file)], stdout=log, stderr=log)
    try:
        _wait_until_it_answers(server, process, zones[0], folder / "log")
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_answers(
    server: NameServer, process: "subprocess.Popen[bytes]", zone: str, log: Path
) -> None:
    ends_at = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < ends_at:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(dns.exception.DNSException, OSError):
            query = dns.message.make_query(zone, "SOA")
            answer = dns.query.udp(query, server.address, port=server.port, timeout=1)
            if answer.rcode() == dns.rcode.NOERROR and answer.answer:
                return
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"no answer in {START_SECONDS_MAX} s: {log.read_text()}")
