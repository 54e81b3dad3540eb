#!/usr/bin/env -S python3 -B
"""Sample undo of a recovery plan: have the group's machines be named as before update_dns.py ran.

For the undo path of its action: run by the clean-up of a test, and by a failover that is cancelled.
A name that was not changed stays as it is.
"""

import sys

from read_ip_address import read_context
from update_dns import addresses_of, change, ended, mark_of, read_settings


def main() -> int:
    """Bring the names of all machines of the group back."""
    context = read_context()
    settings = read_settings(context["kind"])
    for machine in context["machines"]:
        name = settings.name_of(machine["name"])
        mark = mark_of(settings, name)
        if mark is None:
            sys.stdout.write(f"{name} was not changed\n")
            continue
        change(settings, name, mark.before, None)
        now = addresses_of(settings, name)
        sys.stdout.write(f"{name} {' '.join(now) or '(nothing)'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(ended(main))
