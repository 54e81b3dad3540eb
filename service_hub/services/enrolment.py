"""Providers on their way in: who holds a registration key becomes a registered server."""

import hashlib
from datetime import datetime, timedelta
from typing import Final

import structlog

from service_hub.domain.errors import (
    ApprovalPendingError,
    ConflictError,
    EnrolmentRejectedError,
    InvalidRequestError,
    KeyRefusedError,
    NotFoundError,
)
from service_hub.domain.records import (
    FabricInventory,
    ManagementCertificate,
    PendingApproval,
    Provider,
    ProviderStream,
    RegistrationKey,
    Vault,
)
from service_hub.domain.servers import refusal_of_certificate, refusal_of_key
from service_hub.operator_ports import RegistrationJobs
from service_hub.ports.changes import NEW, Change, Delete, Save
from service_hub.ports.channel import CertificateOffice, IssuedPem
from service_hub.ports.stores import Committer, Reader
from service_hub.ports.surroundings import Clock
from wire_contract.cluster_names import broker_of
from wire_contract.reports import Registration, RegistrationAnswer

APPROVALS_PENDING_MAX: Final = 8
"""Requests for one server that may wait: who holds a registration key cannot fill the database."""

log = structlog.get_logger(__name__)


class EnrolmentService:
    """The EnrolmentUseCases of the hub's ports."""

    def __init__(
        self,
        *,
        reader: Reader,
        committer: Committer,
        clock: Clock,
        office: CertificateOffice,
        jobs: RegistrationJobs,
        mqtt: tuple[str, int],
        heartbeat: timedelta,
    ) -> None:
        self._reader = reader
        self._committer = committer
        self._clock = clock
        self._office = office
        self._jobs = jobs
        self._mqtt = mqtt
        self._heartbeat = heartbeat

    async def registration_key(
        self, thumbprint: str, named_vault: str | None = None
    ) -> RegistrationKey:
        """Return the key behind a presented certificate; KeyRefusedError says why it is none.

        `named_vault` is the vault that the credentials file says it is for, where it was told.
        """
        found = await self._reader.get(RegistrationKey, thumbprint)
        key = None if found is None else found.record
        vault = None if key is None else await self._reader.get(Vault, key.vault_id)
        refusal = refusal_of_key(
            key, None if vault is None else vault.record, named_vault, self._clock.now()
        )
        if key is None or refusal is not None:
            raise KeyRefusedError(refusal or thumbprint)
        return key

    async def enrol(self, key: RegistrationKey, request: bytes, address: str) -> IssuedPem:
        """Issue a management certificate for a new server.

        A key enrols new servers only: a server id is not inherited by it (channel.md, trust). For
        one that is registered already an operator decides; ApprovalPendingError until then.
        """
        vmm_id = self._office.requested_name(request)
        now = self._clock.now()
        for found in await self._reader.find(Provider, vault_id=key.vault_id, vmm_id=vmm_id):
            if found.record.registered_at is not None:
                return await self._approved(found.record, request, address)
        provider_id = self._clock.new_id()
        issued = self._office.issue_provider(request, provider_id, now)
        provider = Provider(
            id=provider_id,
            vault_id=key.vault_id,
            vmm_id=vmm_id,
            fabric_name=hashlib.sha256(f"{key.vault_id}/{vmm_id}".encode()).hexdigest(),
            enrolled_at=now,
            registration_key=key.id,
        )
        stream = ProviderStream(id=provider_id, vault_id=key.vault_id, stream=self._clock.new_id())
        certificate = management_certificate(provider, issued, now)
        saves = tuple(Save(record, NEW) for record in (provider, stream, certificate))
        await self._committer.commit(Change(saves=saves))
        return issued

    async def renew(self, provider: Provider, thumbprint: str, request: bytes) -> IssuedPem:
        """Issue the next certificate of a server that proves its present key (RFC 7030, 4.2.2).

        Both are valid until the older one ends. A certificate whose successor is in use cannot be
        renewed: an old key that was stolen does not live for ever.
        """
        if self._office.requested_name(request) != provider.id:
            raise InvalidRequestError(
                f"the common name of a renewal is that of the present certificate, {provider.id}"
            )
        now = self._clock.now()
        key_thumbprint = self._office.requested_key(request)
        known = await self._reader.find(ManagementCertificate, provider_id=provider.id)
        present = next(each.record for each in known if each.record.id == thumbprint)
        deletes = []
        for other in (each.record for each in known):
            if other.used_at is not None and other.issued_at > present.issued_at:
                raise ConflictError("the certificate has been renewed already: use the new one")
            if other.key_thumbprint != key_thumbprint:
                continue
            if other.used_at is not None or other.id == thumbprint:
                raise ConflictError("the key of the request has a certificate: make a new key")
            # An answer that was lost: the same key asks again, and what it was given is replaced.
            deletes.append(Delete(ManagementCertificate, other.id))
        roots = provider.trusted_roots
        issued = self._office.issue_provider(request, provider.id, now, trusted_roots=roots)
        save = Save(management_certificate(provider, issued, now), NEW)
        await self._committer.commit(Change(saves=(save,), deletes=tuple(deletes)))
        log.info("certificate_renewed", provider_id=provider.id, thumbprint=issued.thumbprint)
        return issued

    async def provider_of(self, thumbprint: str) -> Provider | None:
        """Return the provider of a management certificate that is neither revoked nor over."""
        certificate = await self._reader.get(ManagementCertificate, thumbprint)
        if certificate is None or not is_valid(certificate.record, self._clock.now()):
            return None
        found = await self._reader.get(Provider, certificate.record.provider_id)
        return None if found is None else found.record

    async def refusal_of(self, thumbprint: str) -> str:
        """Return in words why a certificate is good for nothing here."""
        found = await self._reader.get(ManagementCertificate, thumbprint)
        return refusal_of_certificate(None if found is None else found.record)

    async def token(
        self, provider: Provider, certificate_pem: str, address: str
    ) -> tuple[str, int]:
        """Return an encrypted token and its life in seconds; note where its holder is."""
        now = self._clock.now()
        thumbprint = self._office.thumbprint_of(certificate_pem)
        found = await self._reader.get(ManagementCertificate, thumbprint)
        if found is not None and (
            found.record.used_at is None or found.record.used_from != address
        ):
            used = found.record.model_copy(
                update={"used_at": found.record.used_at or now, "used_from": address}
            )
            await self._committer.commit(Change(saves=(Save(used, found.version),)))
        return self._office.provider_token(provider, certificate_pem, now)

    async def register(self, provider: Provider, registration: Registration) -> RegistrationAnswer:
        """Take the server into the vault; repeating it changes nothing but names and versions."""
        vault = await self._reader.get(Vault, provider.vault_id)
        present = await self._reader.get(Provider, provider.id)
        if vault is None or present is None:
            raise NotFoundError(provider.vault_id)
        if registration.vmm_id != present.record.vmm_id:
            raise ConflictError(
                f"the certificate was issued for server {present.record.vmm_id}, "
                f"not for {registration.vmm_id}"
            )
        registered = present.record.model_copy(
            update={
                "vmm_fqdn": registration.vmm_fqdn,
                "friendly_name": registration.friendly_name,
                "provider_version": registration.provider_version,
                "vmm_version": registration.vmm_version,
                "registered_at": present.record.registered_at or self._clock.now(),
            }
        )
        change = Change(saves=(Save(registered, present.version),))
        if present.record.registered_at is None:
            await self._jobs.registered(registered, change)
        else:
            await self._committer.commit(change)
        host, port = self._mqtt
        return RegistrationAnswer(
            provider_id=provider.id,
            vault_id=vault.record.id,
            vault_name=vault.record.name,
            mqtt_host=host,
            mqtt_port=port,
            heartbeat_seconds=int(self._heartbeat.total_seconds()),
        )

    async def issue_host(self, provider: Provider, host: str, request: bytes) -> IssuedPem:
        """Issue a host certificate for a host of this provider's inventory, and for no other.

        A node of a cluster gets one that names the cluster's replica broker too.
        """
        inventory = await self._reader.get(FabricInventory, provider.id)
        view = None if inventory is None else inventory.record.view
        known = () if view is None else [each for each in view.hosts if each.fqdn == host]
        if view is None or not known:
            raise NotFoundError(host)
        broker = broker_of(known[0], view.clusters)
        names = () if broker is None else (broker,)
        return self._office.issue_host(request, host, self._clock.now(), further_names=names)

    async def _approved(self, provider: Provider, request: bytes, address: str) -> IssuedPem:
        """Return what an operator has let the request have; ask for the decision before that."""
        key_thumbprint = self._office.requested_key(request)
        asked = await self._reader.find(PendingApproval, provider_id=provider.id)
        for approval in (each.record for each in asked):
            if approval.new_key_thumbprint != key_thumbprint:
                continue
            match approval.decision:
                case "pending":
                    raise _pending(approval)
                case "rejected":
                    raise EnrolmentRejectedError(
                        f"an operator has rejected the new key of {provider.friendly_name}"
                    )
                case "approved":
                    return await self._granted(approval)
        certificates = await self._reader.find(ManagementCertificate, provider_id=provider.id)
        if any(each.record.key_thumbprint == key_thumbprint for each in certificates):
            raise ConflictError("the key of the request has a certificate: make a new key")
        waiting = [each.record for each in asked if each.record.decision == "pending"]
        if len(waiting) >= APPROVALS_PENDING_MAX:
            raise ConflictError(
                f"{len(waiting)} requests for {provider.friendly_name} wait already: an operator "
                "must approve one or reject them"
            )
        last = max((each.record for each in certificates), key=lambda each: each.issued_at)
        approval = PendingApproval(
            id=self._clock.new_id(),
            vault_id=provider.vault_id,
            provider_id=provider.id,
            vmm_id=provider.vmm_id,
            friendly_name=provider.friendly_name,
            request_pem=self._office.request_pem(request),
            new_key_thumbprint=key_thumbprint,
            new_address=address,
            old_certificate_thumbprint=last.id,
            old_key_thumbprint=last.key_thumbprint,
            old_address=last.used_from,
            requested_at=self._clock.now(),
        )
        await self._committer.commit(Change(saves=(Save(approval, NEW),)))
        log.warning(
            "approval_asked",
            approval_id=approval.id,
            provider_id=provider.id,
            old_certificate=last.id,
            old_address=last.used_from,
            new_key=key_thumbprint,
            new_address=address,
        )
        raise _pending(approval)

    async def _granted(self, approval: PendingApproval) -> IssuedPem:
        """Return the approved certificate while it is valid: the request may be repeated."""
        thumbprint = self._office.thumbprint_of(approval.chain_pem)
        found = await self._reader.get(ManagementCertificate, thumbprint)
        if found is None or not is_valid(found.record, self._clock.now()):
            raise ConflictError("the approved certificate is over or revoked: make a new key")
        return IssuedPem(
            approval.chain_pem, thumbprint, approval.new_key_thumbprint, found.record.expires_at
        )


def management_certificate(
    provider: Provider, issued: IssuedPem, now: datetime
) -> ManagementCertificate:
    """Return what is kept of an issued certificate."""
    return ManagementCertificate(
        id=issued.thumbprint,
        vault_id=provider.vault_id,
        provider_id=provider.id,
        issued_at=now,
        expires_at=issued.expires_at,
        key_thumbprint=issued.key_thumbprint,
        root=issued.root,
        serial=issued.serial,
    )


def is_valid(certificate: ManagementCertificate, now: datetime) -> bool:
    """Return whether a certificate is good for anything now."""
    if certificate.revoked_at is not None:
        return False
    return certificate.expires_at is None or now < certificate.expires_at


def _pending(approval: PendingApproval) -> ApprovalPendingError:
    return ApprovalPendingError(
        approval.id,
        f"the server {approval.friendly_name} ({approval.vmm_id}) is registered already and this "
        "is a new key: it waits for an operator: site-recovery server approve (approval "
        f"{approval.id}, key {approval.new_key_thumbprint})",
    )
