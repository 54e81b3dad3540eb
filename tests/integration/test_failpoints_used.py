"""Failpoints of real programs: set by the environment, told, and each of them does what it says."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import structlog

from certs.tls import client_context
from service_hub.config import HubSettings
from service_hub.domain.jobs import JobState
from service_hub.domain.protection import Operation, ProtectionState
from service_shell.configuration import load_configuration
from service_shell.failpoints import VARIABLE, FailpointError, Failpoints, from_environment
from tests.integration.agent_fakes.estate import Estate, estate
from tests.integration.agent_fakes.waiting import until
from tests.support.hub_stories import ask, ended, protected, until_done
from tests.support.hub_world import HubWorld, hub_world
from tests.support.real_hub import command, configure, send
from wire_contract.vocabulary import Verb

SECONDS_MAX = 30


def on(text: str) -> Failpoints:
    return from_environment({VARIABLE: text})


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Estate]:
    async with estate(tmp_path) as made:
        made.vmm.add("machine-1")
        made.register()
        yield made


async def test_an_agent_that_is_delayed_does_it_later_and_says_what_is_on(site: Estate) -> None:
    loop = asyncio.get_running_loop()
    async with site.agent(faults=on("agent.before_verb=delay:0.3")):
        told = json.loads(site.ready_file.read_text())
        assert told["failpoints"] == ["agent.before_verb=delay:0.3"]
        began = loop.time()
        site.hub.assign("start", "machine-1", "job-1")
        await until(lambda: site.hub.outcome("job-1"), "the outcome")
        assert loop.time() - began >= 0.3
    async with site.agent():
        assert "failpoints" not in json.loads(site.ready_file.read_text())


async def test_an_agent_that_hangs_before_it_reports_reports_after_a_restart(site: Estate) -> None:
    async with site.agent(faults=on("agent.before_report=hang")):
        site.hub.assign("start", "machine-1", "job-1")
        await until(lambda: site.vmm.effect_count(Verb.START, "machine-1"), "the effect")
        assert site.hub.report_posts == 0
    async with site.agent():
        await until(lambda: site.hub.outcome("job-1"), "the outcome")
    assert site.vmm.effect_count(Verb.START, "machine-1") == 1


async def test_an_agent_that_fails_after_a_verb_ends_and_goes_on_at_the_next_start(
    site: Estate,
) -> None:
    site.hub.assign("start", "machine-1", "job-1")
    with pytest.raises(ExceptionGroup) as caught:
        async with site.agent(ready=False, faults=on("agent.after_verb=error")) as running:
            await asyncio.wait({running.task}, timeout=SECONDS_MAX)
    assert caught.group_contains(FailpointError, match="agent.after_verb=error")
    async with site.agent():
        await until(lambda: site.hub.outcome("job-1"), "the outcome")
    assert site.vmm.effect_count(Verb.START, "machine-1") == 1


# --------------------------------------------------------------------------------------------- hub


@pytest.mark.parametrize("nth", [1, 3, 5])
@pytest.mark.parametrize(
    "point", ["store.before_apply", "store.in_transaction", "store.after_apply"]
)
async def test_a_hub_whose_database_fails_once_finishes_the_job(
    tmp_path: Path, point: str, nth: int
) -> None:
    """Whatever a caller is told: who repeats what was refused finds that nothing is lost."""
    with structlog.testing.capture_logs():
        async with hub_world(tmp_path) as world:
            await protected(world)
        async with hub_world(tmp_path, faults=on(f"{point}=error@{nth}")) as world:
            world.requests = 100  # no repetition of an earlier request
            errors = 0
            job_id: str | None = None
            async with asyncio.timeout(SECONDS_MAX):
                while job_id is None or not (await world.job(job_id)).finished:
                    try:
                        job_id = job_id or await running_or_new(world)
                        await until_done(world, job_id)
                    except FailpointError:
                        errors += 1
            assert errors <= 1
            assert (await world.job(job_id)).state is JobState.SUCCEEDED
            assert (await world.item()).state is ProtectionState.PLANNED_FAILED_OVER


async def running_or_new(world: HubWorld) -> str:
    """Return the item's job: an operator looks whether there is one before asking again."""
    current = (await world.item()).current
    return await ask(world, Operation.PLANNED_FAILOVER) if current is None else current.job_id


async def test_a_hub_that_is_delayed_or_hangs_finishes_the_job_at_last(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        await protected(world)
    async with hub_world(tmp_path, faults=on("engine.before_act=hang@1")) as world:
        world.requests = 100
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await ask(world, Operation.PLANNED_FAILOVER)
        job_id = await running_or_new(world)
        assert not (await world.job(job_id)).finished
    async with hub_world(tmp_path, faults=on("engine.before_commit=delay:0.02")) as world:
        assert await ended(world, job_id) is JobState.SUCCEEDED


# ---------------------------------------------------------------------------------------- programs


def test_a_hub_says_in_health_and_log_what_is_on(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    config = configure(tmp_path, free_port)
    command("init", "--config", config)
    settings = load_configuration(config, HubSettings)
    text = "engine.before_act=delay:0.001;store.after_apply=error@999"
    program = Path(sys.executable).with_name("service-hub")
    with subprocess.Popen(
        [program, "run", "--config", config],
        env={**os.environ, VARIABLE: text},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            assert settings.ready_file is not None
            for _ in range(SECONDS_MAX * 50):
                if settings.ready_file.exists() or process.poll() is not None:
                    break
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.02)
            tls = client_context((settings.trust_directory / "root.pem").read_text())
            answer = send((settings.operator.port, tls), "GET", "/health", b"", {})
        finally:
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=SECONDS_MAX)
    assert answer.content["failpoints"] == text.split(";")
    assert "failpoints_on" in output
    assert process.returncode == 0, output


@pytest.mark.parametrize(
    ("program", "configured"), [("service-hub", configure), ("provider-agent", None)]
)
def test_a_failpoint_that_is_none_is_one_line_and_exit_code_1(
    tmp_path: Path,
    free_port: Callable[[], int],
    program: str,
    configured: Callable[[Path, Callable[[], int]], Path] | None,
) -> None:
    config = tmp_path / "agent.json"
    if configured is not None:
        config = configured(tmp_path, free_port)
    else:
        vmm = {"url": "https://127.0.0.1:1", "ca_file": "ca.pem", "token_file": "vmm.token"}
        config.write_text(json.dumps({"data_directory": "agent", "vmm": vmm}))
    done = subprocess.run(
        [Path(sys.executable).with_name(program), "run", "--config", config],
        env={**os.environ, VARIABLE: "engine.before_comit=kill"},
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_MAX,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "there is no failpoint engine.before_comit" in done.stderr
