"""Run a program that ends when its parent ends: `bound_process.py PARENT PROGRAM ARGUMENT...`.

The kernel sends SIGKILL when the parent is gone (prctl(2), PR_SET_PDEATHSIG), however it went. This
file imports nothing of ours, so that it costs next to nothing.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Bind this process to its parent, then become the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the parent ended before the program began")
    os.execv(program[0], program)  # noqa: S606 -- no shell wanted


if __name__ == "__main__":
    main()
