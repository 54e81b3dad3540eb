import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from provider_agent.cli import main
from tests.integration.agent_fakes.estate import Estate, estate
from tests.integration.agent_fakes.fake_vmm import Fault
from tests.integration.agent_fakes.waiting import until
from wire_contract.reports import Receipt, TaskOutcome
from wire_contract.vocabulary import Verb

PROGRAM = (sys.executable, "-c", "from provider_agent.cli import main; main()")
ROOT = Path(__file__).resolve().parents[2]


def configuration(folder: Path, **changes: Any) -> Path:
    values = {
        "data_directory": "agent",
        "ready_file": "ready.json",
        "log": {"file": "agent.log", "level": "info"},
        "vmm": {
            "url": "https://127.0.0.1:1",
            "ca_file": "ca.pem",
            "token_file": "vmm.token",
        },
        "watch_seconds": 0.1,
        **changes,
    }
    path = folder / "agent.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@dataclass
class Ended:
    """How a call of the command line ended."""

    code: int | str | None
    output: str
    errors: str


Program = Callable[..., Ended]


@pytest.fixture
def program(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    """Call the command line in this process: enough for what ends before anything runs."""

    def call(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["provider-agent", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        return Ended(caught.value.code, captured.out, captured.err)

    return call


def test_the_program_says_its_version_and_what_it_can_do(program: Program) -> None:
    assert program("--version").output.startswith("provider-agent 0.")
    assert "register" in program("--help").output


def test_a_good_configuration_is_called_valid(tmp_path: Path, program: Program) -> None:
    ended = program("config", "check", str(configuration(tmp_path)))
    assert ended.code == 0, ended.errors
    assert "valid" in ended.output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"proxy": {"mode": "custom"}}, "mode custom needs address and port"),
        ({"proxy": {"mode": "system", "port": 3128}}, "port belongs to mode custom"),
        ({"proxy": {"mode": "socks"}}, "'none', 'system' or 'custom'"),
        ({"watch_second": 1}, "did you mean watch_seconds?"),
        ({"vmm": {"url": "http://vmm", "ca_file": "a", "token_file": "b"}}, "https://"),
        ({"tasks": {"parallel_max": 0}}, "parallel_max"),
    ],
)
def test_a_wrong_configuration_is_one_line_that_names_the_key(
    tmp_path: Path, program: Program, changes: dict[str, Any], message: str
) -> None:
    ended = program("config", "check", str(configuration(tmp_path, **changes)))
    assert ended.code not in {0, None}
    assert message in ended.errors
    assert len(ended.errors.strip().splitlines()) == 1


def test_a_server_that_is_not_registered_says_how_to_register(tmp_path: Path) -> None:
    result = subprocess.run(
        (*PROGRAM, "run", "--config", str(configuration(tmp_path))),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert result.returncode != 0
    assert "is not registered" in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Estate]:
    async with estate(tmp_path) as made:
        made.vmm.add("machine-1")
        made.register()
        vmm = {"url": made.vmm.url, "ca_file": "ca.pem", "token_file": "vmm.token"}
        configuration(tmp_path, vmm=vmm)
        yield made


@contextlib.asynccontextmanager
async def running(site: Estate) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the real program; whatever the test does, no process stays behind."""
    process = await asyncio.create_subprocess_exec(
        *PROGRAM,
        *("run", "--config", str(site.folder / "agent.yaml")),
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_the_program_becomes_ready_works_and_ends_when_it_is_asked(site: Estate) -> None:
    async with running(site) as process:
        await until(site.ready_file.exists, "the program is ready", seconds=40)
        facts = json.loads(site.ready_file.read_text())
        assert facts == {
            "pid": process.pid,
            "provider_id": site.hub.provider_id,
            "connected": True,
        }
        site.hub.assign("start", "machine-1", "job-1")
        await until(lambda: site.hub.outcome("job-1"), "the task is done")
        process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.wait_for(process.communicate(), 20)
        assert (process.returncode, errors) == (0, b"")
    assert not site.ready_file.exists()
    assert site.hub.mqtt.presence[-1].state == "offline"
    log = (site.folder / "agent.log").read_text().splitlines()
    events = [json.loads(line)["event"] for line in log]
    assert {"agent_ready", "task_begun", "task_ended", "agent_stopped"} <= set(events)


async def test_kill_minus_9_at_any_moment_loses_nothing_and_does_nothing_twice(
    site: Estate,
) -> None:
    """Killed before, in the middle of and after a verb; each time the next process goes on."""
    site.vmm.faults["start"] = Fault("vanish_after")
    site.vmm.holds["start"] = asyncio.Event()
    async with running(site) as process:
        await until(site.ready_file.exists, "the program is ready", seconds=40)
        site.hub.assign("start", "machine-1", "job-1")
        site.hub.assign("shut_down", "machine-1", "job-2")
        await until(lambda: site.vmm.call_count(Verb.START, "machine-1"), "the verb is called")
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
    site.vmm.holds["start"].set()
    await until(lambda: site.vmm.effects, "the interrupted verb has its effect")
    site.hub.out_of_order = True
    site.ready_file.unlink()
    async with running(site) as process:
        site.hub.out_of_order = False
        await until(lambda: site.hub.outcome("job-2"), "both tasks are done", seconds=40)
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
    async with running(site):
        site.hub.assign("start", "machine-1", "job-3")
        await until(lambda: site.hub.outcome("job-3"), "the third task is done", seconds=40)
    outcomes = [(each.job, each.succeeded) for each in site.hub.told(TaskOutcome)]
    assert outcomes == [("job-1", True), ("job-2", True), ("job-3", True)]
    assert [each.seq for each in site.hub.told(Receipt)] == [1, 2, 3]
    assert site.vmm.effect_count(Verb.START, "machine-1") == 2
    assert site.vmm.effect_count(Verb.SHUT_DOWN, "machine-1") == 1


async def test_a_damaged_journal_ends_the_program_with_one_line(site: Estate) -> None:
    site.journal_file.write_bytes(b"rubbish" * 1000)
    async with running(site) as process:
        _, errors = await asyncio.wait_for(process.communicate(), 40)
    assert process.returncode not in {0, None}
    line = errors.decode()
    assert "journal.db is damaged" in line
    assert "move it away" in line
    assert len(line.strip().splitlines()) == 1


async def test_a_missing_certificate_authority_is_named(site: Estate) -> None:
    (site.folder / "ca.pem").unlink()
    async with running(site) as process:
        _, errors = await asyncio.wait_for(process.communicate(), 40)
    assert process.returncode not in {0, None}
    assert b"vmm.ca_file" in errors
    assert len(errors.decode().strip().splitlines()) == 1
