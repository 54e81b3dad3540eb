"""The VMM service: runs or is stopped, is on one node; guests and replication go on without it."""

import structlog

from vmm_simulator.problems import Code, RefusedError, unknown
from vmm_simulator.run_as import RunAsStore
from vmm_simulator.store import InventoryStore
from vmm_simulator.vmm.records import NodeRecord, ServiceRecord
from vmm_simulator.vmm.views import service_view
from wire_contract.vmm_service import VmmServiceView

log = structlog.get_logger(__name__)


class VmmService:
    """What set-up, registration and a laboratory do to the VMM service."""

    def __init__(self, store: InventoryStore, run_as: RunAsStore) -> None:
        self._store = store
        self.run_as = run_as

    def view(self) -> VmmServiceView:
        """Return the service as it is now; it answers also while the service is stopped."""
        return service_view(self._store.fabric, self._store.service)

    def check_running(self) -> None:
        """Refuse (503) while the service is stopped."""
        if not self._store.service.running:
            raise RefusedError(
                Code.NOT_AVAILABLE,
                "the VMM service is stopped",
                "start the VMM service, or wait until set-up has started it again",
            )

    async def control(self, *, running: bool) -> None:
        """Start or stop the service; RunAs passwords set since the last start come into force."""
        if running and not self._store.service.running:
            await self.run_as.service_started()
        await self._store.change_service(
            lambda service: service.model_copy(update={"running": running})
        )
        log.info("vmm_service_controlled", running=running)

    async def move_role(self, node: str) -> None:
        """Move the cluster role; the service starts anew on the other node."""
        self._check_node(node)
        if node != self._store.service.active_node:
            await self.run_as.service_started()
        await self._store.change_service(
            lambda service: service.model_copy(update={"active_node": node})
        )
        log.info("vmm_role_moved", node=node)

    async def note_provider(self, node: str, provider_version: str | None) -> None:
        """Note which provider is installed on a node."""
        self._check_node(node)

        def change(service: ServiceRecord) -> ServiceRecord:
            nodes = tuple(
                NodeRecord(fqdn=each.fqdn, provider_version=provider_version)
                if each.fqdn == node
                else each
                for each in service.nodes
            )
            return service.model_copy(update={"nodes": nodes})

        await self._store.change_service(change)

    async def synchronize(self, cloud_id: str, *, synchronize: bool) -> None:
        """Set the cloud's property; the provider tells the vault at its next look."""
        await self._store.change_cloud(
            cloud_id, lambda cloud: cloud.model_copy(update={"synchronize": synchronize})
        )

    def _check_node(self, node: str) -> None:
        if node not in {each.fqdn for each in self._store.service.nodes}:
            raise unknown("node", node)
