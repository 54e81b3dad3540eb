"""Real, small ext4 images for guests, and a host's storage that fails where a test asks for it."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab.disk_templates import DiskPlan
from lab.disks import prepare_machine_disks


@dataclass
class Storage:
    """Writes images as a host without replication does; fails where a test asks for it."""

    paths: Sequence[Path]
    records: list[int] = field(default_factory=list)
    write_error: Exception | None = None
    flush_error: Exception | None = None
    flush_hold: asyncio.Event | None = None

    def write(self, disk_index: int, offset: int, data: bytes, record: int) -> None:
        """Write, or fail as asked."""
        if self.write_error is not None:
            raise self.write_error
        with self.paths[disk_index].open("r+b") as image:
            os.pwrite(image.fileno(), data, offset)
        self.records.append(record)

    async def flush(self) -> None:
        """Flush, or fail or wait as asked."""
        if self.flush_hold is not None:
            await self.flush_hold.wait()
        if self.flush_error is not None:
            raise self.flush_error


def make_guest_disks(folder: Path) -> Sequence[Path]:
    """Return the fresh disks of one machine, to be copied."""
    (folder / "source").mkdir()
    (folder / "source" / "text.txt").write_text("a file\n" * 100)
    plans = [
        DiskPlan(name, (folder / "source",), 1 << 20, 64, 2, 8 * 4096, 1 << 20)
        for name in ("system", "data")
    ]
    paths = [folder / "system.raw", folder / "data.raw"]
    prepare_machine_disks(paths, plans, b"a machine's seed", folder / "cache")
    return paths
