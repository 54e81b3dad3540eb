"""The provider follows the VMM cluster's role: it works on the active node, and waits elsewhere.

All nodes share one data directory and so one identity and one journal (seed, step 3): what the
former active node had begun, the new one takes up.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from provider_agent import VERSION
from provider_agent.agent import run_agent, vmm_driver
from provider_agent.config import AgentSettings
from provider_agent.directory_lock import DirectoryInUseError, lock_directory
from provider_agent.domain.prerequisites import nodes_of_other_version
from provider_agent.fabric.driver import FabricError
from provider_agent.fabric.vmm_service import VmmService
from service_shell.clock import Clock
from service_shell.errors import ProgramError
from service_shell.readiness import notify
from wire_contract.vmm_service import VmmServiceView

log = structlog.get_logger(__name__)

RunAgent = Callable[[AgentSettings, Clock, asyncio.Event], Awaitable[None]]


async def run_provider(
    settings: AgentSettings, clock: Clock, stop: asyncio.Event, agent: RunAgent = run_agent
) -> None:
    """Run until `stop` is set, or the server has left its vault; on one node at a time."""
    if settings.node is None:
        with lock_directory(settings.data_directory):
            await agent(settings, clock, stop)
        return
    async with vmm_driver(settings.vmm) as driver:
        follower = RoleFollower(settings.node, VmmService(driver), settings.watch_seconds)
        while await follower.until_active(stop):
            try:
                with lock_directory(settings.data_directory):
                    if not await _while_active(settings, clock, stop, follower, agent):
                        return
            except DirectoryInUseError as error:
                # The former active node has not let go yet.
                log.warning("former_node_waited_for", cause=str(error))
                await _wait(stop, settings.watch_seconds)


async def _while_active(
    settings: AgentSettings,
    clock: Clock,
    stop: asyncio.Event,
    follower: "RoleFollower",
    agent: RunAgent,
) -> bool:
    """Run the agent while this node has the role; true when the role has moved away."""
    ended = asyncio.Event()

    async def follow() -> bool:
        moved = await follower.until_passive(stop)
        ended.set()
        return moved

    async with asyncio.TaskGroup() as group:
        following = group.create_task(follow())
        await agent(settings, clock, ended)
        if not following.done():
            following.cancel()  # the agent has ended by itself: it has left its vault
    return not following.cancelled() and following.result()


class RoleFollower:
    """Looks at the cluster's role; a VMM server that does not answer changes nothing."""

    def __init__(self, node: str, service: VmmService, look_seconds: float) -> None:
        self._node = node
        self._service = service
        self._look_seconds = look_seconds
        self._told: str | None = None

    async def until_active(self, stop: asyncio.Event) -> bool:
        """Return true once this node has the role, false when asked to stop before."""
        while not stop.is_set():
            view = await self._look()
            if view is not None:
                self._check(view)
                if view.active_node == self._node:
                    self._told = None
                    log.info("node_active", node=self._node, role=view.cluster_role)
                    return True
                self._tell_passive(view)
            await _wait(stop, self._look_seconds)
        return False

    async def until_passive(self, stop: asyncio.Event) -> bool:
        """Return true once another node has the role, false when asked to stop before."""
        while not await _wait(stop, self._look_seconds):
            view = await self._look()
            if view is not None and view.active_node != self._node:
                log.warning("role_moved", node=self._node, active=view.active_node)
                return True
        return False

    async def _look(self) -> VmmServiceView | None:
        try:
            return await self._service.view()
        except FabricError as error:
            log.warning("cluster_role_not_readable", cause=str(error))
            return None

    def _check(self, view: VmmServiceView) -> None:
        nodes = [node.fqdn for node in view.nodes]
        if self._node not in nodes:
            raise ProgramError(
                f"`node` in the configuration is {self._node}, but VMM {view.fqdn} runs on"
                f" {', '.join(nodes)}; name one of them"
            )
        others = nodes_of_other_version(view.nodes, VERSION)
        if others:
            raise ProgramError(
                f"all nodes must have provider {VERSION}, but {others}; run set-up there"
            )

    def _tell_passive(self, view: VmmServiceView) -> None:
        if self._told == view.active_node:
            return
        self._told = view.active_node
        # systemd counts a waiting node as started: nothing is wrong with it.
        notify(f"READY=1\nSTATUS=passive node, the role is on {view.active_node}")
        log.info("node_passive_waits", node=self._node, active=view.active_node)


async def _wait(stop: asyncio.Event, seconds: float) -> bool:
    """Wait; true when asked to stop meanwhile."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True
