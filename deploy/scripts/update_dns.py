#!/usr/bin/env -S python3 -B
"""Sample action of a recovery plan: have DNS name the group's machines by their addresses here.

RFC 2136 with TSIG, one atomic update for each machine. What its name meant before is kept beside it
(TXT record `_site-recovery.NAME`), so that update_dns_undo.py brings it back. Run again by the same
job it changes nothing more. Settings: update_dns.json in the folder of the scripts, mode 0600
(docs/recovery-plans.md).
"""

import ipaddress
import json
import os
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.tsigkeyring
import dns.update
from read_ip_address import read_context

SETTINGS = "update_dns.json"
SETTINGS_BYTES_MAX = 65_536
MARK = "_site-recovery"
TEXT_BYTES_MAX = 255
"""Of one string of a TXT record; a longer one is cut into several."""

TESTS = frozenset({"TestFailover", "TestFailoverCleanup"})
ADDRESS_TYPES = (dns.rdatatype.A, dns.rdatatype.AAAA)


class RefusedError(Exception):
    """It cannot be done; the message names cause and remedy."""


@dataclass(frozen=True)
class Mark:
    """What a name meant before, and which job changed that."""

    job: str
    before: tuple[str, ...]


@dataclass(frozen=True)
class Settings:
    """Which server, zone and key; `names` are of machines that are called otherwise in DNS."""

    server: str
    port: int
    zone: dns.name.Name
    names: dict[str, str]
    ttl: int
    seconds: float
    key_name: str
    key_secret: str
    key_algorithm: str

    def name_of(self, machine: str) -> dns.name.Name:
        """Return the name of a machine in the zone."""
        label = self.names.get(machine, machine).lower()
        try:
            name = dns.name.from_text(label, self.zone)
        except dns.exception.DNSException as error:
            raise RefusedError(f"'{label}' is no DNS name: {error}; give it one in 'names'.") from (
                error
            )
        if not name.is_subdomain(self.zone):
            raise RefusedError(f"{name} lies outside of the zone {self.zone}.")
        return name


def read_settings(kind: str) -> Settings:
    """Return the settings for this kind of operation: tests have a zone of their own, or none."""
    path = Path(os.environ["SITE_RECOVERY_SCRIPT_FOLDER"]) / SETTINGS
    try:
        mode = path.stat().st_mode
        with path.open("rb") as stream:
            given: dict[str, Any] = json.loads(stream.read(SETTINGS_BYTES_MAX))
        if stat.S_IMODE(mode) & 0o077:
            raise RefusedError(f"{path} holds a key and others may read it: chmod 600 it.")
        zone = given.get("test_zone") if kind in TESTS else given["zone"]
        if zone is None:
            raise RefusedError(
                f"A test must not change the names that users work with: give {path} a 'test_zone'."
            )
        key = given["key"]
        return Settings(
            server=str(given["server"]),
            port=int(given.get("port", 53)),
            zone=dns.name.from_text(str(zone)),
            names={str(name): str(label) for name, label in given.get("names", {}).items()},
            ttl=int(given.get("ttl", 60)),
            seconds=float(given.get("seconds", 10)),
            key_name=str(key["name"]),
            key_secret=str(key["secret"]),
            key_algorithm=str(key.get("algorithm", "hmac-sha256")),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RefusedError(f"The settings in {path} cannot be used: {error!r}.") from error


def addresses_of(settings: Settings, name: dns.name.Name) -> tuple[str, ...]:
    """Return what a name means now."""
    found: list[str] = []
    for kind in ADDRESS_TYPES:
        found += [record.to_text() for record in _records(settings, name, kind)]
    return tuple(sorted(found))


def mark_of(settings: Settings, name: dns.name.Name) -> Mark | None:
    """Return what a name meant before it was changed; None where nobody changed it."""
    for record in _records(settings, _mark_name(name), dns.rdatatype.TXT):
        try:
            value = json.loads(b"".join(record.strings))
            return Mark(str(value["job"]), tuple(map(str, value["before"])))
        except (ValueError, KeyError, TypeError) as error:
            raise RefusedError(f"The record {_mark_name(name)} is none of ours: {error!r}.") from (
                error
            )
    return None


def change(
    settings: Settings, name: dns.name.Name, addresses: Iterable[str], mark: Mark | None
) -> None:
    """Have a name mean these addresses, and keep the mark beside it: both or neither."""
    keyring = dns.tsigkeyring.from_text({settings.key_name: settings.key_secret})
    update = dns.update.UpdateMessage(
        settings.zone, keyring=keyring, keyalgorithm=dns.name.from_text(settings.key_algorithm)
    )
    for kind in ADDRESS_TYPES:
        update.delete(name, kind)
    for text in addresses:
        kind = dns.rdatatype.A if ipaddress.ip_address(text).version == 4 else dns.rdatatype.AAAA  # noqa: PLR2004 -- the version of the protocol
        update.add(name, settings.ttl, kind, text)
    update.delete(_mark_name(name), dns.rdatatype.TXT)
    if mark is not None:
        content = json.dumps({"job": mark.job, "before": mark.before})
        parts = [content[at : at + TEXT_BYTES_MAX] for at in range(0, len(content), TEXT_BYTES_MAX)]
        text = " ".join(
            '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"' for part in parts
        )
        update.add(_mark_name(name), settings.ttl, dns.rdatatype.TXT, text)
    _asked(settings, update)


def machines_of(context: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Return the machines with their addresses on this server, each at least one."""
    machines = [(str(each["name"]), list(each["addresses"])) for each in context["machines"]]
    missing = [name for name, addresses in machines if not addresses]
    if missing:
        raise RefusedError(
            f"VMM knows no address of {', '.join(missing)}: connect it to a network with a pool of"
            " addresses, or give it a static one."
        )
    return machines


def main() -> int:
    """Change the names of all machines of the group."""
    context = read_context()
    settings = read_settings(context["kind"])
    for machine, addresses in machines_of(context):
        name = settings.name_of(machine)
        before, mark = addresses_of(settings, name), mark_of(settings, name)
        if mark is None or mark.job != context["job_id"]:
            mark = Mark(context["job_id"], before)
        change(settings, name, addresses, mark)
        now = addresses_of(settings, name)
        if sorted(now) != sorted(addresses):
            raise RefusedError(f"{name} still means {now} at {settings.server}.")
        sys.stdout.write(f"{name} {' '.join(mark.before) or '(nothing)'} -> {' '.join(now)}\n")
    return 0


def ended(work: Any) -> int:
    """Run a script to its exit code; what it cannot do goes to standard error in one line."""
    try:
        return int(work())
    except (RefusedError, dns.exception.DNSException, OSError, KeyError) as error:
        sys.stderr.write(f"{error if isinstance(error, RefusedError) else repr(error)}\n")
        return 1


def _mark_name(name: dns.name.Name) -> dns.name.Name:
    return dns.name.from_text(MARK, name)


def _records(settings: Settings, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> list[Any]:
    # Asked of the server that is updated, and not of one that may remember what was.
    query = dns.message.make_query(name, kind)
    query.flags &= ~dns.flags.RD
    answer = _asked(settings, query)
    return [
        record
        for rrset in answer.answer
        if rrset.rdtype == kind and rrset.name == name
        for record in rrset
    ]


def _asked(settings: Settings, message: dns.message.Message) -> dns.message.Message:
    answer = dns.query.tcp(message, settings.server, timeout=settings.seconds, port=settings.port)
    is_query = not isinstance(message, dns.update.UpdateMessage)
    if answer.rcode() == dns.rcode.NXDOMAIN and is_query:
        return answer
    if answer.rcode() != dns.rcode.NOERROR:
        raise RefusedError(
            f"The DNS server {settings.server} answered {dns.rcode.to_text(answer.rcode())}: may"
            f" the key {settings.key_name} change the zone {settings.zone}?"
        )
    return answer


if __name__ == "__main__":
    sys.exit(ended(main))
