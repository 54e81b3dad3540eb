"""Looking at the fabric: records together with what is live, as views."""

from collections.abc import Mapping
from dataclasses import dataclass

from vmm_simulator.guest.interface import GuestState
from vmm_simulator.job_history import JobHistory
from vmm_simulator.verbs.call import Fabric
from vmm_simulator.vmm.estate_records import NetworkRecord, StoreRecord
from vmm_simulator.vmm.fabric_views import cluster_views, fabric_view, host_group_views
from vmm_simulator.vmm.records import MachineRecord
from vmm_simulator.vmm.replication_views import LiveFacts
from vmm_simulator.vmm.views import (
    classification_views,
    cloud_view,
    host_view,
    machine_view,
    network_views,
    vmm_view,
)
from wire_contract.vmm_fabric import FabricView, JobsView
from wire_contract.vmm_interface import CloudView, GuestAnswer, InventoryView, MachineView
from wire_contract.vocabulary import ReplicationMode


@dataclass(frozen=True, slots=True)
class _Around:
    """What machines are looked at with: networks, classified stores, which replicas are tested."""

    networks: Mapping[str, NetworkRecord]
    stores: tuple[StoreRecord, ...]
    tested: frozenset[str]


class Lookout:
    """Answers what the fabric looks like at this moment."""

    def __init__(
        self, fabric: Fabric, history: JobHistory, interval_override: float | None
    ) -> None:
        self._fabric = fabric
        self._history = history
        self._interval_override = interval_override

    def inventory(self) -> InventoryView:
        """Return everything that the VMM server manages."""
        store, around = self._fabric.store, self._around()
        clouds, hosts = store.clouds.values(), store.hosts.values()
        return InventoryView(
            vmm=vmm_view(store.fabric),
            clouds=tuple(cloud_view(each, hosts) for each in clouds),
            hosts=tuple(host_view(each, clouds) for each in hosts),
            networks=network_views(store.fabric),
            classifications=classification_views(store.inventory),
            machines=tuple(self._view(each, None, around) for each in store.machines.values()),
            host_groups=host_group_views(store.inventory),
            clusters=cluster_views(store.fabric),
        )

    def fabric(self) -> FabricView:
        """Return the whole object model, as VMM's console shows it."""
        store = self._fabric.store
        run_states = {
            each.machine_id: self._fabric.host_of(each).guests.run_state(each)
            for each in store.machines.values()
        }
        return fabric_view(
            store.inventory,
            run_states,
            service_account=store.service.service_account,
            change_number=store.change_number,
        )

    async def jobs(self) -> JobsView:
        """Return VMM's job history, newest first."""
        account = self._fabric.store.service.service_account
        return JobsView(jobs=await self._history.views(account))

    def cloud(self, cloud_id: str) -> CloudView:
        """Return one cloud, or refuse with 404."""
        store = self._fabric.store
        return cloud_view(store.cloud(cloud_id), store.hosts.values())

    async def machine(self, machine_id: str, nonce: str | None) -> MachineView:
        """Return one machine; with a nonce its guest has to answer for itself."""
        machine = self._fabric.store.machine(machine_id)
        answer = None
        if nonce is not None:
            host = self._fabric.host_of(machine)
            state = await host.guests.challenge(machine_id, nonce)
            answer = None if state is None else _answer(state)
            # The guest took its time: look at the record again.
            machine = self._fabric.store.machine(machine_id)
        return self._view(machine, answer, self._around())

    def pid(self, machine: MachineRecord) -> int | None:
        """Return the process id of the guest, None where none runs."""
        return self._fabric.host_of(machine).guests.pid(machine.machine_id)

    def _view(
        self, machine: MachineRecord, answer: GuestAnswer | None, around: "_Around"
    ) -> MachineView:
        host = self._fabric.host_of(machine)
        cycles = self._fabric.cycles
        progress = cycles.progress(machine.machine_id)
        # Between two hosts nobody has its bytes.
        here = machine.migrating_to is None
        is_primary = here and machine.mode is ReplicationMode.PRIMARY
        is_replica = here and machine.mode is ReplicationMode.REPLICA
        store = self._fabric.store
        facts = LiveFacts(
            run_state=host.guests.run_state(machine),
            epoch_confirmed=machine.machine_id in self._fabric.confirmed,
            pending_bytes=host.backend.pending_bytes(machine.machine_id) if is_primary else 0,
            progress_percent=None if progress is None else progress.percent,
            failures_in_a_row=cycles.failures_in_a_row(machine.machine_id),
            guest=answer,
            now=self._fabric.clock.now(),
            interval_override=self._interval_override,
            tracked_bytes=host.backend.tracked_bytes(machine.machine_id) if is_primary else 0,
            last_record=host.backend.last_record(machine.machine_id) if here else 0,
            vmm_fqdn=store.fabric.fqdn,
            monitoring=store.host(machine.host).monitoring,
            recovery_points=host.backend.recovery_points(machine.machine_id) if is_replica else (),
            tested=machine.machine_id in around.tested,
        )
        return machine_view(machine, around.networks, facts, around.stores)

    def _around(self) -> "_Around":
        """Return what is the same for all machines of one look."""
        store = self._fabric.store
        return _Around(
            networks={each.network_id: each for each in store.fabric.networks},
            stores=tuple(each for each in store.fabric.stores if each.classification_id),
            tested=store.inventory.machine_index.tested,
        )


def _answer(state: GuestState) -> GuestAnswer:
    return GuestAnswer(
        pid=state.pid,
        nonce=state.nonce,
        proof=state.proof,
        verified=state.verified,
        file_system_uuid=state.file_system_uuid,
        last_record=state.last_record,
        epoch=state.epoch,
    )
