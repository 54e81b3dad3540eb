"""Delivers the outbox over HTTPS until the hub has acknowledged it, in order, nothing lost."""

import asyncio
from typing import Final

import structlog

from provider_agent.domain.retries import RECONNECT, wait_seconds
from provider_agent.hub_client import HubClient
from provider_agent.hub_https import HubError, HubRefusedError, HubUnreachableError
from provider_agent.journal import Journal
from provider_agent.session import Session
from provider_agent.wake import Wake
from service_shell.clock import Clock
from service_shell.failpoints import NONE, FaultPoints
from wire_contract.reports import REPORTS_PER_BATCH_MAX, Report, ReportBatch

BATCH_BYTES_MAX: Final = 512 * 1024

_UNPROCESSABLE: Final = frozenset({400, 413, 422})
"""The hub says that the body itself is wrong: the same body will never be taken."""

log = structlog.get_logger(__name__)


class Reporter:
    """Sends what waits in the outbox; wakes when there is something new."""

    def __init__(
        self,
        hub: HubClient,
        journal: Journal,
        session: Session,
        due: Wake,
        clock: Clock,
        *,
        faults: FaultPoints = NONE,
    ) -> None:
        self._faults = faults
        self._hub = hub
        self._journal = journal
        self._session = session
        self._due = due
        self._clock = clock
        self._batch_max = REPORTS_PER_BATCH_MAX
        self.refused = asyncio.Event()
        """Set when the hub refuses this server's reports for what they are, or for who it is."""

    async def run(self) -> None:
        """Deliver for ever."""
        failures = 0
        while True:
            await self._session.connected.wait()
            batch = await self._journal.outbox(self._batch_max, BATCH_BYTES_MAX)
            if not batch:
                await self._due.wait()
                continue
            try:
                delivered = await self._deliver(batch)
            except HubError as error:
                failures += 1
                await self._wait_after(error, failures)
                continue
            failures = 0 if delivered else failures + 1
            if not delivered:
                log.warning("reports_not_accepted", count=len(batch))
                await asyncio.sleep(self._clock.jitter(0, RECONNECT.bound_seconds(failures)))

    async def _deliver(self, batch: tuple[Report, ...]) -> bool:
        """Send a batch; false when the hub took none of it."""
        body = ReportBatch(journal_id=self._journal.journal_id, reports=batch)
        await self._faults.reach("agent.before_report")
        try:
            answer = await self._hub.report(body)
        except HubRefusedError as error:
            if error.status not in _UNPROCESSABLE:
                raise
            await self._isolate(batch, error)
            return True
        await self._faults.reach("agent.after_report")
        sent = {report.report_id for report in batch}
        accepted = [report_id for report_id in answer.accepted if report_id in sent]
        self._batch_max = REPORTS_PER_BATCH_MAX
        return await self._journal.delivered(accepted) > 0

    async def _isolate(self, batch: tuple[Report, ...], error: HubRefusedError) -> None:
        """Find the report that the hub cannot take, and let the others pass it."""
        if len(batch) > 1:
            self._batch_max = len(batch) // 2
            return
        log.error("report_set_aside", report_id=batch[0].report_id, cause=str(error))
        await self._journal.set_aside(batch[0].report_id, str(error))

    async def _wait_after(self, error: HubError, failures: int) -> None:
        retry_after = None
        if isinstance(error, HubUnreachableError):
            retry_after = error.retry_after
            self._session.hub_lost(error)
        else:
            self.refused.set()
            log.error("reports_refused", cause=str(error))
        chance = self._clock.jitter(0, RECONNECT.bound_seconds(failures))
        await asyncio.sleep(wait_seconds(chance, retry_after))
