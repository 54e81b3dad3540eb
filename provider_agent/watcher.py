"""Watches the fabric: reports machines that changed, sends the inventory when it is due."""

import asyncio
from typing import Final, Protocol

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

LOOKS_APART_SECONDS: Final = 0.5
"""How soon one look may follow another, however many changes are announced."""

ANNOUNCEMENT_SECONDS_MAX: Final = 30.0
"""Longest a fabric is asked to wait for a change."""

RESTS_PER_LOOK: Final = 19

log = structlog.get_logger(__name__)


class Announcements(Protocol):
    """Tells that the fabric has changed before the next look would have found out."""

    async def changed(self, after: int | None, seconds: float) -> int:
        """Return the change number, once it is another than `after` or the time is over."""


class Watcher:
    """Looks at the fabric every `watch_seconds`, sooner where a change is announced."""

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
        announcements: Announcements | None = None,
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
        self._announcements = announcements
        self._number: int | None = None
        self._before: InventoryView | None = None
        self._reported: dict[str, MachineView] = {}
        self._misses = 0
        self.inventory_posted = asyncio.Event()

    async def watch(self) -> None:
        """Look for ever."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
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
            await _rest(began)
            await self._wait_for_change()

    async def send(self) -> None:
        """Send the whole inventory for ever: at the start, when it changed, and periodically."""
        failures = 0
        while True:
            await self._session.connected.wait()
            began = asyncio.get_running_loop().time()
            try:
                await self._hub.inventory(for_vault(await self._driver.inventory()))
            except (FabricError, HubError) as error:
                failures += 1
                await self._wait_after(error, failures)
                continue
            failures = 0
            self.inventory_posted.set()
            await _rest(began)
            await self._inventory_due.wait(self._inventory_seconds)

    async def _wait_for_change(self) -> None:
        """Return when the fabric announces a change, after `watch_seconds` at the latest.

        The number that is waited at is always older than the next look: nothing falls between.
        """
        if self._announcements is None:
            await asyncio.sleep(self._watch_seconds)
            return
        pause = min(self._watch_seconds, LOOKS_APART_SECONDS)
        await asyncio.sleep(pause)
        seconds = min(self._watch_seconds - pause, ANNOUNCEMENT_SECONDS_MAX)
        if seconds <= 0:
            return
        try:
            self._number = await self._announcements.changed(self._number, seconds)
        except FabricError as error:
            log.debug("nothing_announced", cause=str(error))
            await asyncio.sleep(seconds)

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


async def _rest(began: float) -> None:
    """Wait so long after a look that looking takes a twentieth of the time at most.

    A fabric of thousands of machines is worth a second to read and another one to take in: while
    a plan changes it all the time, VMM server and hub have more urgent things to do.
    """
    await asyncio.sleep((asyncio.get_running_loop().time() - began) * RESTS_PER_LOOK)
