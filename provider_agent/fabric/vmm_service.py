"""The VMM service beside the provider: set-up and registration drive it (wire_contract.paths)."""

from typing import Final
from urllib.parse import quote

from provider_agent.fabric.driver import FabricUnknownTargetError
from provider_agent.fabric.simulated_vmm import READ_SECONDS_MAX, SimulatedVmm, parse_answer
from wire_contract import paths
from wire_contract.model import WireModel
from wire_contract.vmm_service import (
    CloudSynchronization,
    NodeProvider,
    RunAsAccounts,
    RunAsAccountView,
    RunAsCredential,
    ServiceControl,
    VmmServiceView,
)

CONTROL_SECONDS_MAX: Final = 120.0
"""How long stopping or starting the VMM service may take."""


class VmmService:
    """Every method may be repeated; all raise FabricError. Uses the driver's connection."""

    def __init__(self, vmm: SimulatedVmm) -> None:
        self._vmm = vmm

    async def view(self) -> VmmServiceView:
        """Return the service, also while it is stopped."""
        answer = await self._vmm.request("GET", paths.VMM_SERVICE, READ_SECONDS_MAX)
        return parse_answer(VmmServiceView, answer, paths.VMM_SERVICE)

    async def control(self, *, running: bool) -> None:
        """Start or stop the service (of a cluster: the role)."""
        await self._put(paths.VMM_SERVICE, ServiceControl(running=running), CONTROL_SECONDS_MAX)

    async def note_provider(self, node: str, provider_version: str | None) -> None:
        """Note which provider is installed on a node; null: none any more."""
        path = paths.VMM_NODE_PROVIDER.format(node=quote(node, safe=""))
        await self._put(path, NodeProvider(provider_version=provider_version))

    async def synchronize(self, cloud_id: str, *, synchronize: bool) -> None:
        """Set the cloud's property."""
        path = paths.VMM_CLOUD_SYNCHRONIZATION.format(cloud_id=quote(cloud_id, safe=""))
        await self._put(path, CloudSynchronization(synchronize=synchronize))

    async def run_as_accounts(self) -> tuple[RunAsAccountView, ...]:
        """Return the RunAs accounts, without passwords."""
        answer = await self._vmm.request("GET", paths.VMM_RUN_AS_ACCOUNTS, READ_SECONDS_MAX)
        return parse_answer(RunAsAccounts, answer, paths.VMM_RUN_AS_ACCOUNTS).accounts

    async def put_run_as(self, name: str, credential: RunAsCredential) -> None:
        """Create a RunAs account, or change it."""
        await self._put(_account(paths.VMM_RUN_AS_ACCOUNT, name), credential)

    async def delete_run_as(self, name: str) -> None:
        """Delete a RunAs account; one that is unknown is no error."""
        path = _account(paths.VMM_RUN_AS_ACCOUNT, name)
        await self._vmm.request("DELETE", path, READ_SECONDS_MAX)

    async def run_as_credential(self, name: str) -> RunAsCredential | None:
        """Return what is in force since the service last started; null: no such account."""
        path = _account(paths.VMM_RUN_AS_CREDENTIAL, name)
        try:
            answer = await self._vmm.request("GET", path, READ_SECONDS_MAX)
        except FabricUnknownTargetError:
            return None
        return parse_answer(RunAsCredential, answer, path)

    async def _put(self, path: str, body: WireModel, seconds_max: float = READ_SECONDS_MAX) -> None:
        await self._vmm.request("PUT", path, seconds_max, body=body.model_dump_json().encode())


def _account(path: str, name: str) -> str:
    return path.format(name=quote(name, safe=""))
