"""The root of a whole hub is replaced while its server works; no registration is repeated."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog

from certs.roots import thumbprints_of
from certs.tls import client_context
from provider_agent.hub_https import HubError
from service_hub.domain.records import Provider, ProviderStream
from service_hub.root_files import NEXT_FOLDER, rotation_lock
from service_hub.trust import load
from service_shell.errors import ProgramError
from tests.integration.agent_fakes.waiting import until
from tests.support.root_world import RootWorld, root_world


@pytest.fixture
async def world(tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[RootWorld]:
    async with root_world(tmp_path, free_port) as opened:
        yield opened


def roots(world: RootWorld) -> tuple[str, ...]:
    return thumbprints_of(load(world.settings, world.clock.now()).chains.roots_pem)


async def test_the_root_is_replaced_while_events_flow(world: RootWorld) -> None:
    async with world.hub():
        await world.register()
        before = world.identity()
        async with world.agent(), world.events():
            code, said = await world.command("trust", "rotate-root")
            assert code == 0, said
            old, new = roots(world)
            assert (world.settings.trust_directory / "roots.pem").read_text().count("BEGIN") == 2
            await world.until_stored(
                lambda provider, _: provider.trusted_roots == (old, new), "both are pinned"
            )
            await until(
                lambda: world.identity().chain_pem != before.chain_pem, "the certificate is new"
            )
            assert world.identity().facts.provider_id == before.facts.provider_id
            await until_ready(world)
            await world.echo(before)  # in between the former certificate is as good
            code, said = await world.command("trust", "finish-rotation")
            assert code == 0, said
            await until(lambda: world.identity().facts.roots_serial == 2, "the former is dropped")
            await world.until_stored(
                lambda provider, _: provider.trusted_roots == (new,), "the hub knows"
            )
            assert thumbprints_of(world.identity().root_pem) == roots(world) == (new,)
            with pytest.raises(HubError, match="certificate"):
                await world.echo(before)
            await world.echo()
        _, stream, certificates = await world.stored()
        assert stream.next_seq - 1 >= world.echoes > 10
        assert {each.root for each in certificates if each.revoked_at is None} == {new}
    assert (0o777 & (world.agent_folder / "identity/root.pem").stat().st_mode) == 0o600
    # The next start refuses the former chain already in TLS; the agent goes on where it was.
    async with world.hub(), world.agent():
        with pytest.raises(HubError):
            await world.echo(before)
        await world.echo()
        await world.until_stored(all_taken, "nothing is left")
        provider, after, _ = await world.stored()
        assert after.stream == stream.stream, "the same stream: nothing was lost on the way"
        assert provider.id == before.facts.provider_id


def all_taken(provider: Provider, stream: ProviderStream) -> bool:
    del provider
    return stream.acknowledged_seq == stream.next_seq - 1


async def until_ready(world: RootWorld) -> None:
    for _ in range(200):
        _, said = await world.command("trust", "status")
        if "1 servers, 0 not ready" in said:
            return
    raise AssertionError(said)


async def test_who_is_away_holds_the_change_up_or_is_left_behind(world: RootWorld) -> None:
    async with world.hub():
        await world.register()
    before = world.identity()
    for answer in (0, 1):
        code, said = await world.command("trust", "rotate-root")
        assert code == answer, said
    assert "is being replaced already" in said
    code, said = await world.command("trust", "finish-rotation")
    assert code == 1
    assert "1 of 1 servers are not ready" in said
    assert "Tokyo" in said
    assert "has not confirmed the new root" in said
    code, said = await world.command("trust", "finish-rotation", "--force")
    assert code == 0, said
    assert "left behind: Tokyo" in said
    assert "register it again" in said
    async with world.hub():
        with pytest.raises(HubError, match="not from this hub"):
            await world.echo(before)
        assert not (world.settings.trust_directory / NEXT_FOLDER).exists()
        code, said = await world.command("trust", "status")
        assert (code, "it is not being replaced" in said) == (0, True)
    code, said = await world.command("trust", "finish-rotation")
    assert code == 1
    assert "no root is being replaced" in said


async def test_a_server_that_registers_meanwhile_needs_nothing_more(world: RootWorld) -> None:
    assert (await world.command("trust", "rotate-root"))[0] == 0
    async with world.hub():
        await world.register()
        assert thumbprints_of(world.identity().root_pem) == roots(world)
        async with world.agent():
            await until_ready(world)
        assert (await world.command("trust", "finish-rotation"))[0] == 0
    async with world.hub(), world.agent():
        await until(lambda: world.identity().facts.roots_serial == 2, "the former is dropped")


async def test_two_rotations_never_run_at_once(world: RootWorld) -> None:
    with rotation_lock(world.settings.trust_directory):
        code, said = await world.command("trust", "rotate-root")
        assert code == 1
        assert "another command changes the trust" in said
        with pytest.raises(ProgramError), rotation_lock(world.settings.trust_directory):
            pass


async def test_a_damaged_step_is_told_and_the_hub_goes_on(world: RootWorld) -> None:
    directory = world.settings.trust_directory
    root_pem = load(world.settings, world.clock.now()).chain.root_pem
    async with world.hub():
        with structlog.testing.capture_logs() as told:
            (directory / NEXT_FOLDER).mkdir()
            await until(lambda: causes(told), "it is told")
        assert "next/: root.pem is missing" in causes(told)[0]
        async with (
            aiohttp.ClientSession() as session,
            session.get(
                f"{world.settings.provider.public_url}/health", ssl=client_context(root_pem)
            ) as response,
        ):
            assert response.status == 200
        code, said = await world.command("trust", "status")
        assert (code, "next/: root.pem is missing" in said) == (1, True)
        (directory / NEXT_FOLDER).rmdir()
        assert (await world.command("trust", "status"))[0] == 0


def causes(told: list[Any]) -> list[str]:
    return [line["cause"] for line in told if line["event"] == "trust_not_taken_up"]
