"""Become a script that ends when its provider ends: `script_launcher.py PARENT SCRIPT`.

The kernel sends SIGKILL when the parent is gone (prctl(2), PR_SET_PDEATHSIG), however it went. This
file imports nothing of ours, so that it costs next to nothing. What keeps it from running the
script goes to standard error, which the provider reports.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Bind this process to its parent, then become the script."""
    parent, script = int(sys.argv[1]), sys.argv[2]
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the provider ended before the script began")
    try:
        os.execv(script, [script])  # noqa: S606 -- no shell wanted
    except OSError as error:
        sys.exit(
            f"the system cannot run it: {error.strerror};"
            " its first line must name an interpreter that there is, such as #!/bin/sh"
        )


if __name__ == "__main__":
    main()
