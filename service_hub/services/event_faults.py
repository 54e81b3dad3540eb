"""Events that a provider refused, or could not verify: what becomes of them and of their tasks."""

import structlog

from service_hub.domain.checks import provider_error
from service_hub.domain.errors import StaleVersionError
from service_hub.domain.jobs import Job, PartFailed
from service_hub.domain.records import OutboxEvent, Provider
from service_hub.ports.changes import Change, Save, Versioned
from service_hub.ports.channel import Resigner
from service_hub.ports.running import JobRunner
from service_hub.ports.stores import Committer, Reader
from service_hub.ports.surroundings import Clock
from wire_contract.events import parse_assignment_task
from wire_contract.reports import ProviderError, Receipt, Unverifiable
from wire_contract.vocabulary import EventType, RefusalReason, Side

REFUSED_CODE = 90020
"""Provider part of a job error: the provider refused the event before any effect."""

VOIDED_CODE = 90021
"""Provider part of a job error: the provider could not verify the event, signed twice."""

TOO_LARGE_CODE = 90022
"""Provider part of a job error: the event was too large to be signed; a tombstone went out."""

SIGNATURES_MAX = 2
"""So often is a number signed before it is voided (design: channel, event stream)."""

RETRIES_MAX = 20

log = structlog.get_logger(__name__)


async def task_of(
    reader: Reader, provider: Provider, job_id: str, task: str
) -> tuple[Job, str, Side] | None:
    """Return the job and end a report is about, if this provider was given that task."""
    try:
        task_id, side = parse_assignment_task(task)
    except ValueError:
        return None
    found = await reader.get(Job, job_id)
    if found is None or found.record.providers.get(side) != provider.id:
        return None
    return found.record, task_id, side


class EventFaults:
    """Ends the attempts whose events came to nothing, so that no later event waits for them."""

    def __init__(
        self,
        *,
        reader: Reader,
        committer: Committer,
        clock: Clock,
        runner: JobRunner,
        resigner: Resigner,
    ) -> None:
        self._reader = reader
        self._committer = committer
        self._clock = clock
        self._runner = runner
        self._resigner = resigner

    async def refused(self, provider: Provider, receipt: Receipt) -> None:
        """Take in that an event was refused; a refused withdrawal ends no attempt."""
        log.warning(
            "event_refused", provider_id=provider.id, seq=receipt.seq, reason=receipt.reason
        )
        found = await self._reader.get(OutboxEvent, receipt.event_id)
        if found is None or found.record.provider_id != provider.id:
            return
        await self._end_attempt(provider, found.record, _refused_words(receipt.reason))

    async def without_command(self, provider: Provider, receipt: Receipt) -> None:
        """End the attempt of an assignment that was received as a tombstone of its number.

        That is what the signer makes of an event which is larger than receivers take.
        """
        found = await self._reader.get(OutboxEvent, receipt.event_id)
        if found is None or found.record.provider_id != provider.id:
            return
        if found.record.type is not EventType.ASSIGNMENT:
            return
        log.error("event_too_large", provider_id=provider.id, event_id=receipt.event_id)
        words = ProviderError(
            code=TOO_LARGE_CODE,
            message="what the task needs is larger than one event may be; it was not sent",
            possible_causes="the cloud has very many hosts, or the machine very many disks",
            recommended_action="divide the cloud or the machine, then repeat the operation",
        )
        await self._end_attempt(provider, found.record, words)

    async def unverifiable(self, provider: Provider, report: Unverifiable) -> None:
        """Sign the number anew, once; after that it is voided and its task fails."""
        bound = log.bind(provider_id=provider.id, stream=report.stream, seq=report.seq)
        bound.error("event_unverifiable", detail=report.detail)
        for _ in range(RETRIES_MAX):
            found = await self._event(provider, report)
            if found is None or report.report_id in found.record.unverifiable_reports:
                return
            reports = (*found.record.unverifiable_reports, report.report_id)
            noted = found.record.model_copy(update={"unverifiable_reports": reports})
            voided = len(reports) >= SIGNATURES_MAX
            if voided:
                noted = noted.model_copy(update={"type": EventType.TOMBSTONE, "body": {}})
            try:
                await self._committer.commit(Change(saves=(Save(noted, found.version),)))
            except StaleVersionError:
                continue
            break
        else:
            raise StaleVersionError(f"event {report.seq} found no quiet moment")
        self._resigner.sign_anew(provider.id, report.seq)
        if not voided:
            return
        bound.error("event_voided", event_id=found.record.id)
        words = ProviderError(
            code=VOIDED_CODE,
            message="the provider could not verify the event, which was signed twice; it is void",
            possible_causes="the provider pins another root, its clock is wrong, or a proxy "
            "changes what it downloads",
            recommended_action="run provider-agent doctor there, then repeat the operation",
        )
        await self._end_attempt(provider, found.record, words)

    async def _event(
        self, provider: Provider, report: Unverifiable
    ) -> Versioned[OutboxEvent] | None:
        """Return the event that a report is about, if it is open and not yet void."""
        events = await self._reader.events_after(provider.id, report.seq - 1, 1)
        if not events or (events[0].stream, events[0].seq) != (report.stream, report.seq):
            return None
        found = await self._reader.get(OutboxEvent, events[0].id)
        if found is None or found.record.receipt is not None:
            return None
        return None if found.record.type is EventType.TOMBSTONE else found

    async def _end_attempt(
        self, provider: Provider, event: OutboxEvent, words: ProviderError
    ) -> None:
        job_id, task, attempt = (event.body.get(name) for name in ("job", "task", "attempt"))
        if event.type is not EventType.ASSIGNMENT or not isinstance(attempt, int):
            return
        found = await task_of(self._reader, provider, str(job_id), str(task))
        if found is None:
            return
        job, task_id, side = found
        now = self._clock.now()
        error = provider_error(words, now, name=job.target_object_name)
        await self._runner.feed(job.id, PartFailed(now, task_id, side, attempt, error))


def _refused_words(reason: RefusalReason | None) -> ProviderError:
    """Return why an event was refused; one that came too late is most often a wrong clock."""
    told = "" if reason is None else f": {reason.value}"
    if reason is RefusalReason.EXPIRED:
        return ProviderError(
            code=REFUSED_CODE,
            message=f"the provider refused the event{told}: by its clock the deadline had passed",
            possible_causes="the provider's clock is ahead of the hub's, or the provider was away"
            " until the deadline",
            recommended_action="run provider-agent doctor there; synchronise both clocks (NTP),"
            " then repeat the operation",
        )
    return ProviderError(
        code=REFUSED_CODE,
        message=f"the provider refused the event{told}",
        recommended_action="look at the provider's log; versions and epochs must agree",
    )
