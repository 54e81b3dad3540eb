"""Known servers that come back with a new key: an operator decides (channel.md, trust)."""

from datetime import datetime
from typing import Final, Literal

import structlog

from service_hub.domain.errors import ConflictError, NotFoundError, StaleVersionError
from service_hub.domain.records import (
    Alert,
    OutboxEvent,
    PendingApproval,
    Provider,
    ProviderStream,
)
from service_hub.ports.changes import NEW, Change, Delete, Save, Versioned
from service_hub.ports.channel import CertificateOffice, Connections
from service_hub.ports.stores import Committer, Reader
from service_hub.ports.surroundings import Clock
from service_hub.services.certificates import revocations
from service_hub.services.enrolment import management_certificate

TRIES_MAX: Final = 5
"""How often a decision is made anew because an event or a receipt came in between."""

log = structlog.get_logger(__name__)


class ApprovalService:
    """The ApprovalUseCases of the hub's ports."""

    def __init__(
        self,
        *,
        reader: Reader,
        committer: Committer,
        clock: Clock,
        office: CertificateOffice,
        connections: Connections,
    ) -> None:
        self._reader = reader
        self._committer = committer
        self._clock = clock
        self._office = office
        self._connections = connections

    async def list(self, vault_id: str) -> list[PendingApproval]:
        """Return all of a vault, decided ones too, oldest first."""
        found = await self._reader.find(PendingApproval, vault_id=vault_id)
        return [each.record for each in found]

    async def approve(self, vault_id: str, approval_id: str, principal: str) -> PendingApproval:
        """Let the new key take the server over.

        In one transaction: the old certificates are revoked, the new one is valid, a new stream
        begins now (what was sent to the old server is never replayed), an alert is raised.
        """
        for _ in range(TRIES_MAX):
            found = await self._waiting(vault_id, approval_id)
            now = self._clock.now()
            change, approved = await self._takeover(found, principal, now)
            try:
                await self._committer.commit(change)
            except StaleVersionError:
                continue  # an event was numbered or acknowledged meanwhile: decide on that
            self._connections.kick(approved.provider_id)
            log.warning(
                "server_approved",
                approval_id=approval_id,
                provider_id=approved.provider_id,
                old_certificate=approved.old_certificate_thumbprint,
                new_key=approved.new_key_thumbprint,
                new_address=approved.new_address,
                principal=principal,
            )
            return approved
        raise StaleVersionError(f"approval {approval_id}: the server's records do not hold still")

    async def reject(self, vault_id: str, approval_id: str, principal: str) -> PendingApproval:
        """Refuse the new key for good; the present server is not touched."""
        found = await self._waiting(vault_id, approval_id)
        now = self._clock.now()
        rejected = _decided(found.record, "rejected", principal, now)
        alert = self._alert(
            rejected, "ServerRejected", f"the new key of {_words(rejected)} was rejected", now
        )
        await self._committer.commit(Change(saves=(Save(rejected, found.version), alert)))
        log.warning("server_rejected", approval_id=approval_id, principal=principal)
        return rejected

    async def _waiting(self, vault_id: str, approval_id: str) -> Versioned[PendingApproval]:
        found = await self._reader.get(PendingApproval, approval_id)
        if found is None or found.record.vault_id != vault_id:
            raise NotFoundError(approval_id)
        if found.record.decision != "pending":
            raise ConflictError(
                f"{found.record.decided_by} has {found.record.decision} this request already"
            )
        return found

    async def _takeover(
        self, found: Versioned[PendingApproval], principal: str, now: datetime
    ) -> tuple[Change, PendingApproval]:
        approval = found.record
        provider = await self._reader.get(Provider, approval.provider_id)
        stream = await self._reader.get(ProviderStream, approval.provider_id)
        if provider is None or stream is None:
            raise NotFoundError(approval.provider_id)
        issued = self._office.issue_provider(
            approval.request_pem.encode(), approval.provider_id, now
        )
        approved = _decided(approval, "approved", principal, now).model_copy(
            update={"chain_pem": issued.chain_pem}
        )
        begun = ProviderStream(
            id=stream.record.id, vault_id=stream.record.vault_id, stream=self._clock.new_id()
        )
        outbox = await self._reader.find(OutboxEvent, provider_id=approval.provider_id)
        saves = (
            Save(approved, found.version),
            *await revocations(self._reader, approval.provider_id, self._clock),
            Save(management_certificate(provider.record, issued, now), NEW),
            Save(begun, stream.version),
            self._alert(
                approved,
                "ServerReplaced",
                f"{_words(approved)} was taken over by the key {approved.new_key_thumbprint}"
                f" from {approved.new_address or 'an unknown address'}",
                now,
            ),
        )
        deletes = tuple(Delete(OutboxEvent, each.record.id) for each in outbox)
        return Change(saves=saves, deletes=deletes), approved

    def _alert(
        self,
        approval: PendingApproval,
        code: Literal["ServerReplaced", "ServerRejected"],
        message: str,
        now: datetime,
    ) -> Save:
        alert = Alert(
            id=self._clock.new_id(),
            vault_id=approval.vault_id,
            provider_id=approval.provider_id,
            code=code,
            message=message,
            raised_at=now,
            principal=approval.decided_by,
        )
        return Save(alert, NEW)


def _decided(
    approval: PendingApproval,
    decision: Literal["approved", "rejected"],
    principal: str,
    now: datetime,
) -> PendingApproval:
    return approval.model_copy(
        update={"decision": decision, "decided_at": now, "decided_by": principal}
    )


def _words(approval: PendingApproval) -> str:
    return f"{approval.friendly_name} ({approval.vmm_id})"
