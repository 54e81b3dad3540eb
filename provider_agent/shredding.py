"""Files with a key that is not needed any more: overwritten and removed."""

import os
import secrets
from pathlib import Path
from typing import Final

from service_shell.errors import ProgramError

BLOCK_BYTES: Final = 65_536


def shred(path: Path) -> None:
    """Overwrite the file with chance, then remove it.

    A copy-on-write file system or a flash disk may keep the old blocks for a while all the same.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            left = os.fstat(descriptor).st_size
            while left > 0:
                left -= os.write(descriptor, secrets.token_bytes(min(left, BLOCK_BYTES)))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        path.unlink()
    except OSError as error:
        raise ProgramError(
            f"the credentials file {path} could not be shredded: {error.strerror}; remove it by"
            " hand, it holds a private key"
        ) from error
