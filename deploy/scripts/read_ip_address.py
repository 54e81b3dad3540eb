#!/usr/bin/env -S python3 -B
"""Sample action of a recovery plan: print the IP addresses of the group's machines on this server.

One line for each: the machine's name and its addresses as VMM has them. Fails where one has none.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

CONTEXT_BYTES_MAX = 16_777_216


def read_context() -> dict[str, Any]:
    """Return why this script runs and for which machines (docs/recovery-plans.md)."""
    with Path(os.environ["SITE_RECOVERY_CONTEXT"]).open("rb") as stream:
        context: dict[str, Any] = json.loads(stream.read(CONTEXT_BYTES_MAX))
    return context


def main() -> int:
    """Print the addresses; 1 where a machine has none."""
    missing = []
    for machine in read_context()["machines"]:
        addresses = machine["addresses"]
        sys.stdout.write(f"{machine['name']} {' '.join(addresses) or '(none)'}\n")
        if not addresses:
            missing.append(machine["name"])
    if missing:
        sys.stderr.write(
            f"VMM knows no address of {', '.join(missing)}: connect it to a network with a pool of"
            " addresses, or give it a static one.\n"
        )
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
