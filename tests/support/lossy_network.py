"""Two network namespaces with a slow and lossy line between them, made and removed by a test.

`tc tbf` keeps the rate, an nftables rule with `numgen random` loses packets (netem is missing in
many kernels). Sockets that are made inside belong to their namespace for as long as they live, so
that both ends can be played by one process.
"""

import contextlib
import ctypes
import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RATE_KILOBITS = 1_000
LOSS_PERCENT = 5
ADDRESSES = ("198.18.0.1", "198.18.0.2")
SECONDS_MAX = 20.0
_NEW_NETWORK = 0x40000000
_RULES = """
table inet line {{
    chain lost {{
        type filter hook input priority 0;
        numgen random mod 100 < {percent} counter drop
    }}
}}
"""


class LineError(Exception):
    """Such a line cannot be made here; the message says why."""


@dataclass(frozen=True)
class LossyLine:
    """The line; its ends are 0 and 1."""

    names: tuple[str, str]

    def socket(self, end: int) -> socket.socket:
        """Return a TCP socket of one end."""
        made: list[socket.socket] = []
        failed: list[OSError] = []

        def make() -> None:
            # setns is of one thread: this one, which ends with it.
            try:
                with Path(f"/run/netns/{self.names[end]}").open("rb") as namespace:
                    libc = ctypes.CDLL(None, use_errno=True)
                    if libc.setns(namespace.fileno(), _NEW_NETWORK) != 0:
                        number = ctypes.get_errno()
                        raise OSError(number, os.strerror(number))  # noqa: TRY301 -- kept for the caller
                made.append(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join(SECONDS_MAX)
        if failed:
            raise LineError(f"a socket in another namespace cannot be made: {failed[0]}")
        return made[0]

    def lost(self) -> int:
        """Return how many packets were lost so far."""
        return sum(_dropped(name) for name in self.names)


def _dropped(name: str) -> int:
    told = json.loads(_run("ip", "netns", "exec", name, "nft", "-j", "list", "chain", *_CHAIN))
    rules = [each["rule"]["expr"] for each in told["nftables"] if "rule" in each]
    counters = [part["counter"]["packets"] for rule in rules for part in rule if "counter" in part]
    return int(sum(counters))


_CHAIN = ("inet", "line", "lost")


@contextlib.contextmanager
def lossy_line() -> Iterator[LossyLine]:
    """Make a line; LineError where that is not possible."""
    missing = [tool for tool in ("ip", "tc", "nft") if shutil.which(tool, path=_path()) is None]
    if missing:
        raise LineError(f"{', '.join(missing)} is not installed")
    if os.geteuid() != 0:
        raise LineError("only root makes network namespaces")
    names = (f"line-{os.getpid()}-0", f"line-{os.getpid()}-1")
    with contextlib.ExitStack() as stack:
        for name in names:
            _run("ip", "netns", "add", name)
            stack.callback(_run, "ip", "netns", "del", name)
        _run(
            *("ip", "link", "add", "line", "netns", names[0], "type", "veth"),
            *("peer", "name", "line", "netns", names[1]),
        )
        for name, address in zip(names, ADDRESSES, strict=True):
            inside = ("ip", "netns", "exec", name)
            _run(*inside, "ip", "address", "add", f"{address}/30", "dev", "line")
            _run(*inside, "ip", "link", "set", "line", "up")
            rate = ("rate", f"{RATE_KILOBITS}kbit", "burst", "16kb", "latency", "500ms")
            _run(*inside, "tc", "qdisc", "add", "dev", "line", "root", "tbf", *rate)
            _run(*inside, "nft", "-f", "-", given=_RULES.format(percent=LOSS_PERCENT))
        yield LossyLine(names)


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _run(*command: str, given: str | None = None) -> str:
    try:
        ended = subprocess.run(
            command,
            input=given,
            env={**os.environ, "PATH": _path()},
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LineError(f"{' '.join(command)}: no end") from error
    if ended.returncode != 0:
        raise LineError(f"{' '.join(command)}: {ended.stderr.strip()}")
    return ended.stdout
