"""Vaults and registration certificates."""

import base64
import re
from http import HTTPStatus
from typing import Final

from service_hub.arm.api import ArmApi
from service_hub.arm.bodies import read
from service_hub.arm.calls import Answer, Call
from service_hub.arm.long_running import operation_result, operation_state
from service_hub.arm.paging import page
from service_hub.arm.preconditions import matching
from service_hub.arm.render_vaults import certificate_body, extended_info_body, vault_body
from service_hub.arm.vault_bodies import (
    CertificateInput,
    ExtendedInfoInput,
    VaultChangeInput,
    VaultInput,
)
from service_hub.domain.errors import ConflictError, InvalidRequestError, NotFoundError
from service_hub.domain.records import ExtendedInfo, Vault

VAULT_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,49}")
_RESOURCE_GROUP: Final = re.compile(r"[\w.()-]{1,90}")
_SUBSCRIPTION: Final = re.compile(r"[A-Za-z0-9-]{1,64}")


class VaultHandlers:
    """What operators do with vaults; changes are made at once, without a job."""

    def __init__(self, api: ArmApi) -> None:
        self._api = api

    async def create(self, call: Call) -> Answer:
        """Answer 201 with a new vault, 200 with one that existed."""
        wanted = read(call.body, VaultInput)
        _check_names(call)
        present = await self._present(call)
        matching(call, "no etag: there is no such vault" if present is None else _etag(present))
        if present is not None and _place(present.location) != _place(wanted.location):
            raise ConflictError(
                f"The vault '{present.name}' exists in '{present.location}'; a vault doesn't move."
                " Name that location, or choose another vault name."
            )
        vault = await self._api.vaults.create(
            call.name("subscription"),
            call.name("resource_group"),
            call.name("vault"),
            location=wanted.location,
            tags=wanted.tags,
        )
        status = HTTPStatus.CREATED if present is None else HTTPStatus.OK
        return Answer(status, vault_body(vault))

    async def change(self, call: Call) -> Answer:
        """Answer with the vault after its tags were replaced."""
        wanted = read(call.body, VaultChangeInput)
        vault = await self._api.vault(call)
        insists = matching(call, _etag(vault))
        changed = await self._api.vaults.retag(vault, wanted.tags, only_this=insists)
        return Answer(body=vault_body(changed))

    async def extended_info(self, call: Call) -> Answer:
        """Answer with what clients keep with the vault."""
        return Answer(body=extended_info_body(await self._api.vault(call)))

    async def set_extended_info(self, call: Call) -> Answer:
        """Answer with it after it was replaced (PUT), or changed where the body says so (PATCH)."""
        wanted = read(call.body, ExtendedInfoInput).properties
        vault = await self._api.vault(call)
        insists = False
        if call.if_match is not None:
            insists = matching(call, extended_info_body(vault)["etag"])
        sent = wanted.model_dump(exclude_none=True)
        if call.identity.method == "PATCH" and vault.extended_info is not None:
            sent = vault.extended_info.model_dump(exclude_none=True) | sent
        changed = await self._api.vaults.keep_info(vault, ExtendedInfo(**sent), only_this=insists)
        return Answer(body=extended_info_body(changed))

    async def delete(self, call: Call) -> Answer:
        """Answer 204, also where there is no such vault; 409 with the servers that are in it."""
        vault = await self._present(call)
        if vault is not None:
            matching(call, _etag(vault))
            await self._api.vaults.delete(vault)
        return Answer(HTTPStatus.NO_CONTENT)

    async def get(self, call: Call) -> Answer:
        """Answer with one vault."""
        return Answer(body=vault_body(await self._api.vault(call)))

    async def list_by_subscription(self, call: Call) -> Answer:
        """Answer with the vaults of a subscription."""
        vaults = await self._api.vaults.list(call.name("subscription"), None)
        seen = [vault_body(vault) for vault in vaults if call.sees(vault.id)]
        return page(call, seen, self._api.public_url)

    async def list_by_resource_group(self, call: Call) -> Answer:
        """Answer with the vaults of a resource group."""
        vaults = await self._api.vaults.list(call.name("subscription"), call.name("resource_group"))
        seen = [vault_body(vault) for vault in vaults if call.sees(vault.id)]
        return page(call, seen, self._api.public_url)

    async def upload_certificate(self, call: Call) -> Answer:
        """Answer with what a vault credentials file is made of."""
        vault = await self._api.vault(call)
        encoded = read(call.body, CertificateInput).properties.certificate
        uploaded = await self._api.vaults.upload_certificate(
            vault, call.name("certificate"), _der(encoded)
        )
        return Answer(body=certificate_body(vault, uploaded))

    async def operation_state(self, call: Call) -> Answer:
        """Answer with the state of an operation of this vault."""
        return await operation_state(self._api, call)

    async def result(self, call: Call) -> Answer:
        """Answer with the vault that an operation worked in."""
        return await operation_result(self._api, call, self.get)

    async def _present(self, call: Call) -> Vault | None:
        try:
            return await self._api.vault(call)
        except NotFoundError:
            return None


def _check_names(call: Call) -> None:
    for segment, pattern, rule in (
        ("subscription", _SUBSCRIPTION, "1 to 64 letters, digits and hyphens; best a GUID"),
        ("resource_group", _RESOURCE_GROUP, "1 to 90 letters, digits, '_', '-', '.', '(' and ')'"),
        ("vault", VAULT_NAME, "2 to 50 letters, digits and hyphens, beginning with a letter"),
    ):
        if not pattern.fullmatch(call.name(segment)):
            raise InvalidRequestError(f"The name '{segment}' in the path must be {rule}.", segment)


def _etag(vault: Vault) -> str:
    etag: str = vault_body(vault)["etag"]
    return etag


def _place(location: str) -> str:
    # "Japan East" and "japaneast" are the same place.
    return location.replace(" ", "").lower()


def _der(encoded: str) -> bytes:
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except ValueError:
        raise InvalidRequestError(
            "The certificate must be base64 of its DER form.", "properties.certificate"
        ) from None
