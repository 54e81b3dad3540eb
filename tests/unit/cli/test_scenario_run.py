import asyncio
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError
from site_recovery_cli.junit import report
from site_recovery_cli.scenario_files import Inject, read_scenario
from site_recovery_cli.scenario_run import ScenarioRun, StepOutcome


@dataclass
class PlayedEstate:
    """A hub whose item becomes what it is told after so many looks."""

    states: list[str] = field(default_factory=lambda: ["Protected"])
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    injected: list[Inject] = field(default_factory=list)
    away: int = 0

    async def inject(self, inject: Inject) -> str:
        """Note it; jobs are numbered."""
        self.injected.append(inject)
        return f"job-{len(self.injected)}"

    async def item(self, name: str) -> Mapping[str, Any]:
        """Return the next state, once the hub is back."""
        if name != "web01":
            raise CommandError(f"no item is named {name}", ExitCode.NOT_FOUND)
        if self.away:
            self.away -= 1
            raise CommandError("the hub does not answer", ExitCode.NOT_REACHABLE)
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        seen = {"state": state, "active": "Primary", "health": "Normal"}
        return {**seen, "allows": ["Commit"], "reasons": ["90042"]}

    async def job(self, job_id: str) -> Mapping[str, Any]:
        """Return it as it was told."""
        done = {"state": "Succeeded", "failed": [], "doing": [], "codes": []}
        return self.jobs.get(job_id, done)

    async def connected(self, server: str) -> bool:
        """Tokyo alone is."""
        return server == "tokyo"


_FAILED = {"state": "Failed", "failed": ["A"], "doing": ["C"], "codes": ["1"]}


def outcomes(
    estate: PlayedEstate, steps: str, monkeypatch: pytest.MonkeyPatch
) -> list[StepOutcome]:
    """Run steps; time is counted by pauses, and none of them is waited for."""
    now = [0.0]

    async def pause(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(asyncio, "sleep", pause)
    scenario = read_scenario(f"scenario: s\nsteps:\n{steps}".encode(), {}, "f")
    return asyncio.run(ScenarioRun(estate, clock=lambda: now[0]).run(scenario))


def test_steps_inject_wait_and_expect(monkeypatch: pytest.MonkeyPatch) -> None:
    estate = PlayedEstate(states=["Busy", "Busy", "Done"], away=2)
    steps = """
- {name: go, inject: {kind: commit, target: {item: web01}}}
- {name: over, wait_for: {job: go}}
- {name: rests, wait_for: {item: web01, state: Done}, seconds: 10}
- {name: a while, wait: 30}
- {name: holds, expect: {item: web01, active: Primary, allows: [Commit], refuses: [Disable]}}
- {name: there, expect: {server: tokyo, connected: true}}
"""
    done = outcomes(estate, steps, monkeypatch)
    assert [(each.name, each.problem) for each in done if each.problem] == []
    assert [each.kind for each in estate.injected] == ["commit"]
    assert done[2].seconds == 2.0
    assert done[3].seconds == 30.0


def test_after_a_failure_only_what_is_always_done_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = """
- {name: never, wait_for: {item: web01, state: Gone}, seconds: 3}
- {name: later, inject: {kind: commit, target: {item: web01}}}
- {name: anyway, inject: {kind: site_outage, target: {fabric: t}}, always: true}
"""
    estate = PlayedEstate()
    first, later, anyway = outcomes(estate, steps, monkeypatch)
    assert first.problem is not None
    assert "not within 3 s: state is Protected, not Gone" in first.problem
    assert later.skipped
    assert (anyway.skipped, anyway.problem) == (False, None)
    assert [each.kind for each in estate.injected] == ["site_outage"]


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("{item: web01, active: Recovery}", "active is Primary, not Recovery"),
        ("{item: web01, health: Critical}", "health is Normal"),
        ("{item: web01, allows: [Failback]}", "Failback is not allowed"),
        ("{item: web01, refuses: [Commit]}", "Commit is allowed"),
        ("{item: gone}", "no item is named gone"),
        ("{server: osaka, connected: true}", "connected is False"),
        ("{job: go, state: Succeeded}", "is Failed, not Succeeded"),
        ("{job: go, state: Failed, task: B}", "the task B has not failed, but A"),
        ("{job: go, state: Failed, code: '2'}", "the error 2 is not there, but 1"),
        ("{job: go, doing: A}", "(Failed) is not at A, but C"),
        ("{item: web01, reasons: ['90042', '90041']}", "90041 is not there, but 90042"),
    ],
)
def test_an_expectation_that_does_not_hold_says_why(
    condition: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    estate = PlayedEstate(jobs={"job-1": _FAILED})
    steps = f"""
- {{name: go, inject: {{kind: commit, target: {{item: web01}}}}}}
- {{name: holds, expect: {condition}}}
"""
    *_, last = outcomes(estate, steps, monkeypatch)
    assert last.problem is not None
    assert says in last.problem


def test_waiting_for_an_end_that_will_not_come_ends_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = """
- {name: go, inject: {kind: commit, target: {item: web01}}}
- {name: over, wait_for: {job: go}, seconds: 300}
"""
    *_, outcome = outcomes(PlayedEstate(jobs={"job-1": _FAILED}), steps, monkeypatch)
    assert outcome.problem is not None
    assert "is Failed, not Succeeded" in outcome.problem
    assert outcome.seconds == 0.0


def test_waiting_for_what_does_not_exist_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = "- {name: w, wait_for: {item: gone, state: Protected}, seconds: 300}"
    (outcome,) = outcomes(PlayedEstate(), steps, monkeypatch)
    assert outcome.problem is not None
    assert "no item is named gone" in outcome.problem
    assert outcome.seconds == 0.0


@pytest.mark.parametrize(
    "does", ["process: {name: hub, does: kill}", "line: {site: all, does: cut}"]
)
def test_parts_of_a_laboratory_are_reached_there_alone(
    does: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = f"- {{name: k, {does}}}"
    (outcome,) = outcomes(PlayedEstate(), steps, monkeypatch)
    assert outcome.problem is not None
    assert "--laboratory" in outcome.problem


def test_the_report_has_a_case_for_each_step_and_carries_any_text() -> None:
    told = [
        StepOutcome("one", 1.5),
        StepOutcome("two <&>\x00", 0.5, "bad \x1b[31m ]]> text"),
        StepOutcome("three", 0.0, skipped=True),
    ]
    suite = ET.fromstring(report("s", told))  # noqa: S314 -- our own bytes
    assert suite.attrib | {"time": ""} == {
        "name": "s",
        "tests": "3",
        "failures": "1",
        "skipped": "1",
        "time": "",
    }
    cases = suite.findall("testcase")
    assert [case.attrib["name"] for case in cases] == ["one", "two <&>?", "three"]
    failure = cases[1].find("failure")
    assert failure is not None
    assert failure.attrib["message"] == "bad ?[31m ]]> text"
