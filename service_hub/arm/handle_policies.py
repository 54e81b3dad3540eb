"""Replication policies."""

from http import HTTPStatus
from typing import Any

from service_hub.arm.api import ArmApi
from service_hub.arm.bodies import PolicyChangeInput, PolicyInput, PolicyProviderInput, read
from service_hub.arm.calls import Answer, Call
from service_hub.arm.ids import VaultIds
from service_hub.arm.long_running import accepted, operation_result
from service_hub.arm.paging import page
from service_hub.arm.render_policies import policy_body
from service_hub.domain.errors import NotFoundError


class PolicyHandlers:
    """What operators do with replication policies."""

    def __init__(self, api: ArmApi) -> None:
        self._api = api

    async def create(self, call: Call) -> Answer:
        """Begin to create a policy."""
        vault = await self._api.vault(call)
        wanted = read(call.body, PolicyInput).properties.provider_specific_input
        name = call.name("policy")
        job = await self._api.policies.create(vault, name, _settings(wanted), call.identity)
        return accepted(self._api, vault, job, VaultIds(vault).policy(name))

    async def change(self, call: Call) -> Answer:
        """Begin to change a policy, and what replicates under it."""
        vault = await self._api.vault(call)
        wanted = read(call.body, PolicyChangeInput).properties.replication_provider_settings
        name = call.name("policy")
        job = await self._api.policies.change(vault, name, _settings(wanted), call.identity)
        return accepted(self._api, vault, job, VaultIds(vault).policy(name))

    async def delete(self, call: Call) -> Answer:
        """Begin to delete a policy; 204 where there is none."""
        vault = await self._api.vault(call)
        name = call.name("policy")
        try:
            job = await self._api.policies.delete(vault, name, call.identity)
        except NotFoundError:
            return Answer(HTTPStatus.NO_CONTENT)
        return accepted(self._api, vault, job, VaultIds(vault).policy(name))

    async def get(self, call: Call) -> Answer:
        """Answer with one policy."""
        vault = await self._api.vault(call)
        policy = await self._api.policies.find(vault, call.name("policy"))
        return Answer(body=policy_body(vault, policy))

    async def list(self, call: Call) -> Answer:
        """Answer with all policies of a vault."""
        vault = await self._api.vault(call)
        policies = await self._api.policies.list(vault)
        bodies = [policy_body(vault, policy) for policy in policies]
        return page(call, bodies, self._api.public_url)

    async def result(self, call: Call) -> Answer:
        """Answer with the policy that an operation was about, 204 where that is deleted."""
        try:
            return await operation_result(self._api, call, self.get)
        except NotFoundError:
            # The operation itself is found, or this raises once more.
            vault = await self._api.vault(call)
            await self._api.jobs.find(vault, call.folded("operation"))
            return Answer(HTTPStatus.NO_CONTENT)


def _settings(wanted: PolicyProviderInput) -> dict[str, Any]:
    """Return the settings that the request named, as fields of a ReplicationPolicy."""
    named: dict[str, Any] = {
        "replication_frequency_seconds": wanted.replication_frequency_in_seconds,
        "recovery_points": wanted.recovery_points,
        "application_consistent_hours": wanted.application_consistent_snapshot_frequency_in_hours,
        "compression": wanted.compression and wanted.compression == "Enable",
        "initial_replication_method": wanted.initial_replication_method,
        "online_start_time": wanted.online_replication_start_time,
        "offline_import_path": wanted.offline_replication_import_path,
        "offline_export_path": wanted.offline_replication_export_path,
        "replication_port": wanted.replication_port,
        "allowed_authentication_type": wanted.allowed_authentication_type,
        "replica_deletion_required": (
            wanted.replica_deletion and wanted.replica_deletion == "Required"
        ),
        "self_fence_seconds": wanted.self_fence_seconds,
    }
    settings = {name: value for name, value in named.items() if value is not None}
    return {"provider_type": wanted.instance_type, **settings}
