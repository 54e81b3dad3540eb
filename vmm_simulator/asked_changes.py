"""Changes of machines that wait for a transaction: those that may go together are one.

A plan changes a thousand machines at a moment: each with a transaction of its own, one after the
other, would wait for a thousand syncs of the disk.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from vmm_simulator.problems import unknown
from vmm_simulator.vmm.records import MachineRecord

TOGETHER_MAX: Final = 128
"""Changes of one transaction; whoever comes first shall not wait for a thousand others."""


class AskedChange:
    """A pure change of one machine; `ended` once it is durable, or is known not to happen.

    `taken`: it has had its turn, and is being written.
    """

    def __init__(self, machine_id: str, change: Callable[[MachineRecord], MachineRecord]) -> None:
        self.machine_id = machine_id
        self.taken = False
        self.ended = asyncio.Event()
        self._change = change
        self._changed: MachineRecord | None = None
        self._error: Exception | None = None

    def decide(self, present: MachineRecord | None) -> MachineRecord | None:
        """Return the record to be written, null where nothing is to be."""
        self.taken = True
        if present is None:
            self._error = unknown("machine", self.machine_id)
            return None
        try:
            self._changed = self._change(present)
        except Exception as error:  # noqa: BLE001 -- raised again for who asked, and for him alone
            self._error = error
            return None
        return None if self._changed == present else self._changed

    def end(self, error: Exception | None) -> None:
        """Let the one who asked go on; `error` is what kept the transaction from being written."""
        self._error = self._error or error
        self.ended.set()

    def result(self) -> MachineRecord:
        """Return the machine as its transaction left it, or raise what stood in its way."""
        if self._error is not None:
            raise self._error
        assert self._changed is not None, "it was decided on"
        return self._changed


def take_turns(
    asked: Sequence[AskedChange],
) -> tuple[list[AskedChange], list[AskedChange]]:
    """Return those that go together, and those that wait on, both in the order of asking.

    Of each machine one change at a time: everybody may see what each has left.
    """
    together: list[AskedChange] = []
    waiting: list[AskedChange] = []
    machines: set[str] = set()
    for each in asked:
        fits = each.machine_id not in machines and len(together) < TOGETHER_MAX
        (together if fits else waiting).append(each)
        machines.add(each.machine_id)
    return together, waiting


def tell(together: Iterable[AskedChange], error: Exception | None) -> None:
    """End all changes of a transaction."""
    for each in together:
        each.end(error)
