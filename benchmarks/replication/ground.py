"""What a run stands on: a folder, disks to copy, certificates, and the changes of a guest."""

import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from certs.chain import TrustChain
from certs.identity import new_private_key, private_key_pem
from certs.profiles import Profile
from service_shell.clock import SystemClock

HOST: Final = "127.0.0.1"
PRIMARY: Final = "localhost"
"""Both ends are called so: some peers verify the name that they connect to and take no other."""

DISK_BYTES: Final = 2 * 2**30
DATA_BYTES: Final = 1_250_000_000
DATA_EXTENTS: Final = 20
CHANGES: Final = 3_096
CHANGE_BYTES: Final = 34_816
"""5 % of the disk in scattered writes; about 2.7 times as much in blocks of 64 KiB."""

SECTOR_BYTES: Final = 512
_PIECE_BYTES: Final = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Ground:
    """The folder of a run; `scale` divides all sizes, for a run that only tries."""

    folder: Path
    scale: int = 1

    @property
    def source(self) -> Path:
        """The disk that is copied."""
        return self.folder / "source.raw"

    @property
    def certificates(self) -> Path:
        """Certificates and keys, named as nbdkit, nbdcopy and QEMU look for them."""
        return self.folder / "certificates"

    @property
    def disk_bytes(self) -> int:
        """Size of the disk."""
        return DISK_BYTES // self.scale

    @property
    def data_bytes(self) -> int:
        """How much of it is data; the rest is holes."""
        return DATA_BYTES // self.scale

    @property
    def change_count(self) -> int:
        """How many writes make a change set."""
        return CHANGES // self.scale

    def prepare(self) -> None:
        """Make disk and certificates."""
        write_data(self.source, self.disk_bytes, self.data_bytes)
        write_certificates(self.certificates)

    def changes(self, seed: int) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, bytes) of a change set; the same for the same seed, on whole sectors."""
        chance = random.Random(seed)  # noqa: S311 -- no secret: the same bytes in every run
        last = (self.disk_bytes - CHANGE_BYTES) // SECTOR_BYTES
        for _ in range(self.change_count):
            yield chance.randrange(last) * SECTOR_BYTES, chance.randbytes(CHANGE_BYTES)

    def fresh(self, name: str) -> Path:
        """Return an empty folder for one run of one peer."""
        folder = self.folder / name
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        return folder


def write_data(path: Path, disk_bytes: int, data_bytes: int) -> None:
    """Make a sparse file whose data lies in several extents and cannot be compressed."""
    chance = random.Random(disk_bytes)  # noqa: S311 -- as above
    step, each = disk_bytes // DATA_EXTENTS, data_bytes // DATA_EXTENTS
    with path.open("wb") as file:
        file.truncate(disk_bytes)
        for index in range(DATA_EXTENTS):
            file.seek(index * step)
            for done in range(0, each, _PIECE_BYTES):
                file.write(chance.randbytes(min(_PIECE_BYTES, each - done)))
        file.flush()
        os.fsync(file.fileno())


def write_certificates(folder: Path) -> None:
    """Make one authority and one certificate for each end, as a host has them."""
    folder.mkdir()
    now = SystemClock().now()
    chain = TrustChain.create(now, "replication benchmark")
    for name in ("server", "client"):
        key = new_private_key()
        issued = chain.issue(
            Profile.HYPERV_HOST, key.public_key(), PRIMARY, now, dns_names=[PRIMARY]
        )
        (folder / f"{name}-cert.pem").write_text(issued.chain_pem)
        _write_secret(folder / f"{name}-key.pem", private_key_pem(key))
    (folder / "ca-cert.pem").write_text(chain.root_pem)


def _write_secret(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
