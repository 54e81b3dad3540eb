"""Ends test failovers that have been open for too long, as an operator's clean-up would."""

from typing import Final
from uuid import NAMESPACE_OID, uuid5

import structlog

from service_hub.domain.errors import StaleVersionError
from service_hub.domain.open_tests import OPEN_MAX, OPERATION, OverdueTest, overdue
from service_hub.domain.operator_signatures import needs_signature
from service_hub.domain.records import Alert, ProtectedItem, Vault
from service_hub.ports.changes import NEW, Change, Save
from service_hub.ports.stores import Committer, Reader
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import ProtectionUseCases, RequestIdentity

PRINCIPAL: Final = "system:open-tests"
"""Who asks for these clean-ups, in jobs and alerts."""

COMMENTS: Final = f"Ended by the hub: the test failover was open for {OPEN_MAX.days} days."

log = structlog.get_logger(__name__)


class OpenTestService:
    """Looks for tests whose time is over; every hub of a database may, also at one time."""

    def __init__(
        self,
        *,
        reader: Reader,
        committer: Committer,
        clock: Clock,
        protection: ProtectionUseCases,
    ) -> None:
        self._reader = reader
        self._committer = committer
        self._clock = clock
        self._protection = protection

    async def end_overdue(self) -> int:
        """Begin the clean-up of each such test, and say so by an alert; return how many.

        A clean-up that fails is tried again a day later. Where the vault takes clean-ups signed by
        an operator alone, there is the alert only.
        """
        count = 0
        for vault in await self._reader.find(Vault):
            found = await self._reader.find(ProtectedItem, vault_id=vault.record.id)
            items = [each.record for each in found]
            for each in overdue(items, self._clock.now()):
                count += 1
                await self._end(vault.record, each)
        return count

    async def _end(self, vault: Vault, test: OverdueTest) -> None:
        item = test.item
        signed = needs_signature(vault, OPERATION)
        # First the alert: after a kill in between it is there already, and the test still open.
        await self._tell(vault, test, signed=signed)
        if signed:
            return
        days = (self._clock.now() - test.due_at).days
        identity = RequestIdentity(
            principal=PRINCIPAL,
            # The same on every hub and after every kill, another one each day.
            client_request_id=f"{PRINCIPAL}/{item.id}/{test.due_at:%Y-%m-%dT%H:%M:%SZ}/{days}",
            correlation_id=self._clock.new_id(),
            method="POST",
            path=PRINCIPAL,
            body_digest="",
        )
        job = await self._protection.request(
            vault, item.id, OPERATION.value, {"comments": COMMENTS}, identity
        )
        log.warning("open_test_ended", item_id=item.id, job_id=job.id, due_at=test.due_at)

    async def _tell(self, vault: Vault, test: OverdueTest, *, signed: bool) -> None:
        item, since = test.item, test.due_at - OPEN_MAX
        does = (
            "the vault takes clean-ups signed by an operator alone: end the test yourself"
            if signed
            else "the hub ends it and cleans up; its jobs say how that went"
        )
        alert = Alert(
            id=str(uuid5(NAMESPACE_OID, f"{PRINCIPAL}/{item.id}/{test.due_at.isoformat()}")),
            vault_id=vault.id,
            provider_id=item.provider_at(item.active_location.other),
            code="TestEnded",
            message=(
                f"The test failover of {item.friendly_name} has been open since"
                f" {since:%Y-%m-%dT%H:%M:%SZ}, for more than {OPEN_MAX.days} days: {does}."
            ),
            raised_at=self._clock.now(),
            principal=PRINCIPAL,
        )
        try:
            await self._committer.commit(Change(saves=(Save(alert, NEW),)))
        except StaleVersionError:
            log.debug("open_test_told_before", item_id=item.id)
