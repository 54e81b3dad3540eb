"""Where the hosts of the estate are: a file in the format of /etc/hosts; pure but for one read."""

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from service_shell.errors import ProgramError

FILE_BYTES_MAX: Final = 1_048_576
NAME_LENGTH_MAX: Final = 253


class DamagedHostsFileError(Exception):
    """A line that is no line of a hosts file; the message names it."""


def parse_hosts(data: bytes) -> dict[str, str]:
    """Return address by name (lower case); the first line that has a name wins, as in hosts(5)."""
    if len(data) > FILE_BYTES_MAX:
        raise DamagedHostsFileError(f"larger than {FILE_BYTES_MAX} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DamagedHostsFileError("not UTF-8 text") from error
    addresses: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        try:
            address = str(ipaddress.ip_address(fields[0]))
        except ValueError as error:
            raise DamagedHostsFileError(f"line {number}: no IP address at its beginning") from error
        for name in fields[1:]:
            if len(name) > NAME_LENGTH_MAX:
                raise DamagedHostsFileError(f"line {number}: a name is too long")
            addresses.setdefault(name.lower(), address)
    return addresses


def read_hosts(path: Path) -> Mapping[str, str]:
    """Return the addresses of a hosts file; ProgramError when it cannot be used."""
    try:
        with path.open("rb") as stream:
            return parse_hosts(stream.read(FILE_BYTES_MAX + 1))
    except OSError as error:
        raise ProgramError(
            f"cannot read {path}: {error.strerror}; correct hosts_file in the configuration"
        ) from error
    except DamagedHostsFileError as error:
        raise ProgramError(f"{path}: {error}; write lines of `address name`") from error
