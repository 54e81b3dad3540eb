"""What guests have written, read from the images of a machine that is off."""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from vmm_simulator.guest.filesystem import read_file
from vmm_simulator.guest.layout import find_layout
from vmm_simulator.guest.records import Record, read_window


def records_on(images: Sequence[Path]) -> Mapping[int, Record]:
    """Return every record by its number; an AssertionError names what is wrong with them."""
    with ExitStack() as stack:
        opened = []
        for image in images:
            opened.append(os.open(image, os.O_RDONLY | os.O_CLOEXEC))
            stack.callback(os.close, opened[-1])
        layout = find_layout(images, opened)
        files = [
            read_file(disk.path, disk.manifest.record_path, disk.manifest.record_bytes)
            for disk in layout.disks
        ]
        window = read_window(layout.ring, files, layout.seed)
    assert not window.faults, window.faults
    return window.records
