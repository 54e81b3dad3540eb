"""What the provider asks of a fabric, in the field's verbs (docs/wire-contract.md).

One contract suite, tests/contract/test_fabric_driver.py, holds for every driver.
"""

from collections.abc import Mapping
from typing import Protocol

from pydantic import JsonValue

from wire_contract.reports import HostCertificateRequest
from wire_contract.vmm_interface import (
    CloudView,
    Command,
    InventoryView,
    MachineView,
    Problem,
    VerbAnswer,
)
from wire_contract.vocabulary import Verb


class FabricError(Exception):
    """The fabric did not do what was asked."""


class FabricUnreachableError(FabricError):
    """No answer: the connection failed or broke; whether the verb had its effect is unknown."""


class FabricBusyError(FabricError):
    """The fabric answers that it cannot now; the same command may be sent again."""


class FabricRefusedError(FabricError):
    """The fabric refuses; asking again changes nothing. `problem` is its reason in words."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class FabricUnknownTargetError(FabricRefusedError):
    """The machine, cloud or verb does not exist."""


class FabricAnswerError(FabricError):
    """The answer breaks the interface's contract."""


class FabricDriver(Protocol):
    """Every verb may be repeated under its command id: the effect happens once."""

    async def perform(
        self,
        verb: Verb,
        target: str,
        command: Command,
        arguments: Mapping[str, JsonValue],
        seconds_max: float,
    ) -> VerbAnswer:
        """Do the verb; the answer proves nothing. FabricBusyError and -UnreachableError: repeat."""

    async def inventory(self) -> InventoryView:
        """Return all that the fabric manages, as it is now."""

    async def machine(self, machine_id: str, nonce: str | None = None) -> MachineView | None:
        """Return a machine, or null where there is none; with a nonce its guest answers it."""

    async def cloud(self, cloud_id: str) -> CloudView | None:
        """Return a cloud, or null where there is none."""

    async def host_requests(self, cloud_id: str) -> tuple[HostCertificateRequest, ...]:
        """Return a certificate request of every host of the cloud; the keys stay on the hosts."""

    async def hub_heard(self) -> None:
        """Tell the fabric that the hub has just answered: its hosts are not cut off from it."""
