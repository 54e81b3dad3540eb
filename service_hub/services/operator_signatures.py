"""Whether the operations of a vault want an operator's signature."""

from typing import Final

import structlog

from service_hub.domain.errors import NotFoundError, StaleVersionError
from service_hub.domain.records import Vault
from service_hub.ports.changes import Change, Save
from service_hub.ports.stores import Committer, Reader

TRIES_MAX: Final = 20
"""How often the setting is made while something else changes the vault."""

log = structlog.get_logger(__name__)


class SignatureSettings:
    """The SignatureUseCases of the operator ports."""

    def __init__(self, *, reader: Reader, committer: Committer) -> None:
        self._reader = reader
        self._committer = committer

    async def require(self, vault_id: str, principal: str, *, required: bool) -> None:
        """Turn the setting on or off; servers that insist by themselves go on insisting."""
        for _ in range(TRIES_MAX):
            found = await self._reader.get(Vault, vault_id)
            if found is None:
                raise NotFoundError(vault_id)
            changed = found.record.model_copy(update={"requires_operator_signature": required})
            try:
                await self._committer.commit(Change(saves=(Save(changed, found.version),)))
            except StaleVersionError:
                continue
            log.info(
                "operator_signature_setting_changed",
                vault_id=vault_id,
                required=required,
                principal=principal,
            )
            return
        raise StaleVersionError(f"the vault {vault_id} found no quiet moment; try again")
