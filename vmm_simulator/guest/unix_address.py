"""Addresses of unix sockets whose path is longer than the kernel takes (107 bytes)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

# sun_path of sockaddr_un has 108 bytes, the last of them zero (unix(7)).
ADDRESS_BYTES_MAX: Final = 107


@contextmanager
def unix_address(path: Path) -> Iterator[str]:
    """Yield an address for bind or connect that names `path`, however long its folder is."""
    if len(os.fsencode(path)) <= ADDRESS_BYTES_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
