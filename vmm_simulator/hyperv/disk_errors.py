"""Which errors are of a host's own disks, and whether they pass when somebody makes room; pure."""

import errno
from typing import Final

STORAGE_ERRORS: Final = frozenset(
    {
        errno.EACCES,
        errno.EBADF,
        errno.EFBIG,
        errno.EIO,
        errno.EISDIR,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)
"""Numbers of errors of a disk, which do not pass by themselves."""

ROOM_ERRORS: Final = frozenset({errno.EDQUOT, errno.ENOSPC})
"""Numbers of errors that pass as soon as there is room."""


def is_of_disks(error: OSError) -> bool:
    """Return whether an error is of this host's disks, and not of the way to another host."""
    return error.errno in STORAGE_ERRORS | ROOM_ERRORS
