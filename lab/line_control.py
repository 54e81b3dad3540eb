"""Cuts and heals the line between a site and its hub, by asking the lab's relay."""

import asyncio
from typing import Final

from rich.console import Console

from lab.estate_record import need_record
from lab.layout import Layout
from lab.line_orders import CONTROL_BYTES_MAX, LineAnswer, LineOrder
from service_shell.errors import ProgramError
from vmm_simulator.guest.unix_address import unix_address

ANSWER_SECONDS_MAX: Final = 20.0


async def change_line(layout: Layout, order: LineOrder) -> None:
    """Have the relay cut or heal; when this returns it is so, and on disk."""
    need_record(layout)
    answer = await ask_relay(layout, order)
    if answer.refused is not None:
        raise ProgramError(f"the relay refused: {answer.refused}")
    words = [f"{site} ({', '.join(sorted(cut))})" for site, cut in sorted(answer.cut.items())]
    Console(highlight=False).print(f"    cut off from the hub: {'; '.join(words) or 'nobody'}")


async def ask_relay(layout: Layout, order: LineOrder) -> LineAnswer:
    """Return what the relay says to an order; ProgramError when there is none, or no answer."""
    path = layout.relay / "control"
    try:
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            with unix_address(path) as address:
                reader, writer = await asyncio.open_unix_connection(
                    address, limit=CONTROL_BYTES_MAX
                )
            try:
                writer.write(f"{order.model_dump_json()}\n".encode())
                line = await reader.readline()
            finally:
                writer.close()
    except FileNotFoundError:
        raise ProgramError(
            f"no relay runs in {layout.root}: the estate file must say `lines: relayed`, and the"
            " relay must not have been killed (make lab-start PROCESS=relay)"
        ) from None
    except (OSError, TimeoutError) as error:
        raise ProgramError(
            f"the relay of {layout.root} did not answer: {error or type(error).__name__};"
            f" look at {layout.log('relay')}"
        ) from error
    try:
        return LineAnswer.model_validate_json(line)
    except ValueError as error:
        raise ProgramError(f"the relay's answer is none; look at {layout.log('relay')}") from error
