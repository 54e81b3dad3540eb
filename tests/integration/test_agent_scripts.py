"""Scripts of recovery plans at the provider: found, run, bounded, reported; once and no more."""

import asyncio
import contextlib
import functools
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from certs.channel_integrity import new_key, seal
from provider_agent import script_launcher
from provider_agent.operator_orders import insist
from provider_agent.outcomes import ErrorCode
from tests.integration.agent_fakes.estate import Estate, estate
from tests.integration.agent_fakes.waiting import until
from wire_contract.operator_signature import (
    Order,
    SignedOperation,
    signed_header,
    unsigned_text,
)
from wire_contract.reports import TaskOutcome
from wire_contract.scripts import ScriptOrder, script_digest
from wire_contract.vmm_fabric import LibraryShareView
from wire_contract.vocabulary import Direction

PLAN = "plan-1"
UNC = "\\\\vmm.tokyo.example\\MSCVMMLibrary"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Estate]:
    async with estate(tmp_path) as made:
        (tmp_path / "library" / "RPScripts").mkdir(parents=True)
        shares = (
            LibraryShareView(unc="\\\\elsewhere\\library", folder=None),
            LibraryShareView(unc=UNC, folder=str(tmp_path / "library")),
        )
        made.vmm.fabric = made.vmm.fabric.model_copy(update={"library_shares": shares})
        made.register()
        yield made


def script(site: Estate, text: str, name: str = "RPScripts/act.sh", mode: int = 0o755) -> Path:
    """Put a script of the shell into the library."""
    path = site.folder / "library" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return path


def order(path: str = "\\RPScripts\\act.sh", seconds: int = 20) -> dict[str, Any]:
    """Return the arguments of an order."""
    context = {
        "plan_id": PLAN,
        "plan_name": "Payroll",
        "group": "Group 1",
        "when": "before",
        "action": "act",
        "kind": "PlannedFailover",
        "direction": "PrimaryToRecovery",
        "side": "Recovery",
        "job_id": "job-1",
        "machines": [{"item": "item-1", "name": "web", "machine_id": "machine-1"}],
    }
    return {"path": path, "seconds": seconds, "context": context}


def assign(site: Estate, arguments: dict[str, Any], job: str = "job-1") -> None:
    """Order a script."""
    site.hub.assign("run_script", PLAN, job, arguments=arguments)


async def outcome_of(site: Estate, job: str = "job-1") -> TaskOutcome:
    """Return how the order ended."""
    await until(lambda: site.hub.outcome(job), f"the outcome of {job} is reported", 30)
    outcome = site.hub.outcome(job)
    assert outcome is not None
    return outcome


async def ran(site: Estate, arguments: dict[str, Any]) -> TaskOutcome:
    """Order a script and return how it ended."""
    async with site.agent():
        assign(site, arguments)
        return await outcome_of(site)


def failure(outcome: TaskOutcome) -> tuple[int, str]:
    """Return code and words of a failure."""
    assert not outcome.succeeded
    assert outcome.error is not None
    return outcome.error.code, outcome.error.message


def result_of(outcome: TaskOutcome) -> dict[str, Any]:
    """Return what was captured."""
    result = outcome.observed["result"]
    assert isinstance(result, dict)
    return result


async def test_a_script_gets_its_context_and_its_output_is_reported(
    site: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROXY_PASSWORD", "of the provider")
    script(site, 'pwd; cat "$SITE_RECOVERY_CONTEXT"; echo; env')
    outcome = await ran(site, order())
    assert outcome.succeeded, outcome.error
    said = str(result_of(outcome)["output"])
    folder, rest = said.split("\n", 1)
    assert Path(folder).parent == site.folder / "agent" / "scripts"
    assert not list((site.folder / "agent" / "scripts").iterdir()), "the folder is removed"
    context, end = json.JSONDecoder().raw_decode(rest)
    assert (context["plan_name"], context["kind"]) == ("Payroll", "PlannedFailover")
    assert context["machines"][0]["addresses"] == []
    variables = dict(line.split("=", 1) for line in rest[end:].strip().splitlines() if "=" in line)
    assert variables["SITE_RECOVERY_GROUP"] == "Group 1"
    assert variables["SITE_RECOVERY_MACHINES"] == "web"
    known = {"PATH", "LANG", "HOME", "TMPDIR", "PWD", "SHLVL", "_", "OLDPWD"}
    others = {name for name in variables if not name.startswith("SITE_RECOVERY_")}
    assert others <= known, "nothing of the provider's own environment"


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("echo on the way; exit 3", ErrorCode.SCRIPT_FAILED, "exit code 3; it said: on the way"),
        ("echo no >&2", ErrorCode.SCRIPT_FAILED, "wrote to standard error; it said: no"),
        ("kill -9 $$", ErrorCode.SCRIPT_FAILED, "signal 9"),
    ],
)
async def test_a_script_that_fails_says_why(
    site: Estate, text: str, code: ErrorCode, words: str
) -> None:
    script(site, text)
    found, message = failure(await ran(site, order()))
    assert found == code
    assert words in message


async def test_a_server_that_insists_runs_the_scripts_that_an_operator_signed(
    site: Estate,
) -> None:
    key, runs = new_key(), site.folder / "runs"
    insist(site.folder / "agent", key)
    script(site, f"echo once >> {runs}")
    digest = script_digest(ScriptOrder.model_validate(order()))
    ordered = Order(SignedOperation.PLANNED_FAILOVER, PLAN, Direction.PRIMARY_TO_RECOVERY, digest)
    now = datetime.now(UTC)
    text = unsigned_text(ordered, "request-1", now - timedelta(minutes=5), now + timedelta(hours=6))
    signed = signed_header(text, seal(key, text.encode()))
    async with site.agent():
        for job, arguments, header in (
            ("unsigned", order(), None),
            ("other", order(seconds=21), signed),
            ("signed", order(), signed),
            ("again", order(), signed),
        ):
            site.hub.assign(
                "run_script",
                PLAN,
                job,
                item=None,
                epoch=0,
                arguments=arguments,
                operator_signature=header,
            )
            outcome = await outcome_of(site, job)
            assert outcome.succeeded == (job == "signed"), outcome.error
            if not outcome.succeeded:
                assert failure(outcome)[0] == ErrorCode.NOT_ORDERED
    assert runs.read_text() == "once\n"


async def test_what_is_no_script_of_the_library_is_refused(site: Estate) -> None:
    outside = site.folder / "outside.sh"
    outside.write_text("#!/bin/sh\ntouch hurt\n")
    outside.chmod(0o755)
    folder = site.folder / "library"
    (folder / "link.sh").symlink_to(outside)
    (folder / "loop.sh").symlink_to(folder / "loop.sh")
    script(site, "true", "plain.sh", mode=0o644)
    nothing = folder / "nothing.sh"
    nothing.write_text("no interpreter")
    nothing.chmod(0o755)
    cases = {
        "..\\outside.sh": (ErrorCode.SCRIPT_PATH, "leaves the library share"),
        "link.sh": (ErrorCode.SCRIPT_PATH, "a link on its way leads out"),
        "loop.sh": (ErrorCode.SCRIPT_NOT_RUNNABLE, "cannot be run"),
        "\\\\another\\share\\a.sh": (ErrorCode.SCRIPT_PATH, "no share of this server's library"),
        "\\\\elsewhere\\library\\a.sh": (ErrorCode.SCRIPT_MISSING, "no share whose files are here"),
        "missing.sh": (ErrorCode.SCRIPT_MISSING, "there is no such file"),
        "plain.sh": (ErrorCode.SCRIPT_NOT_RUNNABLE, "no run bit"),
        "RPScripts": (ErrorCode.SCRIPT_NOT_RUNNABLE, "it is no file"),
        "nothing.sh": (ErrorCode.SCRIPT_FAILED, "must name an interpreter"),
    }
    async with site.agent():
        for number, path in enumerate(cases):
            assign(site, order(path), f"job-{number}")
        assign(site, {"nothing": 1}, "job-bad")
        for number, (code, words) in enumerate(cases.values()):
            found, message = failure(await outcome_of(site, f"job-{number}"))
            assert (found, words in message) == (code, True), message
        found, message = failure(await outcome_of(site, "job-bad"))
    assert (found, "cannot be read" in message) == (ErrorCode.SCRIPT_PATH, True)


async def test_a_script_whose_time_is_over_is_ended_with_all_it_started(site: Estate) -> None:
    pids = site.folder / "pids"
    script(site, f"trap '' TERM; sleep 600 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; wait")
    found, message = failure(await ran(site, order(seconds=1)))
    assert (found, "ended after 1 s" in message) == (ErrorCode.SCRIPT_TIMED_OUT, True)
    for pid in map(int, pids.read_text().split()):
        await until(functools.partial(_ended, pid), f"process {pid} is gone")


async def test_a_script_that_writes_without_end_is_ended(site: Estate) -> None:
    script(site, "echo begin; head -c 1G /dev/zero; echo end; touch reached")
    outcome = await ran(site, order())
    found, message = failure(outcome)
    assert (found, "more than 16777216 bytes" in message) == (ErrorCode.SCRIPT_OUTPUT, True)
    said = str(result_of(outcome)["output"])
    assert said.startswith("begin\n")
    assert len(said) < 20_000


async def test_what_a_script_leaves_running_ends_with_it(site: Estate) -> None:
    pid = site.folder / "pid"
    script(site, f"sleep 600 & echo $! > {pid}; echo done")
    outcome = await ran(site, order())
    assert outcome.succeeded, outcome.error
    await until(lambda: _ended(int(pid.read_text())), "the process left behind is gone")


async def test_a_script_that_was_interrupted_is_not_run_again(site: Estate) -> None:
    runs = site.folder / "runs"
    script(site, f"echo run >> {runs}; sleep 600")
    async with site.agent() as agent:
        assign(site, order(seconds=600))
        await until(runs.exists, "the script runs")
        await agent.kill()
    async with site.agent():
        found, message = failure(await outcome_of(site))
    assert (found, "restarted while the script ran" in message) == (
        ErrorCode.SCRIPT_INTERRUPTED,
        True,
    )
    assert runs.read_text() == "run\n"


def test_a_script_ends_with_its_provider(tmp_path: Path) -> None:
    runs = tmp_path / "pid"
    path = tmp_path / "act.sh"
    path.write_text(f"#!/bin/sh\necho $$ > {runs}.new; mv {runs}.new {runs}; exec sleep 600\n")
    path.chmod(0o755)
    provider = (
        "import os, subprocess, sys;"
        f"subprocess.run([sys.executable, {script_launcher.__file__!r}, str(os.getpid()),"
        f" {str(path)!r}])"
    )
    with subprocess.Popen([sys.executable, "-c", provider]) as parent:
        asyncio.run(until(runs.exists, "the script runs"))
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)
    asyncio.run(until(lambda: _ended(int(runs.read_text())), "the script has ended"))


def _ended(pid: int) -> bool:
    """Whether no process has this number, or one that has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True
