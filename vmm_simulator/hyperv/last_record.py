"""The newest record number that a guest has named, in shared memory."""

import struct
from pathlib import Path
from typing import Final

from vmm_simulator.hyperv.disks import map_file

_NUMBER: Final = struct.Struct("<Q")


class LastRecord:
    """The newest record number that a guest has named; survives kill -9 like the marks."""

    def __init__(self, path: Path) -> None:
        self._memory = map_file(path, _NUMBER.size)

    @property
    def number(self) -> int:
        """The newest number, 0 when none was named."""
        (number,) = _NUMBER.unpack_from(self._memory)
        return int(number)

    def set(self, number: int) -> None:
        """Keep this number."""
        _NUMBER.pack_into(self._memory, 0, number)

    def close(self) -> None:
        """Unmap the file."""
        self._memory.close()
