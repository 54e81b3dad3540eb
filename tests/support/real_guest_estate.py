"""A simulator's estate whose machine has real file systems, so that the real guest runs on them."""

import os
from pathlib import Path

from lab.disk_templates import MEBIBYTE
from lab.disks import DiskPlan, prepare_machine_disks
from tests.support.simulator_estate import Estate, make_estate

FILE_BYTES = 20_000


def real_guest_estate(folder: Path, *, files: int = 1) -> Estate:
    """Return the estate; each of its machine's two disks holds so many files of random bytes."""
    estate = make_estate(folder, records_per_second=50)
    sources = folder / "content"
    sources.mkdir()
    for number in range(files):
        (sources / f"file-{number}").write_bytes(os.urandom(FILE_BYTES))
    plans = [
        DiskPlan(
            name=name,
            sources=(sources,),
            files_bytes_max=MEBIBYTE,
            record_slots=256,
            rewrite_files=1,
            rewrite_file_bytes=65_536,
            free_bytes=MEBIBYTE,
        )
        for name in ("system", "data")
    ]
    prepare_machine_disks(estate.images, plans, os.urandom(16), folder / "cache")
    return estate
