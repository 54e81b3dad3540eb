"""Runs a scenario, step by step; what is injected takes the hub's own way."""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError
from site_recovery_cli.job_report import FINISHED
from site_recovery_cli.scenario_files import (
    Begun,
    Condition,
    Ended,
    Inject,
    Item,
    Line,
    Process,
    Scenario,
    Server,
    Step,
)

POLL_SECONDS: Final = 0.5
PROGRAM_SECONDS_MAX: Final = 120.0
OUTPUT_CHARACTERS_MAX: Final = 500


class Estate(Protocol):
    """What a scenario does to a hub, and sees of it."""

    async def inject(self, inject: Inject) -> str:
        """Inject an event; the id of its job."""

    async def item(self, name: str) -> Mapping[str, Any]:
        """Return state, active, health, allows and reasons (lists) of a protected machine."""

    async def job(self, job_id: str) -> Mapping[str, Any]:
        """Return state, failed and doing (names of tasks), and codes of a job."""

    async def connected(self, server: str) -> bool:
        """Return whether a server's provider is connected."""


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What became of a step: `problem` says why it failed; None with `skipped`: not begun."""

    name: str
    seconds: float
    problem: str | None = None
    skipped: bool = False
    detail: str = ""


@dataclass(slots=True)
class ScenarioRun:
    """One run; `tell` is told each outcome as it comes."""

    estate: Estate
    laboratory: Path | None = None
    tell: Callable[[StepOutcome], None] = lambda _outcome: None
    clock: Callable[[], float] = time.monotonic
    jobs: dict[str, str] = field(default_factory=dict)
    _over: bool = False
    """Whether the job that was looked at last has ended."""

    async def run(self, scenario: Scenario) -> list[StepOutcome]:
        """Return the outcome of every step; after a failure only those that are done always."""
        outcomes: list[StepOutcome] = []
        failed = False
        for step in scenario.steps:
            if failed and not step.always:
                outcome = StepOutcome(step.name, 0.0, skipped=True)
            else:
                outcome = await self._outcome(step)
                failed = failed or outcome.problem is not None
            self.tell(outcome)
            outcomes.append(outcome)
        return outcomes

    async def _outcome(self, step: Step) -> StepOutcome:
        began, problem, detail = self.clock(), None, ""
        try:
            problem, detail = await self._do(step)
        except CommandError as error:
            problem = str(error)
        return StepOutcome(step.name, self.clock() - began, problem, detail=detail)

    async def _do(self, step: Step) -> tuple[str | None, str]:
        if step.inject is not None:
            self.jobs[step.name] = await self.estate.inject(step.inject)
            return None, f"job {self.jobs[step.name]}"
        if step.wait is not None:
            await asyncio.sleep(step.wait)
            return None, ""
        if step.process is not None:
            return await self._process(step.process), ""
        if step.line is not None:
            return await self._line(step.line), ""
        if step.expect is not None:
            return await self._against(step.expect), ""
        assert step.wait_for is not None, "the model lets nothing else through"
        return await self._awaited(step.wait_for, step.seconds), ""

    async def _awaited(self, condition: Condition, seconds: float) -> str | None:
        self._over = False
        until, against = self.clock() + seconds, "it was not looked at"
        while self.clock() < until:
            try:
                found = await self._against(condition)
            except CommandError as error:
                if error.exit_code != ExitCode.NOT_REACHABLE:
                    raise
                # A hub that is away for a moment is no answer to the question.
                found = str(error)
            if found is None:
                return None
            against = found
            if isinstance(condition, Ended) and self._over:
                # A job that has ended otherwise will not end again.
                return found
            await asyncio.sleep(POLL_SECONDS)
        return f"not within {seconds:g} s: {against}"

    async def _against(self, condition: Condition) -> str | None:
        """Return what speaks against a condition, None when it holds."""
        if isinstance(condition, Server):
            seen = await self.estate.connected(condition.server)
            return _differs("connected", condition.connected, seen)
        if isinstance(condition, Ended):
            return await self._against_job(condition)
        if isinstance(condition, Begun):
            return await self._against_task(condition)
        return await self._against_item(condition)

    async def _against_task(self, wanted: Begun) -> str | None:
        job_id = self.jobs.get(wanted.job)
        if job_id is None:
            return f"the step '{wanted.job}' began no job"
        job = await self.estate.job(job_id)
        if wanted.doing in job["doing"]:
            return None
        at = _words(job["doing"])
        return f"the job {job_id} ({job['state']}) is not at {wanted.doing}, but {at}"

    async def _against_job(self, wanted: Ended) -> str | None:
        job_id = self.jobs.get(wanted.job)
        if job_id is None:
            return f"the step '{wanted.job}' began no job"
        job = await self.estate.job(job_id)
        self._over = job["state"] in FINISHED
        against = _differs(f"the job {job_id}", wanted.state, job["state"])
        if against is None and wanted.task is not None and wanted.task not in job["failed"]:
            against = f"the task {wanted.task} has not failed, but {_words(job['failed'])}"
        if against is None and wanted.code is not None and wanted.code not in job["codes"]:
            against = f"the error {wanted.code} is not there, but {_words(job['codes'])}"
        return against

    async def _against_item(self, wanted: Item) -> str | None:
        item = await self.estate.item(wanted.item)
        for name in ("state", "active", "health"):
            value = getattr(wanted, name)
            against = None if value is None else _differs(name, value, item[name])
            if against is not None:
                return against
        allowed = set(item["allows"])
        if set(wanted.allows) - allowed:
            return f"{_words(sorted(set(wanted.allows) - allowed))} is not allowed"
        if set(wanted.refuses) & allowed:
            return f"{_words(sorted(set(wanted.refuses) & allowed))} is allowed"
        missing = set(wanted.reasons) - set(item["reasons"])
        if missing:
            told = _words(item["reasons"])
            return f"the health error {_words(sorted(missing))} is not there, but {told}"
        return None

    async def _process(self, process: Process) -> str | None:
        signals = {"kill": "9", "stop": "19", "continue": "18"}
        words = ["start", process.name]
        if process.does in signals:
            words = ["kill", process.name, "--signal", signals[process.does]]
        return await self._in_laboratory(words)

    async def _line(self, line: Line) -> str | None:
        words = ["line", line.site, line.does]
        if line.carries is not None:
            words += ["--carries", line.carries]
        return await self._in_laboratory(words)

    async def _in_laboratory(self, words: Sequence[str]) -> str | None:
        """Give a command of the laboratory's; why it failed, or None."""
        if self.laboratory is None:
            return (
                "processes and lines can be reached in a laboratory alone: name it with"
                " --laboratory"
            )
        # Beside this program: a command line that was called by its path finds its sibling.
        beside = Path(sys.executable).with_name("site-recovery-lab")
        program = str(beside) if beside.exists() else beside.name
        return await _run([program, *words, "--lab", str(self.laboratory)])


async def _run(words: Sequence[str]) -> str | None:
    """Run a program to its end; why it failed, or None."""
    program = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(os.environ),
    )
    try:
        async with asyncio.timeout(PROGRAM_SECONDS_MAX):
            output, _ = await program.communicate()
    except TimeoutError:
        program.kill()
        await program.wait()
        return f"{' '.join(words)} did not end"
    if program.returncode == 0:
        return None
    return f"{' '.join(words)}: {output.decode(errors='replace')[-OUTPUT_CHARACTERS_MAX:].strip()}"


def _differs(what: str, wanted: object, seen: object) -> str | None:
    return None if wanted == seen else f"{what} is {seen}, not {wanted}"


def _words(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
