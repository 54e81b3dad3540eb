"""Injects events: stores what somebody wants, and makes the request once its time has come.

A request that the hub makes itself takes the same way as an operator's. It is known by injection
and time, so that every hub may make it, also again after a kill: one of them begins the job.
"""

import json
from hashlib import sha256
from typing import Final
from uuid import NAMESPACE_OID, uuid5

import structlog
from pydantic import JsonValue

from service_hub.domain.access import ForbiddenError, Grant, OperatorIdentity, Right
from service_hub.domain.errors import (
    ConflictError,
    DomainError,
    InvalidRequestError,
    NotFoundError,
    StaleVersionError,
    StorageUnavailableError,
)
from service_hub.domain.injections import (
    SITE_KINDS,
    Injection,
    InjectionState,
    Outcome,
    after,
    cancelled,
    firing_id,
    first_moment,
    is_free,
    is_too_late,
    plan_site_job,
)
from service_hub.domain.jobs import Job
from service_hub.domain.planning import JobIdentity
from service_hub.domain.records import Vault
from service_hub.domain.service_accounts import ServiceAccount
from service_hub.domain.site_events import site_orders
from service_hub.injection_ports import (
    InjectionRequest,
    Injector,
    Laboratory,
    OperationRequests,
    SurfaceRefusalError,
)
from service_hub.looker_ports import Preview
from service_hub.ports.changes import NEW, Change, Save, Versioned
from service_hub.ports.running import JobRunner
from service_hub.ports.stores import Committer, Reader
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import FabricUseCases, RequestIdentity
from service_hub.services.policies import activity
from service_hub.services.requests import RequestLedger

WAITING_MAX: Final = 1_000
"""How many injections of a vault may wait for their time."""

log = structlog.get_logger(__name__)


class InjectionService:
    """The InjectionUseCases of the injection ports."""

    def __init__(
        self,
        *,
        reader: Reader,
        committer: Committer,
        runner: JobRunner,
        clock: Clock,
        fabrics: FabricUseCases,
        requests: RequestLedger,
        laboratory: Laboratory,
    ) -> None:
        self._reader = reader
        self._committer = committer
        self._runner = runner
        self._clock = clock
        self._fabrics = fabrics
        self._requests = requests
        self._laboratory = laboratory
        self._operations: OperationRequests | None = None

    def through(self, operations: OperationRequests) -> None:
        """Make requests by these from now on; they stand on use cases that are made later."""
        self._operations = operations

    # ---------------------------------------------------------------------------------- asking

    async def inject(self, vault: Vault, request: InjectionRequest, who: Injector) -> Injection:
        """Store it, and begin it when it is due now; any refusal is a DomainError."""
        now = self._clock.now()
        injection_id = self._clock.new_id()
        if who.request_id:
            injection_id = str(uuid5(NAMESPACE_OID, f"{vault.id}/{who.principal}/{who.request_id}"))
            present = await self._reader.get(Injection, injection_id)
            if present is not None:
                return _same(present.record, request)
        moment = first_moment(request.at, request.cron, now)
        await self.check(vault, request)
        waits = moment > now
        if waits:
            await self._check_schedule(vault, request)
        injection = Injection(
            id=injection_id,
            vault_id=vault.id,
            event=request.event,
            target=request.target,
            arguments=dict(request.arguments),
            at=request.at,
            cron=request.cron,
            principal=who.principal,
            role=who.role,
            account=who.account,
            requested_at=now,
            next_at=moment,
            begun_at=None if waits else now,
        )
        try:
            await self._committer.commit(Change(saves=(Save(injection, NEW),)))
        except StaleVersionError:
            # The same request at the same moment: the other sending was stored.
            return _same(await self.find(vault, injection_id), request)
        log.warning(
            "injection_requested",
            injection_id=injection.id,
            kind=injection.event.value,
            target=injection.target,
            principal=who.principal,
            role=who.role,
            at=moment.isoformat(),
            cron=request.cron,
        )
        if waits:
            return injection
        done, refusal = await self._fire(vault, injection, who.operator_signature)
        if refusal is not None:
            raise refusal
        return done

    async def foresee(self, vault: Vault, request: InjectionRequest) -> Preview:
        """Return what it would do; nothing is stored."""
        await self.check(vault, request)
        return await self._through().foresee(
            vault, request.event, request.target, request.arguments
        )

    async def list(self, vault: Vault) -> list[Injection]:
        """Return all of a vault, the newest first."""
        found = [each.record for each in await self._reader.find(Injection, vault_id=vault.id)]
        return sorted(found, key=lambda each: (each.requested_at, each.id), reverse=True)

    async def find(self, vault: Vault, injection_id: str) -> Injection:
        """Return one; NotFoundError."""
        return (await self._present(vault, injection_id)).record

    async def cancel(self, vault: Vault, injection_id: str, principal: str) -> Injection:
        """Have nothing more come of it; ConflictError where nothing would."""
        present = await self._present(vault, injection_id)
        changed = cancelled(present.record)
        if changed is not present.record:
            await self._committer.commit(Change(saves=(Save(changed, present.version),)))
            log.warning("injection_cancelled", injection_id=changed.id, principal=principal)
        return changed

    # ----------------------------------------------------------------------------------- firing

    async def fire_due(self) -> int:
        """Begin whatever is due, in each vault; return how many."""
        count = 0
        for vault in await self._reader.find(Vault):
            state = InjectionState.SCHEDULED.value
            found = await self._reader.find(Injection, vault_id=vault.record.id, state=state)
            now = self._clock.now()
            for each in found:
                claimed = await self._claimed(each) if is_free(each.record, now) else None
                if claimed is not None:
                    await self._fire(vault.record, claimed, None)
                    count += 1
        return count

    async def _claimed(self, present: Versioned[Injection]) -> Injection | None:
        """Return what is due once it is stored that this hub is at it; None: somebody else is."""
        claimed = present.record.model_copy(update={"begun_at": self._clock.now()})
        try:
            await self._committer.commit(Change(saves=(Save(claimed, present.version),)))
        except StaleVersionError:
            log.debug("injection_taken_elsewhere", injection_id=claimed.id)
            return None
        return claimed

    async def _fire(
        self, vault: Vault, injection: Injection, signature: str | None
    ) -> tuple[Injection, DomainError | None]:
        """Make the request of an injection that is due, and note what came of it, or why not."""
        refusal = None
        try:
            outcome = await self._outcome(vault, injection, signature)
        except StorageUnavailableError:
            raise
        except DomainError as error:
            refusal, outcome = error, _refused(error)
        present = await self._reader.get(Injection, injection.id)
        if present is None or present.record.next_at != injection.next_at:
            # This hub was slow, and another one went on with it.
            return (injection if present is None else present.record), refusal
        changed = after(present.record, outcome, self._clock.now())
        try:
            await self._committer.commit(Change(saves=(Save(changed, present.version),)))
        except StaleVersionError:
            log.debug("injection_noted_elsewhere", injection_id=injection.id)
        log.warning(
            "injection_was_due",
            injection_id=injection.id,
            kind=injection.event.value,
            outcome=outcome.state.value,
            job_id=outcome.job_id,
            message=outcome.message,
            principal=injection.principal,
        )
        return changed, refusal

    async def _outcome(self, vault: Vault, injection: Injection, signature: str | None) -> Outcome:
        now = self._clock.now()
        if is_too_late(injection, now):
            words = f"It was due at {injection.next_at}; the hub could not inject it in time."
            return Outcome(InjectionState.MISSED, message=words)
        if injection.requested_at != injection.next_at:
            await self._check_account(injection)
        identity = self._identity(injection, signature)
        if injection.event in SITE_KINDS:
            job = await self._requests.once(
                identity, lambda: self._at_site(vault, injection, identity)
            )
            return Outcome(InjectionState.INJECTED, job.id)
        job_id = await self._through().begin(
            vault, injection.event, injection.target, injection.arguments, identity
        )
        return Outcome(InjectionState.INJECTED, job_id)

    async def _at_site(self, vault: Vault, injection: Injection, identity: RequestIdentity) -> Job:
        fabric = await self._fabrics.find(vault, self._through().fabric_of(vault, injection.target))
        job = plan_site_job(
            injection,
            fabric.provider,
            JobIdentity(self._clock.new_id(), activity(identity), self._clock.now()),
        )
        await self._runner.start(job, self._requests.remember(identity, job))
        return job

    def _identity(self, injection: Injection, signature: str | None) -> RequestIdentity:
        body = json.dumps(injection.arguments, sort_keys=True).encode()
        return RequestIdentity(
            principal=injection.principal,
            # The same on every hub and after every kill, another one each time.
            client_request_id=str(uuid5(NAMESPACE_OID, firing_id(injection))),
            correlation_id=self._clock.new_id(),
            method="POST",
            path=f"injection/{injection.id}",
            body_digest=sha256(body).hexdigest(),
            operator_signature=signature,
            injection_id=injection.id,
        )

    # --------------------------------------------------------------------------------- checking

    async def check(self, vault: Vault, request: InjectionRequest) -> None:
        """Return when it can be injected; otherwise a DomainError says why not."""
        first_moment(request.at, request.cron, self._clock.now())
        if request.event not in SITE_KINDS:
            await self._through().check(vault, request.event, request.target)
            return
        site_orders(request.event, request.arguments)
        name = self._through().fabric_of(vault, request.target)
        fabric = await self._fabrics.find(vault, name)
        if not self._laboratory.knows(fabric.provider.vmm_fqdn):
            raise ConflictError(
                f"{request.event.value} is injected into sites of a laboratory alone, and"
                f" {fabric.provider.vmm_fqdn} is none: name its management port under"
                " 'laboratory' in this hub's configuration, or inject a failover."
            )

    async def _check_schedule(self, vault: Vault, request: InjectionRequest) -> None:
        """Raise where what is to wait for its time could not be done then."""
        await self._check_room(vault)
        if request.event in SITE_KINDS:
            return
        if vault.requires_operator_signature:
            raise InvalidRequestError(
                "The vault takes operations signed by an operator alone, and a signature ends"
                " before a schedule does: inject it now, with the signature.",
                "at",
            )
        await self._through().check_body(vault, request.event, request.target, request.arguments)

    async def _check_account(self, injection: Injection) -> None:
        """Raise ForbiddenError where the service account that asked may not inject any more."""
        if injection.account is None:
            return
        found = await self._reader.get(ServiceAccount, injection.account)
        grants = () if found is None else found.record.grants
        asked = OperatorIdentity(
            injection.principal, tuple(Grant(each.role, each.vault_id) for each in grants)
        )
        if not asked.may(Right.INJECT, injection.vault_id):
            raise ForbiddenError(
                f"The service account {injection.principal} that asked for it has no right to"
                " inject here any more: cancel it (site-recovery inject cancel), and have who has"
                " the right schedule it anew."
            )

    async def _check_room(self, vault: Vault) -> None:
        waiting = await self._reader.find(
            Injection, vault_id=vault.id, state=InjectionState.SCHEDULED.value
        )
        if len(waiting) >= WAITING_MAX:
            raise ConflictError(
                f"{WAITING_MAX} injections wait for their time already: cancel some of them"
                " (site-recovery inject list, site-recovery inject cancel)."
            )

    async def _present(self, vault: Vault, injection_id: str) -> Versioned[Injection]:
        found = await self._reader.get(Injection, injection_id.lower())
        if found is None or found.record.vault_id != vault.id:
            raise NotFoundError(injection_id)
        return found

    def _through(self) -> OperationRequests:
        assert self._operations is not None, "the composition root gives it before the hub serves"
        return self._operations


def _refused(error: DomainError) -> Outcome:
    known = error if isinstance(error, SurfaceRefusalError) else None
    return Outcome(
        InjectionState.REFUSED,
        message=str(error),
        status=None if known is None else known.status,
        code=None if known is None else known.code,
    )


def _same(present: Injection, request: InjectionRequest) -> Injection:
    """Return what the same request made before; ConflictError when it is another one.

    What was refused is refused again, in the same words.
    """
    made = (present.event, present.target, present.arguments, present.at, present.cron)
    asked: tuple[object, ...] = (
        request.event,
        request.target,
        dict[str, JsonValue](request.arguments),
        request.at,
        request.cron,
    )
    if made != asked:
        raise ConflictError(
            "the request id was used for another injection: send a new x-ms-client-request-id"
        )
    if present.state is InjectionState.REFUSED:
        if present.status is None or present.code is None:
            raise ConflictError(present.message)
        raise SurfaceRefusalError(present.status, present.code, present.message)
    return present
