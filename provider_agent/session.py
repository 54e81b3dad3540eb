"""The session with the hub: which stream, which copies may run; the heartbeat (design: channel)."""

import asyncio
from datetime import timedelta
from typing import Final

import structlog
from pydantic import JsonValue

from provider_agent import VERSION
from provider_agent.domain.postconditions import unmet
from provider_agent.domain.read_back import Expected, ReadBack
from provider_agent.domain.retries import RECONNECT, wait_seconds
from provider_agent.fabric.driver import (
    FabricBusyError,
    FabricDriver,
    FabricError,
    FabricUnreachableError,
)
from provider_agent.hub_client import HubClient
from provider_agent.hub_https import HubBusyError, HubError, HubUnreachableError
from provider_agent.journal import Journal
from provider_agent.operator_orders import OperatorOrders
from provider_agent.pinned_roots import PinnedRoots
from provider_agent.update_policy import UpdatePolicy
from provider_agent.wake import Wake
from service_shell.clock import Clock
from wire_contract.reports import Authority, Heartbeat, SessionAnswer, SessionRequest
from wire_contract.vmm_interface import Command
from wire_contract.vocabulary import Verb

CONFIRM_SECONDS_MAX: Final = 60.0
CONFIRMATIONS_PARALLEL_MAX: Final = 16
CLOCK_TOLERANCE: Final = timedelta(minutes=5)
"""Beyond this difference deadlines lose their meaning (design: channel, deadlines)."""

log = structlog.get_logger(__name__)


class Session:
    """What holds between this provider and its hub now.

    `connected`: the hub has answered a session since it was last lost. `confirmed`: the fabric
    knows what the hub says about its copies; nothing is executed before.
    """

    def __init__(
        self,
        hub: HubClient,
        driver: FabricDriver,
        journal: Journal,
        clock: Clock,
        vmm_version: str,
        *,
        updates: UpdatePolicy,
        roots: PinnedRoots,
        orders: OperatorOrders,
    ) -> None:
        self._updates = updates
        self._roots = roots
        self._orders = orders
        self._hub = hub
        self._driver = driver
        self._journal = journal
        self._clock = clock
        self.vmm_version = vmm_version
        self.due = Wake()
        """Set when a new session is wanted; what goes on meanwhile goes on."""
        self._beat = Wake()
        self._heartbeat_seconds = 60
        self.boot_id = clock.new_id()
        self.number = 0
        self.connected = asyncio.Event()
        self.confirmed = asyncio.Event()
        self.fabric_reachable = True
        self.fabric_returned = Wake()
        """Set when the VMM server answers again after it did not."""
        self.events_due = Wake()
        """Set when there may be events that are not in the journal yet."""

    async def run(self) -> None:
        """Begin sessions for ever: at the start, and whenever `renew` or a loss asks for one."""
        failures = 0
        while True:
            self.due.clear()
            try:
                answer = await self._begin()
            except HubError as error:
                failures += 1
                await self._wait_after(error, failures)
                continue
            failures = 0
            if not await self._confirm(answer):
                self.fabric_lost("epochs are not confirmed")
            await self.due.wait()
            # Not at once: many providers lose the same hub at the same moment.
            await asyncio.sleep(self._clock.jitter(0, RECONNECT.first_seconds))

    async def beat(self) -> None:
        """Send heartbeats for ever; learn from the answers whether events are missing."""
        while True:
            await self.connected.wait()
            try:
                await self._one_beat()
            except HubUnreachableError as error:
                self.hub_lost(error)
            except HubError as error:
                log.warning("heartbeat_refused", cause=str(error))
            await self._beat.wait(self._heartbeat_seconds)

    def renew(self) -> None:
        """Ask for a new session; what goes on meanwhile goes on."""
        self.due.set()

    def hub_lost(self, error: HubError) -> None:
        """Note that the hub does not answer; a session begins as soon as it does again."""
        if isinstance(error, HubBusyError):
            return  # it is there: only this request has to wait
        if self.connected.is_set():
            log.warning("hub_lost", cause=str(error))
        self.connected.clear()
        self.due.set()

    def fabric_lost(self, cause: str) -> None:
        """Note that the fabric may have restarted: nothing begins before epochs are confirmed."""
        if self.fabric_reachable:
            log.warning("fabric_lost", cause=cause)
            self._beat.set()
        self.fabric_reachable = False
        self.confirmed.clear()

    def fabric_back(self, *, restarted: bool) -> None:
        """Note that the fabric answers; where it did not restart, work goes on at once."""
        log.info("fabric_back", restarted=restarted)
        self.fabric_returned.set()
        self.fabric_reachable = True
        if not restarted and self.number > 0:
            self.confirmed.set()
        self._beat.set()
        self.due.set()

    def confirmation_lost(self) -> None:
        """Note that a host restarted between two looks: its machines wait for confirmation."""
        self.confirmed.clear()
        self.due.set()

    async def _wait_after(self, error: HubError, failures: int) -> None:
        retry_after = error.retry_after if isinstance(error, HubUnreachableError) else None
        chance = self._clock.jitter(0, RECONNECT.bound_seconds(failures))
        seconds = wait_seconds(chance, retry_after)
        self.connected.clear()
        log.warning("session_failed", cause=str(error), retry_seconds=round(seconds, 1))
        await asyncio.sleep(seconds)

    async def _begin(self) -> SessionAnswer:
        facts = await self._journal.begin_session()
        trusted_roots = self._roots.thumbprints
        answer = await self._hub.session(
            SessionRequest(
                boot_id=self.boot_id,
                session=facts.session,
                journal_id=self._journal.journal_id,
                provider_version=VERSION,
                vmm_version=self.vmm_version,
                last=facts.last,
                fences=facts.fences,
                epochs=facts.epochs,
                auto_update=self._updates.auto_update,
                available_version=self._updates.available_version(),
                trusted_roots=trusted_roots,
            )
        )
        if facts.last is None or facts.last.stream != answer.position.stream:
            log.info("stream_followed", stream=answer.position.stream, after=answer.position.seq)
            await self._journal.follow(answer.position)
        if answer.roots_jws is not None and self._roots.take(answer.roots_jws):
            self.renew()  # it tells the hub what is pinned now
        else:
            self._roots.confirmed(trusted_roots)
        if self._updates.hear(answer.offered_version):
            log.info("update_available", version=self._updates.available_version())
            self.renew()  # it tells the hub what waits
        self.number = facts.session
        self._heartbeat_seconds = max(answer.heartbeat_seconds, 1)
        self.connected.set()
        self.events_due.set()
        self._beat.set()
        log.info("session_begun", session=self.number, authorities=len(answer.authorities))
        return answer

    async def _confirm(self, answer: SessionAnswer) -> bool:
        """Tell the fabric what the hub said; false when the fabric is not there to be told."""
        slots = asyncio.Semaphore(CONFIRMATIONS_PARALLEL_MAX)

        async def one(authority: Authority) -> bool:
            async with slots:
                return await self._confirm_one(authority)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(each)) for each in answer.authorities]
        if not all(task.result() for task in tasks):
            return False
        self.confirmed.set()
        return True

    async def _confirm_one(self, authority: Authority) -> bool:
        arguments: dict[str, JsonValue] = {
            "authoritative": authority.authoritative,
            "item": authority.item,
        }
        command = Command(
            id=f"epoch/{authority.machine_id}/{self.boot_id}/{self.number}",
            fence=1,
            epoch=authority.epoch,
            deadline=self._clock.now() + timedelta(seconds=CONFIRM_SECONDS_MAX),
        )
        machine_id = authority.machine_id
        bound = log.bind(machine=machine_id, item=authority.item, epoch=authority.epoch)
        try:
            if not await self._orders.obeys(authority):
                # No operator signs this; replication itself ends a copy that was failed over.
                bound.error("authority_not_obeyed", authoritative=authority.authoritative)
                return True
            answer = await self._driver.perform(
                Verb.CONFIRM_EPOCH, machine_id, command, arguments, CONFIRM_SECONDS_MAX
            )
            seen = ReadBack(machine=await self._driver.machine(machine_id))
        except (FabricUnreachableError, FabricBusyError) as error:
            bound.warning("epoch_not_confirmed", cause=str(error))
            return False
        except FabricError as error:
            # The fabric has decided: it knows a higher epoch, or no such machine. The hub learns
            # it from the inventory; the other machines must not wait for this one.
            bound.warning("epoch_refused", cause=str(error))
            return True
        expected = Expected(
            Verb.CONFIRM_EPOCH,
            machine_id,
            epoch=authority.epoch,
            arguments=arguments,
            result=answer.result,
        )
        if (reason := unmet(expected, seen)) is not None:
            bound.error("epoch_not_obeyed", cause=reason)
        return True

    async def _tell_fabric(self) -> None:
        """Tell the fabric that the hub was heard; its hosts may stop guests without that."""
        try:
            await self._driver.hub_heard()
        except FabricError as error:
            log.info("hub_contact_not_told", cause=str(error))

    async def _one_beat(self) -> None:
        last = await self._journal.position()
        answer = await self._hub.heartbeat(
            Heartbeat(boot_id=self.boot_id, last=last, fabric_reachable=self.fabric_reachable)
        )
        await self._tell_fabric()
        ahead = self._clock.now() - answer.server_time
        if abs(ahead) > CLOCK_TOLERANCE:
            log.error(
                "clock_differs",
                seconds_ahead_of_hub=round(ahead.total_seconds()),
                remedy="synchronise both clocks (NTP): deadlines are misjudged until then",
            )
        has_new_roots = answer.roots_serial > self._roots.serial
        if has_new_roots or last is None or answer.highest.stream != last.stream:
            self.renew()
        elif answer.highest.seq > last.seq:
            self.events_due.set()
