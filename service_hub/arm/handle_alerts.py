"""Alert settings: who is written to when something happens in a vault."""

from typing import Any, Final

from pydantic import Field

from service_hub.arm.api import ArmApi
from service_hub.arm.bodies import Input, read
from service_hub.arm.calls import Answer, Call
from service_hub.arm.ids import VaultIds, resource_type
from service_hub.arm.paging import page
from service_hub.domain.alert_mails import (
    ADDRESSES_MAX,
    SETTING_NAME,
    AlertSettings,
)
from service_hub.domain.errors import InvalidRequestError, NotFoundError
from service_hub.domain.records import Vault

KIND: Final = "replicationAlertSettings"


class AlertProperties(Input):
    """Who is written to; what is left out is nobody."""

    send_to_owners: str = Field(default="DoNotSend", max_length=16)
    custom_email_addresses: list[str] = Field(default_factory=list, max_length=ADDRESSES_MAX)
    locale: str = Field(default="", max_length=32, pattern=r"^[A-Za-z0-9-]*$")


class AlertInput(Input):
    """PUT of an alert setting."""

    properties: AlertProperties


class AlertHandlers:
    """What operators do with alert settings; a vault has one, and it is changed at once."""

    def __init__(self, api: ArmApi) -> None:
        self._api = api

    async def list(self, call: Call) -> Answer:
        """Answer with the one setting of a vault."""
        vault = await self._api.vault(call)
        body = _body(vault, await self._api.alerts.find(vault))
        return page(call, [body], self._api.public_url)

    async def get(self, call: Call) -> Answer:
        """Answer with it by its name."""
        vault = await self._api.vault(call)
        if call.folded("setting") != SETTING_NAME.lower():
            raise NotFoundError(call.name("setting"))
        return Answer(body=_body(vault, await self._api.alerts.find(vault)))

    async def change(self, call: Call) -> Answer:
        """Answer with it after it was replaced."""
        wanted = read(call.body, AlertInput).properties
        vault = await self._api.vault(call)
        if call.folded("setting") != SETTING_NAME.lower():
            raise InvalidRequestError(
                f"A vault has one alert setting: '{SETTING_NAME}'.", "alertSettingName"
            )
        changed = await self._api.alerts.change(
            vault,
            send_to_owners=wanted.send_to_owners,
            addresses=wanted.custom_email_addresses,
            locale=wanted.locale,
        )
        return Answer(body=_body(vault, changed))


def _body(vault: Vault, settings: AlertSettings) -> dict[str, Any]:
    return {
        "id": f"{VaultIds(vault).root}/{KIND}/{SETTING_NAME}",
        "name": SETTING_NAME,
        "type": resource_type(KIND),
        "properties": {
            "sendToOwners": settings.send_to_owners,
            "customEmailAddresses": list(settings.addresses),
            "locale": settings.locale,
        },
    }
