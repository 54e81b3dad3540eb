"""Watches the fabric: reports machines that changed, sends the inventory when it is due."""

import asyncio
from typing import Final

import structlog

from provider_agent.domain.discovery import differences
from provider_agent.domain.retries import RECONNECT, wait_seconds
from provider_agent.domain.synchronization import for_vault
from provider_agent.fabric.driver import FabricDriver, FabricError
from provider_agent.hub_client import HubClient
from provider_agent.hub_https import HubError, HubUnreachableError
from provider_agent.journal import Journal
from provider_agent.session import Session
from provider_agent.wake import Wake
from service_shell.clock import Clock
from wire_contract.reports import MachineObserved, Report
from wire_contract.vmm_interface import InventoryView, MachineView

FABRIC_ANSWER_LOG_EVERY: Final = 60
"""A fabric that stays away is logged once per so many looks."""

log = structlog.get_logger(__name__)


class Watcher:
    """Looks at the fabric every `watch_seconds`; only what changed is told."""

    def __init__(
        self,
        hub: HubClient,
        driver: FabricDriver,
        journal: Journal,
        session: Session,
        clock: Clock,
        *,
        reports_due: Wake,
        inventory_due: Wake,
        watch_seconds: float,
        inventory_seconds: float,
    ) -> None:
        self._hub = hub
        self._driver = driver
        self._journal = journal
        self._session = session
        self._clock = clock
        self._reports_due = reports_due
        self._inventory_due = inventory_due
        self._watch_seconds = watch_seconds
        self._inventory_seconds = inventory_seconds
        self._before: InventoryView | None = None
        self._reported: dict[str, MachineView] = {}
        self._misses = 0
        self.inventory_posted = asyncio.Event()

    async def watch(self) -> None:
        """Look for ever."""
        while True:
            try:
                now = for_vault(await self._driver.inventory())
            except FabricError as error:
                if self._misses % FABRIC_ANSWER_LOG_EVERY == 0:
                    log.warning("fabric_not_readable", cause=str(error), misses=self._misses)
                self._misses += 1
                self._session.fabric_lost(str(error))
            else:
                self._misses = 0
                await self._compare(now)
            await asyncio.sleep(self._watch_seconds)

    async def send(self) -> None:
        """Send the whole inventory for ever: at the start, when it changed, and periodically."""
        failures = 0
        while True:
            await self._session.connected.wait()
            try:
                await self._hub.inventory(for_vault(await self._driver.inventory()))
            except (FabricError, HubError) as error:
                failures += 1
                await self._wait_after(error, failures)
                continue
            failures = 0
            self.inventory_posted.set()
            await self._inventory_due.wait(self._inventory_seconds)

    async def _compare(self, now: InventoryView) -> None:
        found = differences(self._reported, self._before, now)
        self._session.vmm_version = now.vmm.version
        if not self._session.fabric_reachable:
            # Without a look before, nobody can say that it did not restart.
            restarted = self._before is None or found.confirmation_lost
            self._session.fabric_back(restarted=restarted)
        elif found.confirmation_lost:
            self._session.confirmation_lost()
        if found.changed:
            await self._journal.put(*(self._observation(machine) for machine in found.changed))
            self._reports_due.set()
        if found.structural and self._before is not None:
            self._inventory_due.set()
        present = {machine.machine_id for machine in now.machines}
        self._reported = {key: view for key, view in self._reported.items() if key in present}
        self._reported.update({machine.machine_id: machine for machine in found.changed})
        self._before = now

    def _observation(self, machine: MachineView) -> tuple[Report, str | None]:
        log.info("machine_changed", machine=machine.machine_id, run_state=machine.run_state.value)
        report = MachineObserved(
            report_id=self._clock.new_id(), observed_at=self._clock.now(), machine=machine
        )
        # Only the newest view of a machine is of use to a hub that was away.
        return report, f"machine/{machine.machine_id}"

    async def _wait_after(self, error: FabricError | HubError, failures: int) -> None:
        retry_after = None
        if isinstance(error, HubUnreachableError):
            retry_after = error.retry_after
            self._session.hub_lost(error)
        log.warning("inventory_not_sent", cause=str(error))
        chance = self._clock.jitter(0, RECONNECT.bound_seconds(failures))
        await asyncio.sleep(wait_seconds(chance, retry_after))
