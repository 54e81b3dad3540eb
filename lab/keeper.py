"""The process that lives as long as its estate: it keeps the /24 and the ledger of records.

`python -m lab.keeper --socket S --file F --ready-file R`. The lock on the network comes as an
inherited descriptor; nothing is done with it but to keep it open.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lab.layout import Layout
from lab.ledger import LedgerFile, serve_ledger
from lab.processes import ProcessPlan
from service_shell.configuration import LogSettings
from service_shell.logs import configure_logging
from service_shell.program import run_program
from service_shell.readiness import ready

POLL_SECONDS: Final = 0.02


def keeper_plan(layout: Layout, network_lock: int) -> ProcessPlan:
    """Return how the keeper of a lab is started; it inherits the lock on the network."""
    folder = layout.ledger
    ready_file = folder / "ready.json"
    command = (
        *(sys.executable, "-m", "lab.keeper", "--socket", str(folder / "socket")),
        *("--file", str(folder / "records.jsonl"), "--ready-file", str(ready_file)),
        *("--log", str(layout.log("keeper"))),
    )
    return ProcessPlan("keeper", command, layout.root, ready_file, inherited=(network_lock,))


def main(arguments: Sequence[str]) -> int:
    """Keep the estate's network and ledger until told to end."""
    parser = argparse.ArgumentParser(prog="lab.keeper", description="Keeps network and ledger.")
    for name in ("--socket", "--file", "--ready-file", "--log"):
        parser.add_argument(name, type=Path, required=True)
    options = parser.parse_args(arguments)
    configure_logging(LogSettings(file=options.log), "keeper")

    async def run(stop: asyncio.Event) -> None:
        file = LedgerFile(options.file)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(serve_ledger(options.socket, file, stop))
                while not options.socket.exists():  # noqa: ASYNC110 -- a file has no event
                    await asyncio.sleep(POLL_SECONDS)
                with ready(options.ready_file, {"socket": str(options.socket)}):
                    await stop.wait()
        finally:
            file.close()

    return run_program(run, require_uvloop=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
