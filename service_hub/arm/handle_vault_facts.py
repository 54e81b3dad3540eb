"""What a vault holds and how it is: health, usages, settings; all of it counted when asked for."""

from service_hub.arm.api import ArmApi
from service_hub.arm.calls import Answer, Call
from service_hub.arm.paging import page
from service_hub.arm.render_vault_health import (
    VAULT_SETTING,
    replication_usages_body,
    usages,
    vault_health_body,
    vault_setting_body,
)
from service_hub.arm.surroundings import surroundings
from service_hub.domain.errors import NotFoundError


class VaultFactHandlers:
    """What operators ask of a vault as a whole."""

    def __init__(self, api: ArmApi) -> None:
        self._api = api

    async def health(self, call: Call) -> Answer:
        """Answer with the vault's health as it is now.

        That is what a refresh answers too, at once and without a job: nothing was kept from before.
        """
        around = await surroundings(self._api, await self._api.vault(call))
        return Answer(body=vault_health_body(around, self._api.clock.now()))

    async def replication_usages(self, call: Call) -> Answer:
        """Answer with a list of one: figures of monitoring, jobs, items, servers and plans."""
        vault = await self._api.vault(call)
        around = await surroundings(self._api, vault)
        jobs = await self._api.jobs.counts(vault)
        plans = len(await self._api.plans.list(vault))
        now = self._api.clock.now()
        return Answer(body={"value": [replication_usages_body(around, jobs, plans, now)]})

    async def usages(self, call: Call) -> Answer:
        """Answer with a count for each kind of thing in the vault."""
        vault = await self._api.vault(call)
        around = await surroundings(self._api, vault)
        plans = len(await self._api.plans.list(vault))
        return Answer(body={"value": usages(around, plans, self._api.clock.now())})

    async def list_settings(self, call: Call) -> Answer:
        """Answer with the one setting."""
        vault = await self._api.vault(call)
        return page(call, [vault_setting_body(vault)], self._api.public_url)

    async def get_setting(self, call: Call) -> Answer:
        """Answer with the one setting."""
        vault = await self._api.vault(call)
        if call.folded("setting") != VAULT_SETTING:
            raise NotFoundError(call.name("setting"))
        return Answer(body=vault_setting_body(vault))
